"""Runs one program on one test, inside a sandbox: its text is the first part of the script that is sent there.

It never learns what the right answer is. Imports only the standard library, because nothing else is there.
"""

import json
import os
import sys
import types

# What LiveCodeBench's grader imports before a program, in its order (lcb_runner/evaluation/testing_util.py):
# of each the names, then the modules, so that `datetime` is the module and `pow` the built-in.
PRELUDE = [
    *["string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"],
    *["itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"],
]
RECURSION_LIMIT = 50_000
INT_DIGITS = 50_000


def run(program: str, fn_name: str | None) -> None:
    """Run `program` as __main__ on standard input.

    Without `fn_name`, standard output is the program's own. With it, standard input holds the arguments of
    `Solution().fn_name`, or else of the plain function, as JSON, one a line; standard output gets the returned value
    as JSON and nothing else. Every exception but SystemExit leaves this process with a non-zero exit status.
    """
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    for name in PRELUDE:
        exec(f"from {name} import *", main.__dict__)
    for name in PRELUDE:
        exec(f"import {name}", main.__dict__)
    main.__dict__.update(exit=sys.exit, quit=sys.exit)
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.set_int_max_str_digits(INT_DIGITS)
    code = compile(program, "<program>", "exec", dont_inherit=True)
    try:
        if fn_name is None:
            exec(code, main.__dict__)
        else:
            call(code, main, fn_name)
    except SystemExit:
        pass


def call(code: types.CodeType, main: types.ModuleType, fn_name: str) -> None:
    arguments = [json.loads(line) for line in sys.stdin.read().split("\n") if line.strip()]
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    exec(code, main.__dict__)
    owner = main.Solution() if hasattr(main, "Solution") else main
    value = getattr(owner, fn_name)(*arguments)
    # numpy's scalars count as numbers, as they do in LiveCodeBench's comparison by ==
    text = json.dumps(value, default=lambda scalar: scalar.item())
    with os.fdopen(answer, "w") as file:
        file.write(text)
