"""LiveCodeBench's test cases: what is decoded, and that nothing else is, or does anything."""

import base64
import json
import os
import pickle
import zlib

import pytest
from balanced_agg.data.livecodebench import decode_tests

TESTS = [{"input": "1 2\n", "output": "é" * 300, "testtype": "stdin"}]


def packed(value, protocol=4):
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


def test_plain_json_is_decoded():
    assert decode_tests(json.dumps(TESTS)) == TESTS


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("ascii_only", [True, False])
def test_packed_json_is_decoded(protocol, ascii_only):
    assert decode_tests(packed(json.dumps(TESTS, ensure_ascii=ascii_only), protocol)) == TESTS


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path, protocol):
    malicious = packed(Touch(tmp_path / "canary"), protocol)
    with pytest.raises(ValueError, match="pickle"):
        decode_tests(malicious)
    assert not list(tmp_path.iterdir())
    pickle.loads(zlib.decompress(base64.b64decode(malicious)))
    assert list(tmp_path.iterdir())  # so the pickle was a live one


@pytest.mark.parametrize("value", [["[]"], {"a": "[]"}, b"[]", 3, None, ("[]", "[]"), Exception("[]")])
def test_a_pickle_of_anything_but_one_string_is_refused(value):
    with pytest.raises(ValueError, match="pickle"):
        decode_tests(packed(value))


def test_a_pickle_with_a_huge_memo_index_costs_no_memory():
    text = base64.b64encode(zlib.compress(b"\x80\x02X\x02\x00\x00\x00[]r\xff\xff\xff\xff.")).decode()
    assert decode_tests(text) == []


def test_a_bomb_is_refused_before_it_unpacks():
    with pytest.raises(ValueError, match="more than 1000000 bytes"):
        decode_tests(packed("[" + " " * 10**8 + "]"), max_bytes=10**6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage!",
        "AAAA",
        base64.b64encode(b"x" * 50).decode(),
        packed("{}"),
        packed("[1]"),
        packed("no"),
        "[1]",
        "[",
        packed(json.dumps(TESTS))[:-8],
        "[" * 10**5,
        base64.b64encode(zlib.compress(b"\x80\x04X\xff\xff")).decode(),
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError):
        decode_tests(text)
