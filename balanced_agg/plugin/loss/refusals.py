"""What the rules of this package cannot go with, and rules that are none."""

import torch
from omegaconf import DictConfig, OmegaConf

from balanced_agg.loss.responses import Rows
from balanced_agg.loss.rules import MODE_KEY, VERL_MODES, Rule, rule_of
from balanced_agg.plugin.refusal import Refusal

# Estimators of verl 0.9.1 that do not compare the responses of one group, or that give a response's tokens
# advantages of their own (optimal_token_baseline).
UNGROUPED_ESTIMATORS = (
    "gae",
    "reinforce_plus_plus",
    "remax",
    "optimal_token_baseline",
    "tir_optimal_token_baseline",
)
# Losses of verl 0.9.1 that ignore the aggregation mode they are given.
LOSSES_WITH_OWN_AGGREGATION = ("geo_mean", "sapo")


def check_aggregation(config: DictConfig) -> None:
    """Refuse what our rules cannot go with, and a rule that is none; verl's own modes pass."""
    actor = config.actor_rollout_ref.actor
    mode = actor.loss_agg_mode
    if mode in VERL_MODES:
        return
    try:
        rule = rule_of(mode)
        check_rule(rule)
    except ValueError as error:
        raise Refusal(MODE_KEY, f"={mode}: {error}", "see docs/rules.md for the rules that there are") from None

    def refuse(key: str, why: str, remedy: str) -> None:
        raise Refusal(key, f"={OmegaConf.select(config, key)} cannot go with {MODE_KEY}={mode}: {why}", remedy)

    if not config.trainer.use_v1:
        refuse("trainer.use_v1", "only verl's V1 trainers hand whole groups to the plugin", "set it to True")
    if rule.by_group and (config.actor_rollout_ref.rollout.n or 0) < 2:
        refuse(
            "actor_rollout_ref.rollout.n",
            "a group of one response has no two signs to balance",
            "set it to 2 or more",
        )
    if rule.by_group and config.algorithm.adv_estimator in UNGROUPED_ESTIMATORS:
        refuse(
            "algorithm.adv_estimator",
            "it does not give each response of a group one advantage",
            "set it to grpo, or another group estimator (rloo, opo, gpg, grpo_passk, reinforce_plus_plus_baseline)",
        )
    if actor.policy_loss.loss_mode in LOSSES_WITH_OWN_AGGREGATION:
        refuse(
            "actor_rollout_ref.actor.policy_loss.loss_mode",
            "this loss aggregates in a way of its own and ignores the mode",
            "set it to another loss, such as vanilla",
        )
    correction = config.algorithm.get("rollout_correction") or {}
    if correction.get("bypass_mode") and correction.get("rollout_rs"):
        refuse(
            "algorithm.rollout_correction.rollout_rs",
            "in bypass mode the actor rejects tokens after the group's lengths were counted",
            "set it to null, or algorithm.rollout_correction.bypass_mode to False",
        )
    if (config.get("distillation") or {}).get("enabled"):
        refuse("distillation.enabled", "a distillation loss has no groups", "set it to False")


def check_rule(rule: Rule) -> None:
    """Try a rule on batches of every kind, so that one that cannot work ends no run at its first step.

    Raises:
        ValueError: it fails, or does not give a finite positive number for each response.
    """
    kinds = {
        "responses of both signs": ([3, 5, 2, 7], [1, 1, -1, -1], "aabb"),
        "groups of one sign, and without advantages": ([3, 5, 2, 7], [1, 1, 0, 0], "aabb"),
        "groups of one and three responses": ([3, 5, 2, 7], [1, 1, -1, 0], "abbb"),
        "equal lengths": ([4, 4, 4, 4], [1, -1, 1, -1], "aabb"),
        "a response and a group without tokens": ([3, 0, 2, 0], [1, -1, 1, -1], "aaab"),
    }
    for kind, (lengths, advantages, groups) in kinds.items():
        try:
            rows = Rows.of_lengths(groups, None, torch.tensor(lengths), torch.tensor(advantages).double())
            rule.divisors(rows.responses(budget=8))
        except Exception as error:
            reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"tried on a batch with {kind}: {reason}") from error


def check_whole_groups(config: DictConfig) -> None:
    """Refuse to keep groups whole where verl would deal their rows anew."""
    if (config.get("balanced_agg") or {}).get("whole_groups") and config.actor_rollout_ref.actor.shuffle:
        raise Refusal(
            "actor_rollout_ref.actor.shuffle",
            "=True cannot go with balanced_agg.whole_groups=True: each rank would shuffle its rows by itself",
            "set it to False",
        )
