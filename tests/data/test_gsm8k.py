"""Claims about GSM8K: verl's prompt, a number as ground truth, and training apart from test."""

import json

import pyarrow.parquet as pq
import pytest
from balanced_agg.data import gsm8k
from balanced_agg.data.dataset import BOX
from balanced_agg.data.prepare import INSTRUCTED, prepare
from verl.utils.reward_score.gsm8k import compute_score as verls_score

from balanced_agg.rewards import compute_score
from tests.real_data import real_file

SOLUTION = "12 * 100 = <<12*100=1200>>1200 eggs.\n#### 1,200"
QUESTION = "How many eggs are 100 dozen?"
VERLS = {
    "data_source": "openai/gsm8k",
    "prompt": [{"role": "user", "content": f"{QUESTION} {gsm8k.INSTRUCTION}"}],
    "reward_model": {"style": "rule", "ground_truth": "1200"},
    "extra_info": {"index": 7},
}


def prepared(folder, *rows) -> tuple[list[dict], dict]:
    source = folder / "gsm8k_test.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = prepare(gsm8k.TEST, folder, source)
    return pq.read_table(done.path).to_pylist(), done.manifest


BOXED = VERLS | {"prompt": [{"role": "user", "content": f"{QUESTION} {BOX}"}]}


@pytest.mark.parametrize(
    "row",
    [{"question": QUESTION, "answer": SOLUTION}, VERLS, BOXED],
    ids=["source", "verl's schema", "with another instruction"],
)
def test_a_problem_is_what_verl_makes_of_it(tmp_path, row):
    (written,), manifest = prepared(tmp_path, row)
    assert written["prompt"] == VERLS["prompt"]
    assert written["reward_model"]["ground_truth"] == "1200"
    assert not any(INSTRUCTED in warning for warning in manifest["warnings"])


def test_what_both_graders_call_right_is_the_same_number(tmp_path):
    (row,), _ = prepared(tmp_path, {"question": QUESTION, "answer": SOLUTION})
    for response, right in ((SOLUTION, 1), ("#### 1200", 1), ("#### 1201", 0)):
        gold = row["reward_model"]["ground_truth"]
        assert compute_score(row["data_source"], response, gold)["score"] == verls_score(response, gold) == right


def test_a_row_without_a_number_is_dropped_and_told(tmp_path):
    answers = (SOLUTION, "none", "#### many", "####")
    rows, manifest = prepared(tmp_path, *({"question": f"{n}?", "answer": answer} for n, answer in enumerate(answers)))
    assert len(rows) == 1
    assert manifest["dropped"] == {"no number behind ####": {"rows": 3, "examples": ["row 1", "row 2", "row 3"]}}


def test_a_folder_with_the_test_file_alone_gives_no_training_set(tmp_path):
    prepared(tmp_path, {"question": QUESTION, "answer": SOLUTION})
    with pytest.raises(ValueError, match="gsm8k_train"):
        prepare(gsm8k.TRAIN, tmp_path / "out", tmp_path, only_one=False)


def test_every_row_of_the_real_test_set_is_used(tmp_path):
    done = prepare(gsm8k.TEST, tmp_path, real_file("gsm8k_test.jsonl"))
    assert done.manifest["rows"] == 1319
    assert done.manifest["dropped"] == {} and done.manifest["warnings"] == []
