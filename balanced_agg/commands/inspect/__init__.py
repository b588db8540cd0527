"""What each aggregation rule would do to rollouts that are already on disk: `balanced-agg inspect`.

read.py        files as a stream of rows; no text outlives its batch
lengths.py     how many tokens a response has
advantages.py  GRPO advantages from scores, as verl computes them
steps.py       the rows of a step as numbers, and its measures (balanced_agg/loss/diagnostics.py)
answer.py      means over the steps, and what they say about Balanced Aggregation, in sentences
table.py       all of it as tables and as JSON
picture.py     all of it as a picture
command.py     the steps in order

A dump does not hold all that the trainer knew. Rejection and overlong masking, tool output inside a response and a KL
term in the reward are not in it; where a run uses them, the measures logged in training are the right ones.
"""
