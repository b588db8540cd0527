"""A recipe composed as `balanced-agg train` and verl compose it, and what refuses it."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config
from verl.utils.device import auto_set_device

from balanced_agg.commands.doctor.check import FAIL, Check, DoesNotCompose, described
from balanced_agg.commands.recipes import compose_recipe
from balanced_agg.plugin.checks import CHECKS
from balanced_agg.plugin.launch import leave_out_grader_options
from balanced_agg.plugin.refusal import Refusal


@dataclass(frozen=True)
class Recipe:
    """Attributes:
    name: of the recipe; None where the doctor is asked about none.
    config: resolved, as verl's main sees it; empty where there is none, or where verl cannot make one.
    refusals: what a launch would be refused for, each fault once.
    """

    name: str | None = None
    config: DictConfig = field(default_factory=OmegaConf.create)
    refusals: Sequence[Check] = ()

    def get(self, key: str) -> Any:
        """The value at a dotted key; None if the config does not have it."""
        return OmegaConf.select(self.config, key)

    def refused_by(self, *checks: str) -> bool:
        """Whether one of these launch checks refuses the recipe: it says why, and no other line needs to."""
        return any(refusal.check == f"refused: {check}" for refusal in self.refusals for check in checks)


def examine(name: str, overrides: Sequence[str]) -> Recipe:
    """Compose a recipe and check it. DoesNotCompose if Hydra refuses it; any other error is its refusal."""
    try:
        config = compose_recipe(name, overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        leave_out_grader_options(config)
        OmegaConf.resolve(config)
        auto_set_device(config)
    except (HydraException, OmegaConfBaseException) as error:
        # Hydra appends its search path, or a link to its manual.
        what = str(error).partition("Config search path")[0].partition("See https://hydra.cc")[0]
        raise DoesNotCompose(f"{name} does not compose: {' '.join(what.split())}") from None
    except Exception as error:  # of verl, which looks for its platform
        remedy = f"see `balanced-agg train {name} --cfg job --resolve`"
        return Recipe(name, refusals=[Check("recipe", FAIL, f"{name}: {described(error)}", remedy)])
    return Recipe(name, config, refusals=list(refusals(config)))


def refusals(config: DictConfig) -> Iterator[Check]:
    """What the launch checks have against the config, each fault once; a launch stops at the first.

    Several checks may meet one fault: what counts is the first refusal of a key. Any other exception after a refusal
    comes of it, since a check relies on those before it. As at a launch, verl's own validation has the last word.
    """
    keys = set()
    for check in CHECKS:
        name = check.__name__.removeprefix("check_")
        try:
            check(config)
        except Refusal as refusal:
            if refusal.key not in keys:
                yield Check(f"refused: {name}", FAIL, f"{refusal.key}{refusal.what}", refusal.remedy)
            keys.add(refusal.key)
        except Exception as error:
            if not keys:
                yield Check(f"refused: {name}", FAIL, described(error))
            keys.add(name)
    if not keys:
        validate = inspect.unwrap(validate_config)
        try:
            validate(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
        except Exception as error:
            yield Check("refused: verl's validation", FAIL, described(error))
