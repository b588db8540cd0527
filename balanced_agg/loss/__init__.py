"""The mathematics of loss aggregation, without verl: torch alone.

aggregation.py  the length divisor of each response under each rule, and the loss that it makes
rules.py        the rules by the names that users and logged metrics have for them
diagnostics.py  what each rule would do to a batch: length and sign statistics
"""
