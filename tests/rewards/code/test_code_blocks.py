"""Where the program of a response is found, in the ways that models write it."""

import time

import pytest

from balanced_agg.rewards.code_blocks import last_program

IN_STRING = "text = '''\n```\nx\n```\n'''\nprint(text)"
MARKDOWN_IN_STRING = 'text = """\n```python\nx\n```\n"""\nprint(text)'


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\na\n```\nbetter:\n```python\nb\n```\ndone", "b"),
        ("```\na\n```\nbetter:\n```\nb\n```", "b"),
        ("```python\na\n```\nprints\n```text\n3\n```", "a"),
        ("```python\na\n```\nIt prints:\n```\n3\n```", "a"),
        ("For\n```\n1 2\n```\nwrite\n```python\na\n```\nwhich prints\n```\n3\n```\n", "a"),
        ("```python\na\n```\nIt prints:\n~~~\n3\n~~~", "a"),
        ("```python\na\n```\n```", "a"),
        ("<think>```python\na\n```</think>\n```python\nb\n```", "b"),
        ("<think>```python\na\n```</think>\n```\nb\n```", "b"),
        ("<think>```python\na\n```</think>\nno program", None),
        ("<think>```python\na\n```", None),
        ("print(3)", None),
        ("```print(3)```", None),
        ("```python print(3)```\nand\n```\na\n```", "a"),
        ("```python\n\n```", None),
        ("```cpp\na\n```", None),
        ("", None),
    ],
)
def test_the_program_is_the_last_block_of_python_or_else_the_last_without_a_language(response, program):
    assert last_program(response) == program


@pytest.mark.parametrize(
    "name",
    [
        *["python", "Python", "PYTHON", " python", "py", "python3", "py3", "Python 3", "python 3.11", "python3.11"],
        *["pypy3", "PyPy", "cpython", "ipython", "python\r", "python:main.py", "main.py", "src/main.py"],
        *["{python}", "{.python .numberLines}", "{python, echo=FALSE}", "python,linenos", "python title='main.py'"],
    ],
)
def test_python_goes_by_many_names(name):
    assert last_program(f"```{name}\na\n```\n```\n3\n```") == "a"
    assert last_program(f"```\n3\n```\nHere: ```{name}\na\n```\n```\n3\n```") == "a"


@pytest.mark.parametrize("name", ["cpp", "text", "pycon", "python-repl", "pytb", "pythonic", "cython", "c++", "java"])
def test_other_languages_are_none_of_its_names(name):
    assert last_program(f"```python\na\n```\n```{name}\nb\n```") == "a"
    assert last_program(f"```{name}\nb\n```") is None


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("Here: ```python\na\n```", "a"),
        ("Here it is:```\na\n```\n", "a"),
        ("**Solution** ```Python 3\na\n```", "a"),
        ("### Answer: (use it) ```python\na\n```", "a"),
        ("<answer>```python\na\n```</answer>", "a"),
        ("1. ```python\na\n```", "a"),
        ("10) ```python\n    if a:\n        b\n    ```", "if a:\n    b"),
        ("- ```py\n  if a:\n    b\n  ```", "if a:\n  b"),
        ("* ```py\nif a:\n  b\n```", "if a:\n  b"),
        ("1. so:\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b"),
        ("\t```python\n\tif a:\n\t\tb\n\t```", "if a:\n\tb"),
        ("        ```python\n        a\n        ```", "a"),
        ("> ```python\n> if a:\n>     b\n> ```\n", "if a:\n    b"),
        ("```python\n\n    a\n    b\n```", "\na\nb"),
        ("```python\na\n```\nAs asked, it is in ```python fences.\nGood luck!", "a"),
        ("Sure~~~\n```\na\n```\n", "a"),
        ("It is ~~~not~~~\n```\na\n```\n", "a"),
        ("```python\na\n```\nNo other ``` fence\nfollows", "a"),
    ],
)
def test_an_opening_fence_may_be_indented_or_stand_behind_words_and_marks(response, program):
    assert last_program(response) == program


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("````python\na\n````", "a"),
        ("````\na\n````\n", "a"),
        ("~~~python\na\n~~~", "a"),
        ("~~~~~ python\na\n~~~~~~", "a"),
        ("````python\na\n```\nb\n````", "a\n```\nb"),
        ("~~~python\na\n```\nb\n~~~", "a\n```\nb"),
        ("```python\na\n~~~\nb\n```", "a\n~~~\nb"),
        ("```python\na\n`````\nb", "a"),
        ("````markdown\nText\n```python\na\n```\nmore\n````", "a"),
        ("```markdown\n```python\na\n```\n```", "a"),
        ("Title\n~~~~~\nText\n```python\na\n```", "a"),
    ],
)
def test_a_closing_fence_is_of_the_opening_ones_kind_and_no_shorter(response, program):
    assert last_program(response) == program


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("```python\na", "a"),
        ("text\n```python\na\nb\n", "a\nb\n"),
        ("```python\na\n```python\nb\n```", "b"),
        ("```\na\n\nNow: ```python\nb\n```", "b"),
        ("```python\na\n```text\n3\n```", "a"),
        ("```python\na\n```</answer>\n\nSee ```python\nb\n```", "b"),
        ("```python\na\n``` This prints 3.\n```\n3\n```", "a"),
        ("```python\na```\nIt prints\n```\n3\n```", "a"),
        ("```python\r\na\r\n```", "a\r"),
    ],
)
def test_a_block_without_a_closing_line_ends_where_one_can_tell(response, program):
    assert last_program(response) == program


@pytest.mark.parametrize("name", ["", "python"])
@pytest.mark.parametrize(
    "program",
    [
        IN_STRING,
        MARKDOWN_IN_STRING,
        f"def f():\n    '''As in\n    ```python\n    f()\n    ```\n    '''\n\n{MARKDOWN_IN_STRING}",
        "text = '''Here:```'''\ntext = '''\nHere: ```\n'''",
        "print('```')\na = 1  # in ```\nb = 2",
        '"""no string is open"""\na',
    ],
)
def test_a_fence_inside_a_string_or_a_comment_ends_no_program(program, name):
    assert last_program(f"```{name}\n{program}\n```\nIt prints\n```text\n'''\n```") == program
    assert last_program(f"```{name}\n{program}") == program
    assert last_program(f"- ```{name}\n  {program.replace(chr(10), chr(10) + '  ')}\n  ```") == program


def test_a_draft_that_ends_inside_a_string_does_not_swallow_the_program():
    draft = 'def f():\n    """Adds'
    assert last_program(f'```python\n{draft}\n```\nOops.\n```python\n{draft}."""\n```') == f'{draft}."""'
    assert last_program(f"```python\n{draft}\n```\n") == draft


@pytest.mark.parametrize(
    "response",
    [
        "`" * 300_000 + "a`",
        "``` " * 50_000,
        "~~~ " * 50_000 + "`",
        "```python\n\\'''\n" * 2_000,
        "```python\nx\n```\n" * 10_000,
        "```py\n'''\n" + "```\n" * 50_000,
        "```python\n'''\n" + "(" * 100_000 + "\n```" * 20,
        "```python\n'''\n'''\nx = " + "-" * 100_000 + "1\n```",
        "```" + "a " * 50_000 + "\n",
        "x```" + "a= " * 50_000 + "b\n",
        "x```" + " " * 50_000 + "b\n",
        (" " * 100_000 + "\n") * 3,
    ],
)
def test_no_response_takes_long_to_read(response):
    start = time.thread_time()
    last_program(response)
    assert time.thread_time() - start < 2.0
