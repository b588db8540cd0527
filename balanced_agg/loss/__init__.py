"""The mathematics of loss aggregation, without verl: torch alone.

aggregation.py  the length divisor of each response under each aggregation, and the loss that it makes
names.py        the aggregations by the names that users and logged metrics have for them
diagnostics.py  what each aggregation would do to a batch: length and sign statistics
"""
