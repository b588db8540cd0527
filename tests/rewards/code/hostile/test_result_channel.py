"""A hostile program forges no verdict: only the right answer to the test at hand is right."""

import pytest

from balanced_agg.rewards import sandbox
from tests.rewards.code.hostile.outside import grade, run

FORGERIES = {
    "prints a verdict": "print('True'); print('ready'); print('passed'); print({'output': [42], 'completed': True})",
    "writes to every descriptor": """
        import os
        for fd in range(256):
            for text in (b"true", b"ready\\n", b"passed", b"\\n"):
                try: os.write(fd, text)
                except OSError: pass""",
    "equal to everything": """
        import json
        class Everything(int):
            __eq__ = lambda self, other: True
            __hash__ = int.__hash__
        print(Everything(7))
        def f(x): return Everything(7)""",
    "patches json and builtins": """
        import builtins, json, sys
        json.dumps = json.dump = json.JSONEncoder.encode = lambda *args, **kwargs: "True"
        builtins.compile = builtins.exec = builtins.isinstance = lambda *args: True
        sys.stdout = sys.stderr""",
    "patches the harness through frames": """
        import gc, sys
        frame = sys._getframe()
        while frame:
            for name in list(frame.f_globals):
                if callable(frame.f_globals[name]) and not name.startswith("__"):
                    frame.f_globals[name] = lambda *args, **kwargs: True
            frame = frame.f_back
        for thing in gc.get_objects():
            if isinstance(thing, dict) and "expected" in thing: thing["expected"] = None""",
    "exits before it answers": "import os; os._exit(0)",
    "raises SystemExit": "raise SystemExit(0)",
    "answers at exit": "import atexit; atexit.register(print, 'True')",
    "claims another exit status": "import ctypes; ctypes.CDLL(None).exit_group(0)",
    "closes everything": "import os; os.closerange(0, 256)",
    "replaces itself": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(True)'])",
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("fn_name", [None, pytest.param("f", marks=pytest.mark.slow)])
def test_no_verdict_can_be_forged(forgery, fn_name):
    assert not grade(forgery, ["1"], ["[42, 17]"], fn_name)


def test_the_expected_output_is_nowhere_in_the_sandbox(monkeypatch):
    sent = []
    real = sandbox.execute
    monkeypatch.setattr(
        sandbox, "execute", lambda *args, **kwargs: sent.append(repr((args, kwargs))) or real(*args, **kwargs)
    )
    assert not grade("print(input())", ["question"], ["expected-answer"])
    assert not grade("def f(x):\n    return x", ['"question"'], ['"expected-answer"'], "f")
    assert len(sent) == 2 and all("question" in text and "expected-answer" not in text for text in sent)


def test_a_right_first_test_prepares_nothing_for_the_second():
    program = """
        import os, tempfile
        answer = input()
        for path in ("/tmp/kept", "/dev/shm/kept", "kept", os.path.expanduser("~/kept")):
            try: open(path, "x").write(answer)
            except OSError: pass
            if os.path.exists(path): answer = "seen"
        try:
            if os.fork() == 0:
                while True: os.write(1, b"second")
        except OSError: pass
        print("first")
    """
    assert grade(program, ["1", "2"], ["first", "first"])
    assert not grade(program, ["1", "2"], ["first", "second"])


def test_a_program_that_reads_its_output_back_has_started_all_the_same(monkeypatch):
    """An ordinary user's sandbox can open the pipe that it writes to, before a grader that is late has read it."""
    wait_until_ready = sandbox._wait_until_ready

    def late(process, ready):
        process.wait(60)
        wait_until_ready(process, ready)

    monkeypatch.setattr(sandbox, "_wait_until_ready", late)
    execution = run("import os\nos.read(os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK), 10**6)")
    assert execution.output == b"" and not execution.completed
