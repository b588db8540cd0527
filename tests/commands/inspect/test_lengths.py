"""A response's length comes from where the user says, or nothing is said."""

import pytest

from balanced_agg.arithmetic.tokenizer import build_tokenizer
from balanced_agg.commands.inspect.lengths import length_counter


@pytest.fixture
def tokenizer(tmp_path):
    build_tokenizer().save_pretrained(tmp_path)
    return str(tmp_path)


def test_without_a_source_of_lengths_the_error_names_all_choices():
    with pytest.raises(ValueError, match=r"--tokenizer .*--length-field .*--length-in characters\|words"):
        length_counter({"output", "score"})


def test_the_column_response_tokens_is_used_where_it_is_there():
    counter = length_counter({"output", "response_tokens"})
    assert (counter.column, counter.unit) == ("response_tokens", "tokens")
    assert counter.count([3, 4.0, 0]) == [3.0, 4.0, 0.0]


def test_what_is_no_length_is_none():
    counter = length_counter({"n"}, length_field="n")
    assert counter.count([None, float("nan"), -1, "7", float("inf")]) == [None] * 5
    assert length_counter({"output"}, length_in="words").count([None, "", "a b\nc"]) == [None, 0.0, 3.0]


def test_a_tokenizer_counts_the_end_of_sequence_that_the_dump_lost(tokenizer):
    counter = length_counter({"output"}, tokenizer=tokenizer)
    assert counter.count(["12+3", None, ""]) == [5.0, None, 1.0]
    assert counter.count([None]) == [None]


def test_a_response_cut_at_the_limit_has_no_end_of_sequence(tokenizer):
    counter = length_counter({"output"}, tokenizer=tokenizer, max_response_length=4)
    assert counter.count(["123", "1234", "12"]) == [4.0, 4.0, 3.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length_field": "n", "length_in": "words"}, "--length-field and --length-in exclude each other"),
        ({"length_field": "nope"}, "no column nope; they have n, output"),
        ({"length_in": "bytes"}, "--length-in bytes is unknown; choose characters or words"),
        ({"tokenizer": "/no/such/folder"}, "--tokenizer /no/such/folder cannot be loaded"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        length_counter({"n", "output"}, **options)
