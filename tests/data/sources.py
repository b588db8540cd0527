"""Tiny sources, written by hand, in the layouts of the public data sets."""

import base64
import json
import pickle
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def dapo_row(problem: str, answer: str, index: str = "0") -> dict:
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": f"Solve it.\n\n{problem}\n\nEnd with Answer: and the answer.", "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": index},
    }


def encoded(tests: list[dict]) -> str:
    """Private tests as LiveCodeBench packs them."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def case(given: str, wanted: str, testtype: str = "stdin") -> dict:
    return {"input": given, "output": wanted, "testtype": testtype}


def code_row(
    question: str, public: list[dict], private: list[dict], name: str | None = None, starter: str = ""
) -> dict:
    return {
        "question_title": "a title",
        "question_content": question,
        "platform": "leetcode" if starter else "atcoder",
        "question_id": f"id of {question}",
        "starter_code": starter,
        "public_test_cases": json.dumps(public),
        "private_test_cases": encoded(private),
        "metadata": json.dumps({"func_name": name} if name else {}),
    }


BENCHMARK_ROWS = {
    "math_500": [
        {"problem": "What is half of one?", "solution": "…", "answer": r"\frac{1}{2}", "level": 1, "unique_id": "t/1"},
        {"problem": "And twice two?", "solution": "…", "answer": "4", "level": 1, "unique_id": "t/2"},
    ],
    "aime_2024": [{"ID": "2024-I-1", "Problem": "Find the number.", "Solution": "…", "Answer": 25}],
    "aime_2025": [{"problem": "Find the angle.", "answer": r"336^\circ", "id": "0"}],
    "olympiadbench": [
        {
            "id": 7,
            "context": None,
            "question": "How fast, and how long?",
            "final_answer": ["$8$,$4$"],
            "unit": "km/h",
            "answer_type": "Numerical",
            "is_multiple_answer": True,
            "modality": "Text-only",
        }
    ],
    "minerva": [{"question": "How much energy?", "answer": "1e-3\n"}],
    "livecodebench": [
        code_row("Add two numbers.", [case("1 2", "3")], [case("2 2", "4")]),
        code_row(
            "Double it.",
            [case("1", "2", "functional")],
            [case("3", "6", "functional")],
            name="double",
            starter="def double(x):",
        ),
    ],
}


def write_jsonl(path: Path, rows: list) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path
