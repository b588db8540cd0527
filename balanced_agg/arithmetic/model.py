"""The architecture of the embedded tasks' model: Qwen3 at about one million parameters."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from balanced_agg.arithmetic.tasks import ARITHMETIC, Task
from balanced_agg.arithmetic.tokenizer import END, PAD, vocabulary


def build_model(seed: int, task: Task = ARITHMETIC) -> Qwen3ForCausalLM:
    """A freshly initialised float32 model whose vocabulary is exactly the tokenizer's.

    The same seed gives the same weights, and the caller's random state is left as it was.

    The head size of 32 is the smallest that vLLM's CPU attention supports. The embeddings are not
    tied: with so few tokens tying saves nothing, and untied weights need no special case when they
    are sharded, exported, or sent to the rollout engine.
    """
    tokens = vocabulary(task)
    config = Qwen3Config(
        vocab_size=len(tokens),
        hidden_size=128,
        intermediate_size=640,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=8192,  # far more than the task needs; a benchmark's prompts fit
        initializer_range=0.06,  # the usual 0.02 is meant for wide models and starts slowly at this width
        tie_word_embeddings=False,
        use_cache=True,
        pad_token_id=tokens.index(PAD),
        eos_token_id=tokens.index(END),
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).float()
