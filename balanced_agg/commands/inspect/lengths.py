"""How long a response is, in tokens: from a column, from a tokenizer, or roughly from its text."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from balanced_agg.runs.file_log import is_number, printable

DEFAULT_COLUMN = "response_tokens"
TEXT_COLUMN = "output"
LONGEST = 2**53  # up to which floats hold every whole number
Measure = Callable[[Sequence[str]], Sequence[int]]
TEXT_MEASURES: dict[str, Measure] = {
    "characters": lambda texts: [len(text) for text in texts],
    "words": lambda texts: [len(text.split()) for text in texts],
}


@dataclass(frozen=True)
class LengthCounter:
    """Attributes:
    column: what it counts.
    unit: tokens, characters or words.
    source: where the lengths come from, for the reader of a table.
    count: values of the column -> length of each; None for a value that has none.
    """

    column: str
    unit: str
    source: str
    count: Callable[[Sequence[Any]], list[float | None]]


def length_counter(
    columns: Collection[str],
    tokenizer: str | None = None,
    length_field: str | None = None,
    length_in: str | None = None,
    max_response_length: int | None = None,
) -> LengthCounter:
    """Make the counter that the options ask for; without any, the column ``response_tokens``.

    A tokenizer counts the text's tokens and one more, the end of sequence, which verl's dump decodes away; together at
    most `max_response_length`, since a response that was cut there has no end of sequence. Without that limit a cut
    response counts one token too many. Text that was sampled in other pieces than the tokenizer's own counts as few as
    the tokenizer makes of it.

    Raises:
        ValueError: more than one option, a column that is not there, an unknown measure, a tokenizer that cannot be
            loaded, or nothing to tell lengths by.
    """
    options = {"--length-field": length_field, "--tokenizer": tokenizer, "--length-in": length_in}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude each other; give one of them")
    if length_in is not None and length_in not in TEXT_MEASURES:
        raise ValueError(f"--length-in {length_in} is unknown; choose {' or '.join(TEXT_MEASURES)}")
    if not given and DEFAULT_COLUMN not in columns:
        raise ValueError(
            f"the rollouts have no column {DEFAULT_COLUMN}, so nothing says how many tokens a response has; give "
            "--tokenizer PATH-OR-HUB-ID (the model's), --length-field COLUMN, or, for a rough answer, "
            f"--length-in {'|'.join(TEXT_MEASURES)}"
        )
    column = TEXT_COLUMN if tokenizer or length_in else length_field or DEFAULT_COLUMN
    if column not in columns:
        raise ValueError(f"the rollouts have no column {column}; they have {', '.join(sorted(columns))}")
    if tokenizer:
        count = partial(_of_texts, _token_measure(tokenizer, max_response_length))
        return LengthCounter(column, "tokens", f"tokenizer {tokenizer}", count)
    if length_in:
        count = partial(_of_texts, TEXT_MEASURES[length_in])
        return LengthCounter(column, length_in, f"{length_in} of the text, not tokens", count)
    return LengthCounter(column, "tokens", f"column {column}", _of_numbers)


def _of_numbers(values: Sequence[Any]) -> list[float | None]:
    return [float(value) if is_number(value) and 0 <= value < LONGEST else None for value in values]


def _of_texts(measure: Measure, texts: Sequence[Any]) -> list[float | None]:
    known = [text for text in texts if isinstance(text, str)]
    lengths = iter(measure(known) if known else [])
    return [float(next(lengths)) if isinstance(text, str) else None for text in texts]


def _token_measure(name: str, max_response_length: int | None) -> Measure:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # of the hub, transformers or tokenizers, which has no class of its own for a torn file
        raise ValueError(f"--tokenizer {name} cannot be loaded: {error}") from None

    def count(texts: Sequence[str]) -> list[int]:
        tokens = tokenizer(list(map(printable, texts)), add_special_tokens=False, verbose=False)["input_ids"]
        return [min(len(ids) + 1, max_response_length or len(ids) + 1) for ids in tokens]

    return count
