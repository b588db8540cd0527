"""Reading finished runs and comparing their aggregations: tables, pictures, a report.

differences.py      where the configs of runs that should agree do not
groups.py           runs by setting and mode: which of them count, and what a reader must know
quantities.py       what is tabled and drawn besides validation
summary.py          the numbers, as data
table.py            the numbers, as tables
pictures.py         the pictures
report.py           all of it as one HTML file
command.py          the steps in order; `balanced-agg compare` calls it
"""
