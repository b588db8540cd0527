"""Evaluating a checkpoint or a model: a recipe's validation on its own, and a table of its results. See command.py."""
