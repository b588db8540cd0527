"""Reading finished runs and comparing their aggregation modes: tables, pictures, a report.

file_log.py         a log of verl's file logger, and the rule for steps that a resumed run repeats
tensorboard_log.py  the same from TensorBoard's event files
wandb_log.py        the same from wandb: offline folders, entity/project paths
naming.py           a run's setting, mode and seed, from its config or its name
runs.py             one run, from whatever the user named
differences.py      where the configs of runs that should agree do not
groups.py           runs by setting and mode: which of them count, and what a reader must know
quantities.py       what is tabled and drawn besides validation
seeds.py            means and intervals over seeds
summary.py          the numbers, as data
table.py            the numbers, as terminal tables
curves.py           what a picture draws: a group's mean and range at each step
pictures.py         the pictures
report.py           all of it as one HTML file
command.py          the steps in order; `balanced-agg compare` calls it
"""
