"""Tests in a file of their own grade as they do in the row, and a file that is not the right one is never a verdict."""

import json
import os
import random
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from balanced_agg.rewards import compute_score, packed_tests, program_tests
from balanced_agg.rewards.code import grade_code
from balanced_agg.rewards.errors import GraderFailed
from balanced_agg.rewards.packed_tests import Reference, Writer, find, read, reference_in
from balanced_agg.rewards.program_tests import Cache, find_tests, read_tests

NAME = "code.tests.zip"
ADD = json.dumps({"inputs": ["1 2", "3 4"], "outputs": ["3", "7"], "fn_name": None})
ORDER = json.dumps({"inputs": ["[3, 1]"], "outputs": ["[1, 3]"], "fn_name": "order"})
TRUTHS = [ADD, ORDER, json.dumps({"inputs": ["é\u2028" * 99], "outputs": [""]}, ensure_ascii=False)]
PROGRAMS = {
    ADD: ("print(sum(map(int, input().split())))", "print(3)"),
    ORDER: ("def order(xs):\n    return sorted(xs)", "def order(xs):\n    return xs"),
}


def packed(folder, truths=TRUTHS):
    """The references to these tests in a file in the folder."""
    folder.mkdir(exist_ok=True)
    with Writer(folder / NAME, NAME) as writer:
        return list(map(writer.add, truths))


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(program_tests, "_cache", Cache(program_tests.CACHE_BYTES))


def test_what_was_written_is_read(tmp_path):
    for text, truth in zip(packed(tmp_path), TRUTHS, strict=True):
        reference = reference_in(text)
        assert read(reference, find(reference, [str(tmp_path)])) == truth
        assert find_tests(text, [str(tmp_path)])() == read_tests(truth)


def test_the_same_tests_give_the_same_bytes_and_stand_there_once(tmp_path):
    first = packed(tmp_path / "a", [*TRUTHS, ADD])
    assert packed(tmp_path / "b", [*TRUTHS, ADD]) == first and first[0] == first[-1]
    assert (tmp_path / "a" / NAME).read_bytes() == (tmp_path / "b" / NAME).read_bytes()
    assert len(zipfile.ZipFile(tmp_path / "a" / NAME).namelist()) == len(TRUTHS)


@pytest.mark.parametrize("truth", PROGRAMS, ids=["standard input", "a function"])
def test_a_program_gets_the_verdict_that_tests_in_the_row_give(truth, tmp_path):
    (reference,) = packed(tmp_path, [truth])
    assert len(reference) < 200
    for program, right in zip(PROGRAMS[truth], (True, False), strict=True):
        response = f"```python\n{program}\n```"
        assert grade_code(response, truth) is right
        assert grade_code(response, reference, tests_folders=[str(tmp_path)]) is right


SHA256 = "0" * 64
NO_REFERENCES = {
    "a path": {"tests_file": f"../{NAME}", "sha256": SHA256},
    "an absolute path": {"tests_file": f"/etc/{NAME}", "sha256": SHA256},
    "another file": {"tests_file": "passwd", "sha256": SHA256},
    "half a hash": {"tests_file": NAME, "sha256": SHA256[:32]},
    "no hash": {"tests_file": NAME},
    "a hash of another kind": {"tests_file": NAME, "sha256": 0},
    "a list": [NAME, SHA256],
}


@pytest.mark.parametrize("record", NO_REFERENCES.values(), ids=NO_REFERENCES.keys())
def test_what_is_no_reference_is_refused_and_reads_nothing(record, tmp_path):
    packed(tmp_path)
    with pytest.raises(ValueError, match="ground_truth must be JSON"):
        grade_code("no program", json.dumps(record), tests_folders=[str(tmp_path / "below")])


def test_the_file_is_looked_for_in_each_folder_by_what_it_holds(tmp_path):
    (reference,) = map(reference_in, packed(tmp_path / "right", [ADD]))
    packed(tmp_path / "other", [ORDER])
    folders = [str(tmp_path / name) for name in ("none", "other", "right")]
    assert find(reference, folders).parent == tmp_path / "right"
    with pytest.raises(ValueError, match=rf"{tmp_path}/other/{NAME} does not have the tests .*balanced-agg prepare"):
        find(reference, folders[:2])
    with pytest.raises(ValueError, match=rf"no {NAME} in {tmp_path}/none: .*balanced-agg prepare"):
        find(reference, folders[:1])
    with pytest.raises(ValueError, match=r"reward_kwargs\.tests_folders"):
        find(reference, [])


@pytest.mark.parametrize("response", ["no program", "```python\nprint(3)\n```"])
def test_tests_that_are_not_there_are_an_error_and_no_score(response, tmp_path):
    (reference,) = packed(tmp_path, [ADD])
    (tmp_path / NAME).unlink()
    with pytest.raises(ValueError, match=NAME):
        compute_score("livecodebench", response, reference, tests_folders=[str(tmp_path)])


def test_a_file_that_is_replaced_between_two_responses_is_noticed(tmp_path):
    (first,) = packed(tmp_path, [ADD])
    response = f"```python\n{PROGRAMS[ADD][0]}\n```"
    assert grade_code(response, first, tests_folders=[str(tmp_path)])
    (second,) = packed(tmp_path, [ORDER])
    with pytest.raises(ValueError, match="does not have the tests"):
        grade_code(response, first, tests_folders=[str(tmp_path)])
    assert not grade_code(response, second, tests_folders=[str(tmp_path)])


def test_a_disk_that_fails_is_no_fault_of_the_programs(tmp_path, monkeypatch):
    (reference,) = packed(tmp_path, [ADD])

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", fails)
    with pytest.raises(GraderFailed, match="Input/output error"):
        grade_code("```python\nprint(3)\n```", reference, tests_folders=[str(tmp_path)])


def test_whatever_bytes_are_damaged_other_tests_are_never_read(tmp_path):
    references = list(map(reference_in, packed(tmp_path)))
    intact, draw, refused = (tmp_path / NAME).read_bytes(), random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(intact)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (tmp_path / NAME).write_bytes(damaged if draw.random() < 0.8 else damaged[: draw.randrange(len(damaged))])
        for reference, truth in zip(references, TRUTHS, strict=True):
            try:
                assert read(reference, find(reference, [str(tmp_path)])) == truth
            except (ValueError, GraderFailed):
                refused += 1
    assert refused > 150


def test_other_tests_under_the_name_of_the_right_ones_are_refused(tmp_path):
    (reference,) = map(reference_in, packed(tmp_path, [ADD]))
    with zipfile.ZipFile(tmp_path / NAME, "w") as archive:
        archive.writestr(reference.sha256, ORDER)
    with pytest.raises(ValueError, match="not those that were written"):
        read(reference, find(reference, [str(tmp_path)]))


def test_tests_that_unpack_to_more_than_they_say_or_may_are_not_unpacked(tmp_path, monkeypatch):
    path, limit = tmp_path / NAME, 10**5
    monkeypatch.setattr(packed_tests, "MOST_BYTES", limit)
    read_sizes = []
    read_some = zipfile.ZipExtFile.read

    def counted(file, size=-1):
        read_sizes.append(size)
        return read_some(file, size)

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SHA256, bytes(10 * limit))
    with pytest.raises(ValueError, match="more than"):
        read(Reference(NAME, SHA256), path)
    assert read_sizes == []
    says = (10 * limit).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(says, (10).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=rf"{NAME}, tests 0000"):
        read(Reference(NAME, SHA256), path)
    assert read_sizes == [10]


def test_a_pipe_in_its_place_is_refused_without_waiting(tmp_path):
    (reference,) = map(reference_in, packed(tmp_path, [ADD]))
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    with pytest.raises(ValueError, match="no regular file"):
        find(reference, [str(tmp_path)])


# --- what is kept


@pytest.fixture
def reads(monkeypatch):
    """The tests that are read from the disk, in their order."""
    seen = []
    monkeypatch.setattr(packed_tests, "read", lambda reference, path: seen.append(reference) or read(reference, path))
    return seen


def test_the_tests_of_one_problem_are_read_once_for_many_threads(tmp_path, reads):
    (reference,) = map(reference_in, packed(tmp_path, [ADD]))
    cache, start = Cache(10**6), threading.Barrier(8)

    def get(_):
        start.wait()
        return cache.get(reference, tmp_path / NAME)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(get, range(8)))
    assert len(reads) == 1
    assert all(tests is found[0] for tests in found)


def test_no_more_is_kept_than_the_limit_and_the_longest_unused_goes_first(tmp_path, reads):
    truths = [json.dumps({"inputs": [f"{n}" * 1000], "outputs": [""]}) for n in range(5)]
    big = json.dumps({"inputs": ["x" * 5000], "outputs": [""]})
    references = list(map(reference_in, packed(tmp_path, [*truths, big])))
    cache = Cache(3500)  # three of the first
    for number in (0, 1, 2, 0, 3, 5, 0, 2, 3, 1):
        cache.get(references[number], tmp_path / NAME)
        assert cache._bytes <= 3500 and cache._bytes == sum(size for size, _ in cache._kept.values())
    # 3 takes the place of 1; what is larger than all that may be kept takes nobody's; 1 is read anew.
    assert [references.index(reference) for reference in reads] == [0, 1, 2, 3, 5, 1]
