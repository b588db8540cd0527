"""Refuse an image whose versions are not the extra `gpu`'s, whose flash-attn does not load, or whose verl does not load
the plugin. Run while the image is built; needs no GPU.
"""

import importlib
import os
import sys

from balanced_agg.commands.doctor.check import OK
from balanced_agg.commands.doctor.facts import Facts, ask
from balanced_agg.commands.doctor.verl_lines import check_verl
from balanced_agg.commands.doctor.versions import check_versions


def problems() -> list[str]:
    """What is wrong, a line each; empty for an image that can train."""
    facts = Facts(os.environ, verl=ask("verl", [], os.environ))
    plugin = [check for check in check_verl(facts) if check.check == "verl plugin"]  # its other lines ask for a GPU
    found = [f"{check.check}: {check.detail}" for check in (*check_versions("gpu"), *plugin) if check.status != OK]
    # flash-attn is compiled for one torch: beside another it does not load. vLLM's own pin holds it to its torch.
    for name in ("torch", "flash_attn"):
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            found.append(f"import {name}: {error}")
    if "torch" in sys.modules and sys.modules["torch"].version.cuda is None:
        found.append("torch: this build is without CUDA")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems()) or None)
