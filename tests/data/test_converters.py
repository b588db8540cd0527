"""Claims about how one row of each source becomes a problem."""

import json

import pytest
from balanced_agg.data.dataset import Unusable
from balanced_agg.data.livecodebench import LIVECODEBENCH
from balanced_agg.data.maths import AIME_2024, AIME_2025, DAPO17K, MATH_500, MINERVA, OLYMPIADBENCH, POLARIS, last_box

from tests.data.sources import BENCHMARK_ROWS, case, code_row, dapo_row

BOX = " Let's think step by step and output the final answer within \\boxed{}."


def test_dapo_prompt_is_kept_to_the_letter():
    row = dapo_row("What is 1+1?", "2", index="a-b")
    problem = DAPO17K.convert(row)
    assert problem.messages == row["prompt"]
    assert (problem.ground_truth, problem.id) == ("2", "a-b")


@pytest.mark.parametrize("change", [{"prompt": "text"}, {"prompt": []}, {"prompt": [1]}, {"reward_model": "2"}])
def test_malformed_dapo_row_is_unusable(change):
    with pytest.raises(Unusable):
        DAPO17K.convert(dapo_row("What is 1+1?", "2") | change)


def test_polaris_problem_asks_for_a_box_and_keeps_latex():
    problem = POLARIS.convert({"problem": " Halve it. ", "answer": r"\frac{1}{2}", "difficulty": "3/8"})
    assert problem.messages == [{"role": "user", "content": "Halve it." + BOX}]
    assert problem.ground_truth == r"\frac{1}{2}"


@pytest.mark.parametrize("dataset", [MATH_500, AIME_2024, AIME_2025], ids=lambda dataset: dataset.name)
@pytest.mark.parametrize("problem, answer", [("problem", "answer"), ("Problem", "Answer"), ("question", "answer")])
def test_field_names_of_all_copies_are_read(dataset, problem, answer):
    converted = dataset.convert({problem: "Find it.", answer: "025"})
    assert converted.messages[0]["content"] == "Find it." + BOX
    assert converted.ground_truth == "025"


@pytest.mark.parametrize(
    "answer, ground_truth",
    [(25, "25"), (73.0, "73"), (2.0**70, "1.1805916207174113e+21"), (0.5, "0.5"), (" 7 \n", "7")],
)
def test_answer_becomes_its_text(answer, ground_truth):
    assert AIME_2024.convert({"Problem": "Find it.", "Answer": answer}).ground_truth == ground_truth


@pytest.mark.parametrize("answer", [None, "", "  ", float("nan"), True, ["1"], {"a": 1}])
def test_row_without_a_text_answer_is_unusable(answer):
    with pytest.raises(Unusable, match="answer"):
        MATH_500.convert({"problem": "Find it.", "answer": answer})


def test_row_without_a_problem_is_unusable():
    with pytest.raises(Unusable, match="no problem"):
        MATH_500.convert({"problem": " ", "answer": "1"})


def test_missing_field_is_named_with_those_found():
    with pytest.raises(ValueError, match=r"'answer' or 'final_answer'.*\['problem', 'reply'\]"):
        MATH_500.convert({"problem": "Find it.", "reply": "1"})


PICTURE = r"\includegraphics[width=3cm]{a.jpg}"
SOLVED = f"Preamble: Two parts.\n\nSubproblem 0: How much?\n\nSolution: See\n{PICTURE}\nand \\boxed{{3}}."


@pytest.mark.parametrize(
    "problem",
    [
        "See ![](https://example.org/a.png).",
        "as shown![figure 1](images/1.png)",
        "![alt] shows it",
        'Look: <img src="a.png">',
        "See <image_1> and <image>.",
        f"Find the angle in {PICTURE}.",
        f"Preamble: {PICTURE}\n\nSubproblem 0: How much?\n\nSolution: 3\n\nFinal answer: 3.\n\nSubproblem 1: And now?",
        f"{SOLVED}\n\nFinal answer: 3.\n\nSubproblem 1: And in this?\n{PICTURE}",
        SOLVED,
    ],
)
def test_problem_whose_question_has_a_picture_is_unusable(problem):
    for dataset in (POLARIS, MINERVA, OLYMPIADBENCH):
        with pytest.raises(Unusable, match="picture"):
            dataset.convert({"problem": problem, "answer": "1"})


@pytest.mark.parametrize(
    "problem",
    [
        f"{SOLVED}\n\nFinal answer: The final answer is 3.\n\nSubproblem 1: And twice that?",
        f"{SOLVED}\n\nSubproblem 1: And twice that?",
        f"Twice this?\n{PICTURE}\n\\nonessentialimage\nThat is the question.",
        "What does the command \\includegraphics do?",
        "Simplify $n![(n+1)! - n!]$ for $a<image(f)$.",
        "[asy]\ndraw((0,0)--(1,1));\n[/asy]\nHow long is it?",
    ],
)
def test_text_that_only_mentions_a_picture_is_a_problem(problem):
    for dataset in (POLARIS, MINERVA, OLYMPIADBENCH):
        assert dataset.convert({"problem": problem, "answer": "1"}).messages[0]["content"] == problem + BOX


def shipped(content: str, gold: object, **extra_info: object) -> dict:
    return {
        "data_source": "another-name",
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": content}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": extra_info,
    }


ASKED = "Are there 2 ways to put the balls in boxes?"


@pytest.mark.parametrize(
    "content",
    [
        ASKED,
        ASKED + BOX,
        f"{ASKED}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
        f"{ASKED} Let's think step by step. Put the final answer into \\boxed{{}}!\n",
        f'{ASKED} Let\'s think step by step and output the final answer after "####".',
        f'Solve the following problem. Answer: $A.\n\n{ASKED}\n\nRemember to put the number behind "Answer:".',
    ],
)
def test_a_prompt_in_verls_schema_is_replaced_by_ours(content):
    for dataset in (POLARIS, AIME_2025, MATH_500, MINERVA, OLYMPIADBENCH):
        problem = dataset.convert(shipped(content, "025", index=7))
        assert problem.messages == [{"role": "user", "content": ASKED + BOX}]
        assert (problem.ground_truth, problem.id) == ("025", "7")


def test_raw_text_that_is_in_the_prompt_is_the_question():
    for name in ("raw_problem", "question"):
        problem = POLARIS.convert(shipped(f"Think! {ASKED} In a box, thanks.", "1", **{name: ASKED}))
        assert problem.messages[0]["content"] == ASKED + BOX
    assert POLARIS.convert(shipped(ASKED, "1", question="7")).messages[0]["content"] == ASKED + BOX


@pytest.mark.parametrize(
    "dataset, gold, expected",
    [
        (POLARIS, 142.0, "142"),
        (POLARIS, ["142"], "142"),
        (MINERVA, ["9.6\n"], "9.6"),
        (MINERVA, ["2 m", "200 cm"], '["2 m", "200 cm"]'),
        (OLYMPIADBENCH, ["$8$,$4$"], "$8$,$4$"),
        (OLYMPIADBENCH, ["8", "4"], "8,4"),
    ],
)
def test_a_gold_in_verls_schema_is_text_or_the_list_that_the_set_has(dataset, gold, expected):
    assert dataset.convert(shipped("Find it.", gold)).ground_truth == expected


@pytest.mark.parametrize(
    "change", [{"prompt": "text"}, {"prompt": []}, {"prompt": [{"role": "system", "content": "a"}]}]
)
def test_a_row_in_verls_schema_has_one_question(change):
    with pytest.raises(Unusable, match="prompt"):
        POLARIS.convert(shipped("Find it.", "1") | change)


def test_olympiad_row_keeps_unit_type_and_the_parts_of_its_answer():
    problem = OLYMPIADBENCH.convert(BENCHMARK_ROWS["olympiadbench"][0])
    assert problem.ground_truth == "$8$,$4$"
    assert (problem.unit, problem.answer_type, problem.id) == ("km/h", "Numerical", "7")


def test_olympiad_context_comes_before_the_question():
    row = BENCHMARK_ROWS["olympiadbench"][0] | {"context": "Two trains meet."}
    assert OLYMPIADBENCH.convert(row).messages[0]["content"].startswith("Two trains meet.\n\nHow fast")


@pytest.mark.parametrize("change", [{"modality": "Multimodal"}, {"final_answer": []}, {"final_answer": None}])
def test_olympiad_row_with_a_picture_or_without_an_answer_is_unusable(change):
    with pytest.raises(Unusable):
        OLYMPIADBENCH.convert(BENCHMARK_ROWS["olympiadbench"][0] | change)


@pytest.mark.parametrize(
    "row, ground_truth",
    [
        ({"answer": "1e-3\n"}, "1e-3"),
        ({"answer": ["2 m", "200 cm\n", "2 m"]}, '["2 m", "200 cm"]'),
        ({"answer": ["2 m"]}, "2 m"),
        ({"answer": [], "solution": r"so \boxed{3}"}, "3"),
        ({"solution": r"\boxed{1} is wrong, but \boxed{\frac{a}{b}} is right"}, r"\frac{a}{b}"),
    ],
)
def test_minerva_answer_is_text_list_or_last_box(row, ground_truth):
    assert MINERVA.convert({"problem": "Find it."} | row).ground_truth == ground_truth


def test_minerva_solution_without_a_box_is_unusable():
    with pytest.raises(Unusable, match="box"):
        MINERVA.convert({"problem": "Find it.", "solution": "It is 3."})


@pytest.mark.parametrize(
    "solution, inside", [("", ""), (r"\boxed{a{b}c} x", "a{b}c"), (r"\boxed{1} \boxed{2", "1"), (r"\boxed{", "")]
)
def test_last_box_is_the_last_complete_one(solution, inside):
    assert last_box(solution) == inside


def test_programs_read_stdin_or_complete_a_function():
    stdin, function = (LIVECODEBENCH.convert(row) for row in BENCHMARK_ROWS["livecodebench"])
    assert json.loads(stdin.ground_truth) == {"inputs": ["1 2", "2 2"], "outputs": ["3", "4"], "fn_name": None}
    assert json.loads(function.ground_truth) == {"inputs": ["1", "3"], "outputs": ["2", "6"], "fn_name": "double"}
    assert [message["role"] for message in function.messages] == ["system", "user"]
    assert "```python\ndef double(x):\n```" in function.messages[1]["content"]
    assert "standard input" in stdin.messages[1]["content"]
    assert "standard input" not in function.messages[1]["content"]


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"private_test_cases": "not base64!"}, "decoded"),
        ({"private_test_cases": "[]", "public_test_cases": "[]"}, "no tests"),
        ({"private_test_cases": json.dumps([case("1", "2", "functional")])}, "several kinds"),
        ({"private_test_cases": json.dumps([{"input": 1, "output": "2", "testtype": "stdin"}])}, "lack"),
        (
            code_row("Add.", [case("1", "no JSON", "functional")], [], name="add"),
            "functional tests whose output is not JSON",
        ),
    ],
)
def test_program_without_usable_tests_is_unusable(change, reason):
    with pytest.raises(Unusable, match=reason):
        LIVECODEBENCH.convert(code_row("Add.", [case("1 2", "3")], [case("2 2", "4")]) | change)


@pytest.mark.parametrize("metadata", ["{}", "", "null", "{broken"])
def test_functional_tests_without_a_name_are_unusable(metadata):
    row = code_row("Double.", [case("1", "2", "functional")], []) | {"metadata": metadata}
    with pytest.raises(Unusable, match=r"name|metadata"):
        LIVECODEBENCH.convert(row)
