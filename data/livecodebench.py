"""LiveCodeBench, code generation (benchmark): release v5, 880 problems of May 2023 to January 2025.

The benchmark's own repository (livecodebench/code_generation_lite) is a loading script, which `datasets` no longer
runs; lighteval's copy has the same columns as parquet. Public and private tests are all kept.
"""

import json
from typing import Any

from balanced_agg.data.dataset import Dataset, Problem, Row, Unusable, identifier, pick, required, text
from balanced_agg.data.prompts import code


def tests_of(field: Any, what: str) -> list[dict[str, str]]:
    from balanced_agg.rewards.private_tests import decode_tests

    encoded = text(field, what)
    try:
        tests = decode_tests(encoded) if encoded else []
    except ValueError as error:
        raise Unusable(f"{what} cannot be decoded") from error
    if not all(isinstance(test.get(key), str) for test in tests for key in ("input", "output", "testtype")):
        raise Unusable(f"{what} lack an input, an output or a kind")
    return tests


def function_name(metadata: Any) -> str | None:
    try:
        fields = json.loads(metadata) if isinstance(metadata, str) else metadata
    except ValueError:
        raise Unusable("metadata is not JSON") from None
    return fields.get("func_name") if isinstance(fields, dict) else None


def convert(row: Row) -> Problem:
    question = required(row, "question_content")
    tests = [test for what in ("public_test_cases", "private_test_cases") for test in tests_of(pick(row, what), what)]
    kinds = {test["testtype"] for test in tests}
    if len(kinds) != 1:
        raise Unusable("tests of several kinds" if kinds else "no tests")
    name = function_name(pick(row, "metadata")) if kinds == {"functional"} else None
    if kinds == {"functional"} and not name:
        raise Unusable("functional tests without a function's name")
    ground_truth = {
        "inputs": [test["input"] for test in tests],
        "outputs": [test["output"] for test in tests],
        "fn_name": name,
    }
    question_id = identifier(row, "question_id")
    return Problem(
        code(question, text(pick(row, "starter_code"), "starter_code")),
        json.dumps(ground_truth),
        id=question_id,
        key=question_id,
    )


DATASET = Dataset(
    name="livecodebench",
    about="LiveCodeBench release v5, benchmark: programs judged by tests (about 4 GB to download)",
    data_source="livecodebench",
    source="lighteval/code_generation_lite",
    config="release_v5",
    split="test",
    files="release_v5/*.parquet",
    ability="code",
    convert=convert,
    k=4,
    problems=(880,),
    aliases=("livecodebench", "codegenerationlite"),
)
