"""``python -m balanced_agg``: the command `balanced-agg` in the environment of this interpreter."""

from balanced_agg.commands.cli import main

main()
