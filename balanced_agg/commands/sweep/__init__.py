"""One recipe under several aggregations and seeds, run after run, and the comparison of the runs.

plan.py     the runs of a sweep, and the state of each
execute.py  one run: a local process or a Ray job, its log, its exit
command.py  the steps in order
"""
