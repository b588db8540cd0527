"""Runs one program on one test, inside a sandbox: its text is the first part of the script that is sent there.

It never learns what the right answer is. Imports only the standard library, because nothing else is there.
"""

import json
import os
import sys
import types
from contextlib import suppress

# What LiveCodeBench's grader imports before a program, in its order (lcb_runner/evaluation/testing_util.py):
# of each the names, then the modules, so that `datetime` is the module and `pow` the built-in.
PRELUDE = [
    *["string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"],
    *["itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"],
]
RECURSION_LIMIT = 50_000
INT_DIGITS = 50_000


def run(program: str, fn_name: str | None) -> None:
    """Run `program` on standard input.

    Without `fn_name` it runs as __main__, and standard output is its own. With it, it is imported under another name,
    as LiveCodeBench does, so that what stands behind `if __name__ == "__main__"` does not run; standard input holds the
    arguments of `Solution().fn_name`, or else of the plain function, as JSON, one a line; standard output gets the
    returned value as JSON and nothing else. An import that exits has defined what stands before. Every exception but
    SystemExit leaves this process with a non-zero exit status.
    """
    module = types.ModuleType("__main__" if fn_name is None else "solution")
    sys.modules[module.__name__] = module
    for name in PRELUDE:
        exec(f"from {name} import *", module.__dict__)
    for name in PRELUDE:
        exec(f"import {name}", module.__dict__)
    module.__dict__.update(exit=sys.exit, quit=sys.exit)
    sys.setrecursionlimit(RECURSION_LIMIT)
    sys.set_int_max_str_digits(INT_DIGITS)
    code = compile(program, "<program>", "exec", dont_inherit=True)
    if fn_name is None:
        execute(code, module)
    else:
        call(code, module, fn_name)


def execute(code: types.CodeType, module: types.ModuleType) -> None:
    with suppress(SystemExit):
        exec(code, module.__dict__)


def call(code: types.CodeType, module: types.ModuleType, fn_name: str) -> None:
    arguments = [json.loads(line) for line in sys.stdin.read().split("\n") if line.strip()]
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    execute(code, module)
    owner = module.Solution() if hasattr(module, "Solution") else module
    value = getattr(owner, fn_name)(*arguments)
    # numpy's scalars count as numbers, as they do in LiveCodeBench's comparison by ==
    text = json.dumps(value, default=lambda scalar: scalar.item())
    with os.fdopen(answer, "w") as file:
        file.write(text)
