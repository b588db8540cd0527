"""Commands that install more of this package, or its environment, from where it came from.

It is not on PyPI, where its name is free for anybody: no remedy names it without a place.
"""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

CHECKOUT = Path(__file__).parents[2]
# Of flash-attn, PyPI has the source alone; here is a wheel for Python 3.12, torch 2.11 and CUDA 13.0.
WHEELS_OF_VERL = "https://verl-project.github.io/verl-wheelhouse/simple/"


def setup_command(*options: str) -> str:
    """What builds a tested environment."""
    script = CHECKOUT / "scripts/setup.sh"
    if script.is_file():
        return shlex.join(["bash", str(script), *options])
    return f"{shlex.join(['bash', 'scripts/setup.sh', *options])} in a checkout of balanced_agg"


def install_command(extra: str) -> str:
    """What installs an extra into the environment in use, from the checkout, wheel or repository that this is from."""
    options = ["--extra-index-url", WHEELS_OF_VERL] if extra == "gpu" else []
    source = _source(extra)
    command = shlex.join(["pip", "install", *options, source or f".[{extra}]"])
    return command if source else f"{command} in a checkout of balanced_agg"


def _source(extra: str) -> str | None:
    if (CHECKOUT / "pyproject.toml").is_file():
        return f"{CHECKOUT}[{extra}]"
    try:
        origin = json.loads(distribution("balanced-agg").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        return None
    url, repository = origin.get("url", ""), origin.get("vcs_info")
    if repository:
        return f"balanced-agg[{extra}] @ {repository['vcs']}+{url}@{repository['commit_id']}"
    path = Path(url2pathname(urlsplit(url).path))
    return f"{path}[{extra}]" if url.startswith("file:") and path.exists() else None
