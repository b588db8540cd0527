"""A tiny task on which the full RL stack runs on a laptop CPU: chain arithmetic.

`problems` generates and grades; `demonstrations` writes noisy solutions in two regimes of response
length; `tokenizer` and `model` define a small Qwen3; `warm_start` trains it on the demonstrations, so
that RL begins at a policy that is right about half of the time.
"""
