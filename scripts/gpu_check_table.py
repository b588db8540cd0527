"""The table of scripts/gpu_check.sh, of what its parts have left: gpu_check_table.py FOLDER ATTENTION [FAILED]…"""

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from balanced_agg.commands.terminal import print_table

PACKAGES = ("torch", "verl", "vllm", "transformers", "flash-attn", "balanced-agg")
METRICS = (
    "perf/",
    "timing_s/",
    "actor/grad_norm",
    "actor/loss",
    "aggregation/",
    "response_length/mean",
    "training/rollout",
)


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def lines_of(file: Path) -> list[str]:
    return file.read_text().split("\n") if file.exists() else []


def main(folder: Path, attention: str, failed: list[str]) -> None:
    rows = [("card", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")]
    rows += [(name, installed(name)) for name in PACKAGES]
    rows += [("attention of the actor", attention)]
    rows += [("loss and divisors", line) for line in lines_of(folder / "loss.log") if " passed" in line]
    cases = [json.loads(line) for line in lines_of(folder / "engine.log") if line.startswith("{")]
    for precision in sorted({case["precision"] for case in cases}):
        errors = [case["error"] for case in cases if case["precision"] == precision]
        rows.append((f"engine's gradient, {precision}", f"{max(errors):.1e} at most, {len(errors)} cases"))
    for step in [json.loads(line) for line in lines_of(folder / "metrics.jsonl") if line][-1:]:
        for name, value in step["data"].items():
            if name.startswith(METRICS):
                rows.append((f"step {step['step']} {name}", f"{value:.4g}"))
    rows += [(name, "FAILED") for name in failed]
    print_table(("what", "found"), rows, text_columns=2)
    print("\n".join(lines_of(folder / "time.log")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
