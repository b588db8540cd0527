"""Where the configs of runs that should differ in mode and seed alone differ in more."""

import re
from collections.abc import Sequence
from typing import Any

from balanced_agg.runs.run import Run

# What runs of one setting may differ in, by the last part of the key: mode, seeds, directories, loggers' variables.
EXPECTED = re.compile(
    r"loss_agg_mode|loss_scale_factor|(.*_)?seed|(.*_)?dir|resume_from_path|VERL_FILE_LOGGER_\w+|WANDB_\w+|TENSORBOARD_DIR"
)
# … and names, by the whole key: actor.optim.optimizer or rollout.name are no names in this sense.
NAMES = {"run.name", "run.group", "run.recipe", "trainer.experiment_name", "trainer.project_name"}
SHOWN = 120  # characters of a value
SECRET = re.compile(r"(key|token|secret|password|credentials?)$", re.IGNORECASE)


def differences(runs: Sequence[Run]) -> list[str]:
    """Write a sentence on each key whose value is not the same in all runs, saying which run has which value.

    Runs without a saved config are left out here. Values are compared as written. A value that one run gives as an
    interpolation (Hydra's own file) and another one resolved (wandb) is passed over: what it points to is compared.
    """
    configs = [(run.name, flat(run.config)) for run in runs if run.config]
    mixed = len({any(map(is_interpolation, config.values())) for _, config in configs}) > 1
    sentences = []
    for key in sorted({key for _, config in configs for key in config}):
        if key in NAMES or EXPECTED.fullmatch(key.rpartition(".")[2]):
            continue
        holders: dict[str, list[str]] = {}
        for name, config in configs:
            holders.setdefault(str(config.get(key, "not set")), []).append(name)
        if len(holders) == 1 or (mixed and any(map(is_interpolation, holders))):
            continue
        if SECRET.search(key):
            sentences.append(f"{key} differs (values not shown)")
        else:
            usual, *others = sorted(holders, key=lambda value: -len(holders[value]))
            apart = "; ".join(f"{shortened(value)} in {', '.join(holders[value])}" for value in others)
            sentences.append(f"{key} is {apart}; {shortened(usual)} in {counted(holders[usual])}")
    return sentences


def flat(config: dict[Any, Any], above: str = "") -> dict[str, Any]:
    """Dotted key -> value; a list is one value."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        values |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return values


def shortened(value: str) -> str:
    return value if len(value) <= SHOWN else f"{value[:SHOWN]}…"


def counted(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"the {len(names)} other runs"


def is_interpolation(value: Any) -> bool:
    return "${" in str(value)
