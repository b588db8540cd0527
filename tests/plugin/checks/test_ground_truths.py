"""What no grader takes, and files that verl cannot join, are refused with file and row; all else passes."""

import time
from itertools import combinations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from balanced_agg.plugin.checks import ground_truths
from balanced_agg.plugin.checks.data import check_column_types
from balanced_agg.plugin.checks.ground_truths import check_ground_truths
from balanced_agg.plugin.checks.rewards import check_graders
from balanced_agg.rewards import KNOWN_SOURCES, compute_score
from tests.composed import compose_recipe

PROMPT = [{"role": "user", "content": "1+1="}]
CODE = '{"inputs": ["1"], "outputs": ["1"], "fn_name": null}'
# One that the grader of each data source takes.
GOOD = dict.fromkeys(KNOWN_SOURCES, "2") | {"livecodebench": CODE, "search": "3256=6"}


def written(file, truths, source="polaris", type_=None, **options):
    rewards = pa.StructArray.from_arrays([pa.array(truths, type_)], ["ground_truth"])
    columns = {"prompt": [PROMPT] * len(truths), "data_source": [source] * len(truths), "reward_model": rewards}
    pq.write_table(pa.table(columns), file, **options)
    return file


def only(*files):
    """A config with these training files, the first of which is the validation file as well."""
    training = f"data.train_files=[{','.join(map(str, files))}]"
    return compose_recipe("arithmetic", training, f"data.val_files={files[0]}")


@pytest.mark.parametrize("source", KNOWN_SOURCES)
def test_a_ground_truth_that_the_grader_takes_passes(source, tmp_path):
    check_ground_truths(only(written(tmp_path / "a.parquet", [GOOD[source]] * 3, source)))


TAKEN = {
    "lists": (["1", "2"], ["3"]),
    "the text of a list": ('["1", "2"]',),
    "intervals": ("[1, 2]",),
    "whole numbers": (3, -4),
    "numbers": (0.5, 1e30),
}


@pytest.mark.parametrize("truths", TAKEN.values(), ids=TAKEN.keys())
def test_what_maths_takes_besides_text_passes(truths, tmp_path):
    check_ground_truths(only(written(tmp_path / "a.parquet", truths)))


# (data source, ground truths before the wrong one, the wrong one, what is said)
WRONG = {
    "null": ("polaris", ["1"], None, "is null"),
    "null for programs": ("livecodebench", [CODE], None, "is null"),
    "null for digits": ("arithmetic", ["1"], None, "is null"),
    "empty": ("math_500", ["1"], "", "is ''"),
    "blank": ("math_dapo", ["1"], " \n", "is ' "),
    "no answer of several": ("minerva", [["1"]], [], r"is \[\]"),
    "an empty one of several": ("minerva", [["1"]], ["1", ""], r"is \['1', ''\]"),
    "null among several": ("minerva", [["1"]], ["1", None], r"is \['1', None\]"),
    "numbers in a list": ("polaris", [], [1, 2], r"is \[1, 2\]"),
    "a truth value": ("polaris", [], True, "is True"),
    "no number": ("gsm8k", ["#### 3"], "three", "is 'three'"),
    "not a number": ("polaris", [1.0], float("nan"), "is nan"),
    "infinite": ("gsm8k", [1.0], float("inf"), "is inf"),
    "bytes": ("polaris", [], b"1", "is b'1'"),
    "a struct": ("polaris", [], {"answer": "1"}, "is {'answer': '1'}"),
    "a number for a digit": ("arithmetic", [], 2, "is 2, which"),
    "two digits": ("arithmetic", ["2"], "12", "is '12'"),
    "a word for a digit": ("arithmetic", ["2"], "two", "is 'two'"),
    "a number for a problem": ("search", [], 3256, "is 3256: not a problem"),
    "a target out of reach": ("search", ["3256=6"], "3256=9", "no signs reach the target"),
    "an answer for tests": ("livecodebench", [CODE], "42", "is '42'"),
    "torn tests": ("livecodebench", [CODE], CODE[:-5], "ground_truth must be JSON"),
    "no tests": ("livecodebench", [CODE], '{"inputs": [], "outputs": []}', "no tests"),
}


@pytest.mark.parametrize(("source", "before", "wrong", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_ground_truth_that_the_grader_cannot_take_is_refused_with_file_and_row(source, before, wrong, said, tmp_path):
    good = written(tmp_path / "good.parquet", [GOOD[source]], source)
    bad = written(tmp_path / "bad.parquet", [*before * 3, wrong, wrong], source, row_group_size=2)
    row = 3 * len(before)
    with pytest.raises(ValueError, match=rf"^data\.train_files: {bad}, row {row} \(from 0\): .*{said}.*; correct it"):
        check_ground_truths(only(good, bad))


def test_the_row_with_the_wrong_one_would_break_the_grader_or_never_be_right():
    for source, _, wrong, _ in WRONG.values():
        try:
            assert compute_score(source, f"#{wrong}", wrong)["score"] == 0
        except (ValueError, TypeError, AttributeError):
            continue
        assert source == "arithmetic"


def test_another_reward_function_takes_what_it_likes(tmp_path):
    config = only(written(tmp_path / "a.parquet", [None]))
    config.reward.custom_reward_function.path = "mine.py"
    check_ground_truths(config)


def test_many_rows_cost_little(tmp_path):
    file = written(tmp_path / "a.parquet", [str(n) for n in range(50_000)])
    start = time.process_time()
    check_ground_truths(only(file))
    assert time.process_time() - start < 10


def test_large_test_suites_are_not_read_but_for_a_null(tmp_path, monkeypatch):
    monkeypatch.setattr(ground_truths, "MOST_BYTES_OF_CODE", 1000)
    suites = ["no JSON, and not looked at " * 100, *(f"{n}" * 1000 for n in range(5))]
    config = only(written(tmp_path / "a.parquet", suites, "livecodebench"))
    check_ground_truths(config)
    good = CODE.replace('"1"', f'"{"1" * 2000}"', 1)
    config = only(written(tmp_path / "b.parquet", [good, good, None], "livecodebench"))
    with pytest.raises(ValueError, match=r"b\.parquet, row 2 "):
        check_ground_truths(config)


def test_a_file_whose_rows_are_overwritten_is_refused_by_name(tmp_path):
    file = written(tmp_path / "a.parquet", ["1"] * 1000)
    footer = pq.read_metadata(file).serialized_size + 8
    file.write_bytes(b"PAR1" + b"\xff" * (file.stat().st_size - footer - 4) + file.read_bytes()[-footer:])
    config = only(file)
    for check in (check_graders, check_ground_truths):
        with pytest.raises(ValueError, match=r"a\.parquet is not a complete parquet file"):
            check(config)


def test_texts_that_are_no_utf8_are_refused_by_name(tmp_path):
    wrong = pa.Array.from_buffers(pa.string(), 2, pa.array([b"1", b"\xff"]).buffers())
    with pytest.raises(ValueError, match=r"a\.parquet is not a complete parquet file"):
        check_ground_truths(only(written(tmp_path / "a.parquet", wrong)))


ROW = {"prompt": PROMPT, "data_source": "polaris", "reward_model": {"style": "rule", "ground_truth": "2"}}
FILES = {
    "text": ROW,
    "whole numbers": ROW | {"reward_model": {"style": "rule", "ground_truth": 2}},
    "numbers": ROW | {"reward_model": {"style": "rule", "ground_truth": 2.5}},
    "lists": ROW | {"reward_model": {"style": "rule", "ground_truth": ["2"]}},
    "nulls": ROW | {"reward_model": {"style": "rule", "ground_truth": None}},
    "another order": dict(reversed(ROW.items())) | {"reward_model": {"ground_truth": "2", "style": "rule"}},
    "another field": ROW | {"reward_model": {"ground_truth": "2", "level": 3}},
    "an index": ROW | {"extra_info": {"index": 3}},
    "an index as text": ROW | {"extra_info": {"index": "3"}},
    "no index": ROW | {"extra_info": None},
    "a name in messages": ROW | {"prompt": [PROMPT[0] | {"name": "me"}]},
}


def test_files_that_verl_cannot_join_are_refused_with_column_and_types(tmp_path):
    """The verdict on every two files is that of the two calls by which verl reads them."""
    files, read = {}, {}
    for number, (name, row) in enumerate(FILES.items()):
        files[name] = tmp_path / f"{number}.parquet"
        pq.write_table(pa.Table.from_pylist([row] * 2), files[name])
        loaded = datasets.load_dataset("parquet", data_files=str(files[name]), cache_dir=str(tmp_path / "cache"))
        read[name] = loaded["train"]
    refused = []
    for pair in combinations(FILES, 2):
        try:
            datasets.concatenate_datasets([read[name] for name in pair])
        except ValueError:
            first, other = (files[name] for name in pair)
            with pytest.raises(
                ValueError, match=rf"^data\.train_files: .* the column \w+ is .* in {first}, but .*{other}"
            ):
                check_column_types(only(first, other))
            refused.append(pair)
        else:
            check_column_types(only(*(files[name] for name in pair)))
    assert ("text", "whole numbers") in refused and ("text", "nulls") not in refused
    with pytest.raises(ValueError, match=rf"in {files['text']}, but .* in {files['lists']}"):
        check_column_types(only(files["text"], files["another order"], files["lists"]))
