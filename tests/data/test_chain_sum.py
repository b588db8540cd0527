"""Claims about the generated sums."""

import re

import pyarrow.parquet as pq
import pytest
from balanced_agg.data.prepare import prepare
from balanced_agg.data.registry import CHOICES

from balanced_agg.rewards import compute_score

pytest.importorskip("reasoning_gym")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("chain_sum")
    return [prepare(dataset, out) for dataset in CHOICES["chain_sum"]]


def questions(done) -> list[str]:
    return [row["prompt"][0]["content"] for row in pq.read_table(done.path).to_pylist()]


def test_no_question_is_in_both_sets_or_twice_in_one(prepared):
    train, validation = map(questions, prepared)
    assert (len(train), len(validation)) == (152, 48)
    assert len(set(train) | set(validation)) == 200


def test_the_question_alone_is_the_prompt_and_its_value_the_answer(prepared):
    for done in prepared:
        assert done.manifest["dropped"] == {} and done.manifest["warnings"] == []
        for row in pq.read_table(done.path).to_pylist():
            assert row["data_source"] == "chain_sum"
            first, sign, second = re.fullmatch(r".*: (\d) ([+-]) (\d) =", row["prompt"][0]["content"]).groups()
            value = int(first) + int(f"{sign}{second}")
            assert row["reward_model"]["ground_truth"] == str(value)
            assert compute_score("chain_sum", f"{first} {sign} {second} = {value}", str(value))["score"] == 1


def test_generation_is_repeatable_and_not_repeated(prepared, tmp_path):
    for dataset, done in zip(CHOICES["chain_sum"], prepared, strict=True):
        assert prepare(dataset, tmp_path).manifest["sha256"] == done.manifest["sha256"]
        assert not prepare(dataset, done.path.parent).wrote
