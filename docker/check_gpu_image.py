"""Refuse an image whose versions are not the extra `gpu`'s, whose flash-attn does not load, or whose verl does not load
the plugin. Run while the image is built; needs no GPU.
"""

import importlib
import sys

from balanced_agg.commands.doctor.check import OK
from balanced_agg.commands.doctor.versions import check_versions


def problems() -> list[str]:
    """What is wrong, a line each; empty for an image that can train."""
    lines = list(check_versions())
    try:
        import verl  # noqa: F401

        from balanced_agg.commands.doctor.verl_lines import check_plugin

        lines.append(check_plugin())
    except Exception as error:  # whatever a broken installation raises
        return [f"import verl: {error}"]
    found = [f"{line.check}: {line.detail}" for line in lines if line.status != OK]
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
