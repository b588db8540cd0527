"""The moment before a launch: verl's driver has composed the config, and Ray has not started.

The parts of the plugin that have something to say then register it with :func:`at_launch`; one wrapper serves all.
"""

from collections.abc import Callable

from omegaconf import DictConfig, OmegaConf

from balanced_agg.plugin.refusal import Refusal
from balanced_agg.plugin.wrapping import Wrapper

_calls: list[Callable[[DictConfig], None]] = []


def at_launch(call: Callable[[DictConfig], None]) -> None:
    """Let verl's driver call ``call(config)`` before its own validation; what it raises ends the launch."""
    _calls.append(call)


def _before_validation(wrapped: Callable, instance: None, args: tuple, kwargs: dict) -> None:
    """verl validates its config here, in the driver, before Ray starts: let the active parts refuse before it does.

    In runs of our recipes, whose Ray environment is interpolated from other keys, these are resolved afterwards: verl
    hands the environment to Ray unresolved, where ``${run.dir}`` would arrive as that text.
    """
    config = kwargs["config"] if "config" in kwargs else args[0]
    try:
        for call in _calls:
            call(config)
    except Refusal as refusal:  # as users know it: a ValueError, without the frames of the checks
        raise ValueError(str(refusal)) from None
    wrapped(*args, **kwargs)
    if "run" in config:
        OmegaConf.resolve(config.ray_kwargs)


WRAPPER = Wrapper("verl.utils.config", "validate_config", ("config", ...), _before_validation)
