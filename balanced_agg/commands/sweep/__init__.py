"""One recipe under several aggregations and seeds, run after run, and the comparison of the runs.

plan.py     which runs a sweep consists of, and how far each has come
execute.py  one run: a local process or a Ray job, its log, its exit
command.py  the steps in order
"""
