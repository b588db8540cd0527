"""`balanced-agg doctor`: is this machine ready for verl, for the plugin, and for a recipe?

What needs verl, Ray or wandb is asked in processes of their own (probes/), all at once and with a deadline, so that a
crash or a hang there is one line here. The other modules turn the answers into lines.
"""
