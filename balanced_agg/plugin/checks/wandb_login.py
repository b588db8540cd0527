"""Whether there is a key for wandb. The key itself is not read, and wandb's server is not asked."""

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

# `wandb login` writes to netrc under the name of the server, or for wandb's own under this older name.
WANDB_HOST = "api.wandb.ai"


def logged_in() -> bool:
    import wandb

    server = os.environ.get("WANDB_BASE_URL")
    hosts = [urlsplit(server).netloc] if server else [urlsplit(wandb.Settings().base_url).netloc, WANDB_HOST]
    in_environment = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
    return in_environment or any(map(known_to_netrc, hosts))


def known_to_netrc(host: str) -> bool:
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return host in netrc.netrc(file).hosts
    except FileNotFoundError:
        return False
    except netrc.NetrcParseError:  # its message may quote the line
        raise ValueError(f"{file} cannot be read as a netrc file") from None
