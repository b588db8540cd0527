"""Everything that verl and vLLM load. verl has two entry points: loss/, which also activates checks/ and guard/; cpu/.

wrapping.py  how a wrapper is put in place as its module is first imported
loss/        the aggregation modes and their diagnostics
checks/      refusals before anything is launched
guard/       a run survives faults and kills, and ends where it cannot
cpu/         verl and vLLM on a machine without an accelerator
"""
