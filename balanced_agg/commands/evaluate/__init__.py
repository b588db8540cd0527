"""Evaluating a checkpoint or a model: a recipe's validation on its own, and a table of its results.

target.py          what is to be evaluated: its recipe, its weights, where results go
samples.py         verl's dump of the validation, by benchmark
statistics.py      mean@k, pass@k and their bootstrap intervals
table.py           the results as a terminal table, Markdown and JSON
command.py         the steps in order
"""
