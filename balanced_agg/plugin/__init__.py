"""Everything that verl and vLLM load: an entry point of verl for each of the four folders, and one of vLLM for cpu/.

wrapping.py  how a wrapper is put in place as its module is first imported
token_ids.py the agent loop of our recipes, which configs/base.yaml names
loss/        the aggregation modes and their diagnostics
checks/      refusals before anything is launched
guard/       a run survives faults and kills, and ends where it cannot
cpu/         verl and vLLM on a machine without an accelerator
"""

import logging

# A child of verl's logger, whose level verl keeps in its driver whatever other libraries do to the root logger.
logger = logging.getLogger("verl.balanced_agg")
