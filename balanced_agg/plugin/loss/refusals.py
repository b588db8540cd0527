"""What has no Balanced Aggregation."""

from omegaconf import DictConfig, OmegaConf

from balanced_agg.loss.names import MODE_KEY, PLUGIN_MODES
from balanced_agg.plugin.refusal import Refusal

VERL_MODES = ("token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")

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
    """Refuse what has no Balanced Aggregation; verl's own modes pass."""
    actor = config.actor_rollout_ref.actor
    mode = actor.loss_agg_mode
    if mode not in PLUGIN_MODES + VERL_MODES:
        raise Refusal(MODE_KEY, f"={mode} is unknown", f"set it to one of {', '.join(PLUGIN_MODES + VERL_MODES)}")
    if mode not in PLUGIN_MODES:
        return

    def refuse(key: str, why: str, remedy: str) -> None:
        raise Refusal(key, f"={OmegaConf.select(config, key)} cannot go with {MODE_KEY}={mode}: {why}", remedy)

    if not config.trainer.use_v1:
        refuse("trainer.use_v1", "only verl's V1 trainers hand whole groups to the plugin", "set it to True")
    if (config.actor_rollout_ref.rollout.n or 0) < 2:
        refuse(
            "actor_rollout_ref.rollout.n",
            "a group of one response has no two signs to balance",
            "set it to 2 or more",
        )
    if config.algorithm.adv_estimator in UNGROUPED_ESTIMATORS:
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
