"""`balanced-agg doctor`: is this machine ready for verl, for the plugin, and for a recipe?

command.py starts __main__.py as a process of its own, in the environment that a run would have, and prints its lines: a
crash or a hang there is one line more.
"""
