"""Claims about the generated word problems."""

import pyarrow.parquet as pq
import pytest
from balanced_agg.data.prepare import prepare
from balanced_agg.data.registry import CHOICES

pytest.importorskip("reasoning_gym")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    out = tmp_path_factory.mktemp("gsm_symbolic")
    return [prepare(dataset, out) for dataset in CHOICES["gsm_symbolic"]]


def questions(done) -> list[str]:
    return [row["prompt"][0]["content"] for row in pq.read_table(done.path).to_pylist()]


def test_no_question_is_in_both_sets_or_twice_in_one(prepared):
    train, validation = map(questions, prepared)
    assert (len(train), len(validation)) == (2000, 64)
    assert len(set(train) | set(validation)) == 2064


def test_answers_are_numbers_to_be_boxed(prepared):
    for done in prepared:
        assert done.manifest["dropped"] == {} and done.manifest["warnings"] == []
        for row in pq.read_table(done.path).to_pylist():
            assert row["data_source"] == "gsm_symbolic"
            float(row["reward_model"]["ground_truth"])
            assert row["prompt"][0]["content"].endswith("within \\boxed{}.")


def test_generation_is_repeatable_and_not_repeated(prepared, tmp_path):
    for dataset, done in zip(CHOICES["gsm_symbolic"], prepared, strict=True):
        assert prepare(dataset, tmp_path).manifest["sha256"] == done.manifest["sha256"]
        assert not prepare(dataset, done.path.parent).wrote
