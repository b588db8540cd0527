"""The moment before a launch: verl's driver has composed the config, and Ray has not started.

The parts of the plugin that have something to say then register it with :func:`at_launch`; one wrapper serves all.
"""

import shlex
import sys
from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf, open_dict

from balanced_agg.plugin.refusal import Refusal
from balanced_agg.plugin.wrapping import Wrapper

OUR_REWARDS = "pkg://balanced_agg.rewards"

_calls: list[Callable[[DictConfig], None]] = []


def at_launch(call: Callable[[DictConfig], None]) -> None:
    """Let verl's driver call ``call(config)`` before its own validation; what it raises ends the launch."""
    _calls.append(call)


def leave_out_grader_options(config: DictConfig) -> None:
    """Take the options of our graders out of a config that names another reward function, which does not know them.

    configs/base.yaml gives them as interpolations of ``reward.graders``, by which they are told from the user's own of
    the same name: hence before the config is resolved. A config without such options stays as it is.
    """
    function = OmegaConf.select(config, "reward.custom_reward_function") or {}
    options = function.get("reward_kwargs")
    if isinstance(options, DictConfig) and function.path != OUR_REWARDS:
        written = OmegaConf.to_container(options, resolve=False)
        with open_dict(function):
            function.reward_kwargs = {
                name: value for name, value in written.items() if not str(value).startswith("${reward.graders.")
            }


def name_tests_folders(config: DictConfig) -> None:
    """Tell our reward function, which sees single rows, in which folders the data files are: tests lie beside them."""
    function = OmegaConf.select(config, "reward.custom_reward_function") or {}
    if function.get("path") == OUR_REWARDS:
        from balanced_agg.plugin.checks.data import folders_of_tests

        with open_dict(function):
            if function.get("reward_kwargs") is None:
                function.reward_kwargs = {}
            function.reward_kwargs.tests_folders = folders_of_tests(config)


def quoted_interpreter() -> str | None:
    """This interpreter in a command line of bash's, into which Ray puts it as it is; None if it needs no quotes."""
    quoted = shlex.quote(sys.executable)
    return quoted if quoted != sys.executable else None


def name_interpreter(config: DictConfig) -> None:
    """Name the interpreter of Ray's processes where Ray's own choice, this one without quotes, would not start."""
    runtime_env = config.ray_kwargs.ray_init.runtime_env
    if runtime_env.get("py_executable") is None and (quoted := quoted_interpreter()):
        with open_dict(runtime_env):
            runtime_env.py_executable = quoted


def _before_validation(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> None:
    """verl validates its config here, in the driver, before Ray starts: let the active parts refuse before it does.

    In runs of our recipes, whose Ray environment is interpolated from other keys, these are resolved afterwards: verl
    hands the environment to Ray unresolved, where ``${run.dir}`` would arrive as that text.
    """
    config = kwargs["config"] if "config" in kwargs else args[0]
    if "run" in config:
        leave_out_grader_options(config)
    try:
        for call in _calls:
            call(config)
    except Refusal as refusal:  # as users know it: a ValueError, without the frames of the checks
        raise ValueError(str(refusal)) from None
    name_tests_folders(config)
    wrapped(*args, **kwargs)
    if "run" in config:
        OmegaConf.resolve(config.ray_kwargs)
        name_interpreter(config)


WRAPPER = Wrapper("verl.utils.config", "validate_config", ("config", ...), _before_validation)
