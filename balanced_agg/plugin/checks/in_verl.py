"""The launch checks: entry point ``balanced_agg_checks`` of ``verl.plugins``, active under ``BALANCED_AGG_CHECKS=1``.

They wrap the function that the loss wraps too, verl's ``validate_config`` (plugin/launch.py), and the one that reads
the data files which they have checked.
"""

import glob
import os
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from balanced_agg.plugin.launch import WRAPPER, at_launch
from balanced_agg.plugin.refusal import Refusal
from balanced_agg.plugin.wrapping import Wrapper, put_in_place, switched_on

SWITCH = "BALANCED_AGG_CHECKS"


def read_named_files(wrapped: Callable, dataset: Any, args: tuple, kwargs: dict) -> None:
    """verl has `datasets` read its data files here, to which a path is a pattern: let `a[1].parquet` be that file."""
    named = dataset.data_files
    # Where a link is, `datasets` looks for no pattern.
    dataset.data_files = [glob.escape(os.path.realpath(file)) for file in named]
    try:
        wrapped(*args, **kwargs)
    finally:
        dataset.data_files = named


def check_nodes_that_grade(wrapped: Callable, manager: Any, args: tuple, kwargs: dict) -> None:
    """verl starts the reward workers here, on any of the cluster's nodes: check first that each of these can grade."""
    from balanced_agg.plugin.checks.programs import check_nodes

    try:
        check_nodes(manager.config)
    except Refusal as refusal:
        raise ValueError(str(refusal)) from None
    wrapped(*args, **kwargs)


REWARD_LOOP = "verl.experimental.reward_loop.reward_loop"

WRAPPERS = (
    WRAPPER,
    Wrapper("verl.utils.dataset.rl_dataset", "RLHFDataset._read_files_and_tokenize", ("self",), read_named_files),
    Wrapper(REWARD_LOOP, "RewardLoopManager._init_reward_loop_workers", ("self",), check_nodes_that_grade),
)


def _check(config: DictConfig) -> None:
    # Imported late: the checks read data and models, and every process of a run loads this module.
    from balanced_agg.plugin.checks import check_launch

    check_launch(config)


if switched_on(SWITCH):
    put_in_place(WRAPPERS, asked_for=f"{SWITCH}=1")
    at_launch(_check)
