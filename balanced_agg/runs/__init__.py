"""What a run leaves behind, read once.

file_log.py         a log of verl's file logger, and the rule for steps that a resumed run repeats
tensorboard_log.py  the same from TensorBoard's event files
wandb_log.py        the same from wandb: offline folders, entity/project paths
verl_keys.py        verl's keys of the rows of a rollout
naming.py           a run's setting, mode and seed, from its config or its name
run.py              one run, from whatever the user named
"""
