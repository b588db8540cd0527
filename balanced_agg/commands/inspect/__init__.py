"""What each aggregation would do to rollouts that are already on disk: `balanced-agg inspect`. See command.py."""
