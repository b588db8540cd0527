"""A process of the fork server is what the real interpreter would have made of its command line, imports aside."""

import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from balanced_agg.plugin.cpu import fork_server
from tests.end_to_end.launch import ROOT

FORKED = "import os, tests.plugin.cpu.preloaded as p; print('forked' if p.IMPORTED_IN != os.getpid() else 'fresh')"
# As the CPU platform has it: more threads at import, and the server would not fork.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SECONDS = 60


@pytest.fixture(scope="module")
def interpreter():
    return fork_server.start(["tests.plugin.cpu.preloaded"], ENVIRONMENT, early=["torch"])


@pytest.fixture
def run(interpreter):
    def run(*arguments, environment=ENVIRONMENT, **options):
        command = [str(interpreter), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, **options)

    return run


@pytest.mark.parametrize("options", [[], ["-u"], ["-B", "-W", "ignore"], ["-Wignore"]])
def test_a_command_is_run_by_a_fork(run, options):
    assert run(*options, "-c", FORKED).stdout == "forked\n"


@pytest.mark.slow
def test_a_library_path_in_which_an_import_has_repeated_a_folder_is_the_same():
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded"], ENVIRONMENT | {"LD_LIBRARY_PATH": "/a:"})
    for path, made in (("/a:", "forked"), ("/a:/a:", "forked"), ("/b:/a:", "fresh")):
        command, environment = [str(interpreter), "-c", FORKED], ENVIRONMENT | {"LD_LIBRARY_PATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
        assert done.stdout == f"{made}\n", path


def test_a_script_and_a_module_have_their_arguments_and_path(run, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(__name__, sys.argv, sys.path[0])")
    assert run(str(script), "a", "-b").stdout == f"__main__ {[str(script), 'a', '-b']} {tmp_path}\n"
    as_module = run("-m", "script", "a", cwd=tmp_path).stdout
    assert as_module == f"__main__ {[str(script), 'a']} {tmp_path}\n"


def test_environment_folder_and_umask_are_those_of_the_asker(run, tmp_path):
    code = "import os; u = os.umask(0); print(os.environ['MINE'], os.environ.get('HOME'), os.getcwd(), oct(u))"
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "HOME"} | {"MINE": "1"}
    done = run("-c", code, environment=environment, cwd=tmp_path, umask=0o027)
    assert done.stdout == f"1 None {tmp_path} 0o27\n"


SHARE = """
import os, resource
print(os.getpriority(os.PRIO_PROCESS, 0), open("/proc/self/oom_score_adj").read().strip(), os.sched_getaffinity(0))
print([resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")])
"""


def in_a_small_share():
    os.nice(7)
    Path("/proc/self/oom_score_adj").write_text("300")
    for limit, soft in ((resource.RLIMIT_NOFILE, 300), (resource.RLIMIT_CPU, 1000)):
        resource.setrlimit(limit, (soft, resource.getrlimit(limit)[1]))


def test_niceness_oom_score_and_limits_are_those_of_the_asker(run):
    """As of vLLM's engine, a child of a worker that Ray has given a niceness of 15."""
    command, options = ["-c", f"{FORKED}\n{SHARE}"], {"preexec_fn": in_a_small_share}
    fresh = subprocess.run([sys.executable, *command], env=ENVIRONMENT, capture_output=True, text=True, **options)
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    assert fresh.stdout.startswith(f"fresh\n{min(niceness + 7, 19)} 300 {{")
    assert run(*command, **options).stdout == fresh.stdout.replace("fresh", "forked")
    assert run(*command).stdout.startswith(f"forked\n{niceness} ")


def test_other_cores_and_another_hard_limit_are_left_to_the_real_interpreter(run):
    def lower():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def one_core():
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    changes = [lower, *([one_core] if len(os.sched_getaffinity(0)) > 1 else [])]
    assert [run("-c", FORKED, preexec_fn=change).stdout for change in changes] == ["fresh\n"] * len(changes)


def test_standard_files_and_further_ones_are_those_of_the_asker(run):
    reading, writing = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), input().encode()); print('out'); print('err', file=sys.stderr)"
    done = run("-c", code, str(writing), input="through a pipe\n", pass_fds=[writing])
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "through a pipe"  # and ends: neither server nor interpreter holds its other end
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_a_child_can_set_its_title(run):
    code = "import setproctitle as s; s.setproctitle('a title'); print(open('/proc/self/cmdline').read())"
    assert run("-c", code).stdout.rstrip("\0\n") == "a title"


@pytest.mark.parametrize(
    ("code", "returncode"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("import os; os.abort()", -6),
    ],
)
def test_the_exit_status_is_that_of_the_child(run, code, returncode):
    assert run("-c", code).returncode == returncode


def started(interpreter, code):
    process = subprocess.Popen([str(interpreter), "-c", code], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline()


def test_a_signal_reaches_the_child(interpreter):
    code = """
    import signal, sys
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))
    print("ready", flush=True)
    signal.pause()
    """
    process, _ = started(interpreter, textwrap.dedent(code))
    process.terminate()
    assert process.wait(timeout=SECONDS) == 5


def test_the_child_ends_with_its_asker(interpreter):
    process, child = started(interpreter, "import os, signal; print(os.getpid(), flush=True); signal.pause()")
    process.kill()
    # The child holds the other end of the pipe, and nobody else does.
    assert process.stdout.read() == ""
    assert int(child) != process.pid


@pytest.mark.slow
def test_processes_that_a_child_spawns_are_forks_too(run, tmp_path):
    script = tmp_path / "spawning.py"
    script.write_text(
        "import multiprocessing, os\n"
        "def work():\n"
        f"    exec({FORKED!r})\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=work)\n"
        "    process.start(); process.join(); print(process.exitcode)\n"
    )
    assert run(str(script)).stdout == "forked\n0\n"


@pytest.mark.parametrize(
    "changed",
    [{"OMP_NUM_THREADS": "2"}, {"RAY_JOB_ID": "02000000"}, {"LD_PRELOAD": "libm.so.6"}, {"PYTHONHASHSEED": "0"}],
)
def test_what_a_fork_cannot_make_up_for_is_run_by_the_real_interpreter(run, changed):
    assert run("-c", FORKED).stdout == "forked\n"
    assert run("-c", FORKED, environment=ENVIRONMENT | changed).stdout == "fresh\n"


@pytest.mark.slow
def test_a_library_to_preload_that_the_server_has_loaded_is_no_reason_to_refuse(run):
    loaded = run(
        "-c", "import torch; print(next(line.split()[-1] for line in open('/proc/self/maps') if 'libc10' in line))"
    )
    assert run("-c", FORKED, environment=ENVIRONMENT | {"LD_PRELOAD": loaded.stdout.strip()}).stdout == "forked\n"


@pytest.mark.parametrize("option", ["-I", "-O", "--version"])
def test_other_options_are_left_to_the_real_interpreter(run, option):
    real = subprocess.run([sys.executable, option, "-c", "print(1)"], capture_output=True, text=True)
    assert run(option, "-c", "print(1)").stdout == real.stdout


DRAW = """
import random, numpy, torch
from ray import ObjectRef
print(ObjectRef.from_random().hex(), numpy.random.random(), torch.rand(1), random.random(), sep="\\n")
"""


@pytest.mark.slow
def test_two_children_draw_nothing_alike_although_an_actor_class_was_imported(tmp_path):
    (tmp_path / "an_actor.py").write_text("import ray\n@ray.remote\nclass Actor:\n    pass\n")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded", "an_actor"], environment)
    command = [str(interpreter), "-c", FORKED + DRAW]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS).stdout.splitlines()
        for _ in range(2)
    )
    assert first[0] == second[0] == "forked" and len(first) == len(second) == 5
    assert not set(first[1:]) & set(second[1:])


def test_what_early_imports_leave_in_the_environment_is_there_for_later_ones_and_in_a_child(tmp_path):
    (tmp_path / "leaves.py").write_text("import os; os.environ |= {'LEFT': 'early', 'GIVEN': 'early'}")
    (tmp_path / "finds.py").write_text("import os; os.environ['FOUND'] = os.environ['LEFT'] + os.environ['GIVEN']")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT}:{tmp_path}", "GIVEN": "asked", "NOT_ASKED": "1"}
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded", "finds"], environment, early=["leaves"])
    del environment["NOT_ASKED"]
    code = FORKED + "; print(*map(os.environ.get, ('LEFT', 'GIVEN', 'FOUND', 'NOT_ASKED')))"
    command = [str(interpreter), "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout == "forked\nearly asked earlyasked None\n"


@pytest.mark.slow
def test_where_an_import_had_ray_draw_an_id_each_process_imports_for_itself(tmp_path):
    (tmp_path / "an_id.py").write_text("import ray\nray.ObjectRef.from_random()\n")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded", "an_id"], environment)
    done = subprocess.run([str(interpreter), "-c", FORKED], env=environment, capture_output=True, timeout=SECONDS)
    assert done.stdout == b"fresh\n"


@pytest.mark.slow
def test_imports_that_start_threads_are_left_to_each_process(tmp_path):
    (tmp_path / "threading_module.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded", "threading_module"], environment)
    done = subprocess.run([str(interpreter), "-c", FORKED], env=environment, capture_output=True, timeout=SECONDS)
    assert done.stdout == b"fresh\n"


def ask(at: Path):
    """Have the interpreter ask the server at this socket."""
    command = [sys.executable, str(Path(fork_server.__file__).with_name("python.py")), str(at), "-c", FORKED]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)


def test_nothing_is_started_for_a_run_that_is_over(tmp_path):
    done = ask(tmp_path / "socket")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.slow
def test_without_a_server_that_was_killed_the_real_interpreter_runs(tmp_path):
    with socket.socket(socket.AF_UNIX) as nobody_listens:
        nobody_listens.bind(str(tmp_path / "socket"))
    assert ask(tmp_path / "socket").stdout == "fresh\n"


@pytest.mark.parametrize("name", ["a space", "jörg's", """,()[]{}=&;"'$\\x""", "a" * 200])
@pytest.mark.slow
def test_environment_and_folder_for_temporary_files_may_have_any_path(tmp_path, monkeypatch, name):
    (tmp_path / name).symlink_to(sys.prefix)
    monkeypatch.setattr(sys, "executable", str(tmp_path / name / "bin/python"))
    folder = Path(tempfile.mkdtemp(prefix=name[:20]))  # a path for sockets has 107 bytes at most
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded"], ENVIRONMENT)
    as_ray_does = ["bash", "-c", f"exec {shlex.quote(str(interpreter))} -c {shlex.quote(FORKED)}"]
    done = subprocess.run(as_ray_does, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS)
    shutil.rmtree(folder)
    assert (done.stdout, done.stderr) == ("forked\n", "")


def test_where_no_program_may_be_there_is_no_server(tmp_path, monkeypatch):
    mount = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        assert str(fork_server.start(["tests.plugin.cpu.preloaded"], ENVIRONMENT)) == sys.executable
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.slow
def test_server_and_children_end_with_the_process_that_started_them_however_it_ends(tmp_path):
    code = """
    import os, signal, subprocess
    from balanced_agg.plugin.cpu import fork_server
    interpreter = fork_server.start(["tests.plugin.cpu.preloaded"], os.environ)
    print(interpreter, flush=True)
    child = subprocess.Popen([str(interpreter), "-c", "print('ready', flush=True); import signal; signal.pause()"])
    child.wait()
    """
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    interpreter = starter.stdout.readline().strip()
    assert starter.stdout.readline() == "ready\n"
    starter.send_signal(signal.SIGKILL)
    assert starter.stdout.read() == ""  # all of them hold the other end
    until = time.monotonic() + SECONDS
    while Path(interpreter).parent.exists() and time.monotonic() < until:
        pass
    assert not Path(interpreter).parent.exists()
