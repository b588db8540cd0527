"""A character-level tokenizer for the embedded tasks, as a transformers fast tokenizer."""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from balanced_agg.arithmetic.tasks import ARITHMETIC, Problem, Task

PAD, UNKNOWN, USER, ASSISTANT, END = "<|pad|>", "<|unknown|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = (PAD, UNKNOWN, USER, ASSISTANT, END)

# One special token opens a turn and one closes it, so that a prompt is three tokens longer than its
# text: <|user|>3+5-2+7=<|end|><|assistant|>. END is also the end-of-sequence token. A system message becomes a user
# turn, so that any prompt can be put to the model.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant'] -%}"
    "{{- raise_exception('role must be system, user or assistant, got ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'].replace('system', 'user') + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)


def vocabulary(task: Task) -> tuple[str, ...]:
    """The tokens of a task, by their ids."""
    return SPECIAL_TOKENS + tuple(task.alphabet)


def build_tokenizer(task: Task = ARITHMETIC) -> PreTrainedTokenizerFast:
    """The tokenizer of a task, with `len(vocabulary(task))` tokens.

    Text over its alphabet is encoded as one token per character and decoded to exactly itself. Any other
    character becomes UNKNOWN, and is thus lost. No token is added around the text: turns and the
    generation prompt come from the chat template alone.
    """
    backend = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(vocabulary(task))}, unk_token=UNKNOWN)
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()  # without it, tokens are joined by spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=8192,
    )


def encode_prompt(tokenizer: PreTrainedTokenizerFast, problem: Problem) -> list[int]:
    """Token ids of the problem as a user turn, followed by the generation prompt."""
    text = tokenizer.apply_chat_template(problem.messages, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(text)
