"""The aggregation rules that are compared here, by the names that users and logged metrics have for them."""

# Name of the rule (a file of configs/aggregation, RULE in the metrics aggregation/RULE/…) -> verl's loss_agg_mode.
RULES = {
    "balanced": "balanced",
    "token": "group-token-mean",
    "batch_token": "token-mean",
    "sequence": "seq-mean-token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
}
MODE_KEY = "actor_rollout_ref.actor.loss_agg_mode"
RULE_OF = {mode: rule for rule, mode in RULES.items()}
# What the plugin adds to verl's own modes.
PLUGIN_MODES = ("balanced", "group-token-mean")
