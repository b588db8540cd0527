"""Balanced Aggregation (arXiv 2605.04077) for GRPO in verl. Start reading at ``balanced_agg/loss/aggregation.py``."""

__version__ = "0.1.0"
