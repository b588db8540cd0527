"""A run's setting, mode and seed: what it is grouped by.

The setting is everything that runs to be compared have in common (in this project: the recipe), the mode is verl's
``actor_rollout_ref.actor.loss_agg_mode``.
"""

import re
from typing import Any

from balanced_agg.loss.rules import MODE_KEY, RULE_OF

_SEED = re.compile(r"(?P<stem>.+)-seed(?P<seed>\d+)")
# Lazy, so that the mode is the longest that fits: seq-mean-token-mean ends in token-mean.
_MODE = re.compile(rf"(?:(?P<setting>.+?)-)??(?P<mode>{'|'.join(RULE_OF)})")


def identify(name: str, config: Any = None) -> tuple[str, str, int]:
    """Setting, mode and seed of a run, from its config where that has them, else from its name.

    config: ``run.recipe``, ``actor_rollout_ref.actor.loss_agg_mode`` and ``run.seed`` (else ``data.seed``). Only these
    are resolved, so interpolations elsewhere may point to what does not exist here. The name in a config is
    ``trainer.experiment_name``.

    name: ``SETTING-MODE-seed<k>``. Where no known mode stands before ``-seed<k>``, all of it is taken for the mode, so
    that runs of own names stand side by side, in the setting "".

    Args:
        name: the run's, used where the config has no ``trainer.experiment_name``.
        config: an OmegaConf config, or None.

    Raises:
        ValueError: neither tells mode and seed.
    """
    name = str(select(config, "trainer.experiment_name") or name)
    named = _SEED.fullmatch(name)
    stem = named["stem"] if named else name
    in_stem = _MODE.fullmatch(stem)

    mode = select(config, MODE_KEY)
    seeds = (select(config, "run.seed"), select(config, "data.seed"), named and named["seed"])
    seed = next((seed for seed in seeds if seed is not None), None)
    if seed is None or (mode is None and named is None):
        raise ValueError(
            f"{name}: cannot tell its {'seed' if seed is None else 'mode'}; rename it to SETTING-MODE-seed<k>, such as "
            f"{stem}{'' if in_stem else '-balanced'}-seed1, or keep the run's .hydra/config.yaml beside its log"
        )
    if mode is None:
        mode, setting = (in_stem["mode"], in_stem["setting"] or "") if in_stem else (stem, "")
    else:
        setting = (in_stem["setting"] or "") if in_stem else stem
    return str(select(config, "run.recipe") or setting), str(mode), int(seed)


def select(config: Any, key: str) -> Any:
    """The value at a dotted key with its own interpolations resolved; None if it is missing or cannot be resolved."""
    from omegaconf import OmegaConf

    return None if config is None else OmegaConf.select(config, key, throw_on_resolution_failure=False)
