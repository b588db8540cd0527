"""The aggregations that are compared here, by the names that users and logged metrics have for them."""

# Name (a file of configs/aggregation, NAME in the metrics aggregation/NAME/…) -> verl's loss_agg_mode.
AGGREGATIONS = {
    "balanced": "balanced",
    "token": "group-token-mean",
    "batch_token": "token-mean",
    "sequence": "seq-mean-token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
}
MODE_KEY = "actor_rollout_ref.actor.loss_agg_mode"
AGGREGATION_OF = {mode: aggregation for aggregation, mode in AGGREGATIONS.items()}
# What the plugin adds to verl's own modes.
PLUGIN_MODES = ("balanced", "group-token-mean")
