"""A study: the runs of a plan, a record of them small enough to commit, and its report. See command.py."""
