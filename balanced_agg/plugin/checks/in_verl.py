"""The launch checks: entry point ``balanced_agg_checks`` of ``verl.plugins``, active under ``BALANCED_AGG_CHECKS=1``.

They wrap the one function that the loss wraps too, verl's ``validate_config`` (plugin/launch.py).
"""

from omegaconf import DictConfig

from balanced_agg.plugin.launch import WRAPPER, at_launch
from balanced_agg.plugin.wrapping import put_in_place, switched_on

SWITCH = "BALANCED_AGG_CHECKS"
WRAPPERS = (WRAPPER,)


def _check(config: DictConfig) -> None:
    # Imported late: the checks read data and models, and every process of a run loads this module.
    from balanced_agg.plugin.checks import check_launch

    check_launch(config)


if switched_on(SWITCH):
    put_in_place(WRAPPERS, asked_for=f"{SWITCH}=1")
    at_launch(_check)
