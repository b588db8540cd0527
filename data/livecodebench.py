"""LiveCodeBench, code generation (benchmark): release v5, 880 problems of May 2023 to January 2025.

The benchmark's own repository (livecodebench/code_generation_lite) is a loading script, which `datasets` no longer
runs; lighteval's copy has the same columns as parquet. Public and private tests are all kept. The prompts have the
benchmark's layout: a system line, then Question, Format and Answer sections. The sentences in it are ours.
"""

import base64
import json
import pickletools
import zlib
from typing import Any

from balanced_agg.data.dataset import Dataset, Problem, Row, Unusable, identifier, pick, required, text

from balanced_agg.untrusted import parse_json

SYSTEM = (
    "You are an expert Python programmer. For each programming problem, write a correct Python program that "
    "fulfils the specification and passes every test."
)
WITH_STARTER = "Complete the starter code below, and give the whole solution in one fenced block."
WITH_STDIN = (
    "Read the input from standard input and print the answer to standard output; do not run the examples "
    "yourself. Give the whole program in one fenced block, like this one."
)
MAX_BYTES = 2**30
MOST_OPCODES = 16  # a string takes six
TEXT_OPCODES = {
    *["PROTO", "FRAME", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"],
    *["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"],
}


def convert(row: Row) -> Problem:
    question = required(row, "question_content")
    starter_code = text(pick(row, "starter_code"), "starter_code")
    tests = [test for what in ("public_test_cases", "private_test_cases") for test in tests_of(pick(row, what), what)]
    kinds = {test["testtype"] for test in tests}
    if len(kinds) != 1:
        raise Unusable("tests of several kinds" if kinds else "no tests")
    name = function_name(pick(row, "metadata")) if kinds == {"functional"} else None
    if name and not all(is_json(test["output"]) for test in tests):
        raise Unusable("functional tests whose output is not JSON")
    ground_truth = {
        "inputs": [test["input"] for test in tests],
        "outputs": [test["output"] for test in tests],
        "fn_name": name,
    }
    block = f"```python\n{starter_code or '# your code here'}\n```"
    task = f"### Format: {WITH_STARTER if starter_code else WITH_STDIN}\n{block}"
    content = f"### Question:\n{question}\n\n{task}\n\n### Answer: (one fenced block)\n\n"
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    question_id = identifier(row, "question_id")
    return Problem(messages, json.dumps(ground_truth), id=question_id, key=question_id)


def tests_of(field: Any, what: str) -> list[dict[str, str]]:
    encoded = text(field, what)
    try:
        tests = decode_tests(encoded) if encoded else []
    except ValueError as error:
        raise Unusable(f"{what} cannot be decoded") from error
    if not all(isinstance(test.get(key), str) for test in tests for key in ("input", "output", "testtype")):
        raise Unusable(f"{what} lack an input, an output or a kind")
    return tests


def is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def function_name(metadata: Any) -> str:
    try:
        fields = parse_json(metadata) if isinstance(metadata, str) else metadata
    except ValueError:
        raise Unusable("metadata is not JSON") from None
    name = fields.get("func_name") if isinstance(fields, dict) else None
    if not name:
        raise Unusable("functional tests without a function's name")
    return name


def decode_tests(text: str, max_bytes: int = MAX_BYTES) -> list[dict]:
    """The test cases in `text`: JSON, or base64 of zlib of a pickle of a JSON string (as the private tests are).

    ValueError for anything else, for a pickle of anything but one string, and for more than `max_bytes` unpacked.
    """
    if not text.lstrip().startswith("["):
        unpacker = zlib.decompressobj()
        try:
            unpacked = unpacker.decompress(base64.b64decode(text, validate=True), max_bytes)
        except zlib.error as error:
            raise ValueError(f"the test cases are neither JSON nor zlib data: {error}") from error
        if not unpacker.eof:
            raise ValueError(f"the test cases are cut off or unpack to more than {max_bytes} bytes")
        text = unpickle_text(unpacked)
        del unpacked
    tests = parse_json(text)
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise ValueError("the test cases are not a JSON list of objects")
    return tests


def unpickle_text(data: bytes) -> str:
    """The one string that `data` pickles. Its opcodes are read, never executed: nothing is imported or called."""
    texts = []
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in TEXT_OPCODES or number == MOST_OPCODES:
            raise ValueError(f"the test cases are a pickle of more than one string: it has {opcode.name}")
        if isinstance(argument, str):
            texts.append(argument)
    if len(texts) != 1:
        raise ValueError(f"the test cases are a pickle of {len(texts)} strings, not of one")
    return texts[0]


LIVECODEBENCH = Dataset(
    name="livecodebench",
    about="LiveCodeBench release v5, benchmark: programs judged by tests (about 4 GB to download)",
    source="lighteval/code_generation_lite",
    config="release_v5",
    split="test",
    files="release_v5/*.parquet",
    ability="code",
    convert=convert,
    k=4,
    problems=(880,),
    aliases=("codegenerationlite",),
)
