"""One recipe under several aggregation rules and seeds, run after run, and the comparison of what came of it.

plan.py      which runs a sweep consists of, and how far each has come
execute.py   one run: a local process or a Ray job, its log, its exit
__main__.py  the steps in order; scripts/sweep.sh calls it
"""
