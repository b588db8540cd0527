"""A hostile program reads and writes no file of this machine."""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from balanced_agg.rewards import code
from tests.rewards.code.hostile.outside import lines, run


def test_no_file_of_this_machine_can_be_read(tmp_path):
    canary = f"canary-{secrets.token_hex(8)}"
    repository = Path(code.__file__).parents[2]
    planted = [folder / f".{canary}" for folder in (Path.home(), repository, tmp_path, Path("/tmp"), Path.cwd())]
    try:
        for path in planted:
            path.write_text(canary)
        execution = run(f"""
            import os
            known = ["/etc/passwd", "/etc/shadow", "/etc/hosts", "/var/log", "/sys"]
            for path in {[str(path) for path in planted]} + known:
                print(os.path.exists(path))
            below = [name for folder in ("/home", "/root", "/tmp", "/var", "/mnt", "/opt", "/srv", "/run", "/media")
                     for _, _, names in os.walk(folder) for name in names if {canary!r} in name]
            print(below)
        """)
    finally:
        for path in set(planted):
            path.unlink(missing_ok=True)
    assert lines(execution) == ["False"] * 10 + ["[]"]


def test_nothing_can_be_written_anywhere():
    script = """
        import os
        places = ["/"] + [os.path.join(top, name) for top in ("/", "/dev", "/proc", "/usr") for name in os.listdir(top)]
        places += ["/tmp", "/dev/shm", "/dev/mqueue", "/var/tmp", os.getcwd(), os.path.dirname(os.__file__), "/proc/1"]
        ways = [lambda p: open(p + "/new", "w"), lambda p: os.mkdir(p + "/new"),
                lambda p: os.symlink("/etc", p + "/new"),
                lambda p: os.link("/sandbox_entry.py", p + "/new"), lambda p: os.mknod(p + "/new", 0o20666, 259),
                lambda p: os.mkfifo(p + "/new"), lambda p: os.chmod(p, 0o777), lambda p: os.rename(p, p + "new"),
                lambda p: os.unlink(p), lambda p: os.truncate(p, 0) if os.path.isfile(p) else 1 / 0]
        for place in places:
            for number, way in enumerate(ways):
                try:
                    way(place)
                    print(place, number)
                except (OSError, ZeroDivisionError):
                    pass
    """
    execution = run(script, stdin=b"not empty")
    # chmod works on what is the sandbox's alone: its pipe, its sealed input, its terminals.
    own = {f"/dev/{name} 6" for name in ("stdin", "stdout", "stderr", "ptmx", "pts")}
    assert set(lines(execution)) <= own


def test_what_the_grader_sends_cannot_be_changed():
    execution = run(
        """
        import mmap, os
        ways = [lambda: os.pwrite(0, b"forged", 0), lambda: os.ftruncate(0, 0), lambda: os.ftruncate(0, 10**6),
                lambda: mmap.mmap(0, 0), lambda: os.write(os.open("/dev/stdin", os.O_RDWR), b"forged"),
                lambda: open("/sandbox_entry.py", "a"), lambda: open("/proc/self/fd/0", "w")]
        for way in ways:
            try:
                way()
                print("changed")
            except OSError:
                pass
        print(input())
        """,
        stdin=b"as sent",
    )
    assert lines(execution) == ["as sent"]


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def test_of_an_interpreter_in_a_home_no_other_file_of_the_home_is_there(tmp_path):
    """It is this one, installed as by `./configure --prefix=$HOME`, with secrets beside and among its files."""
    home, library = tmp_path / "home", Path("lib", f"python{sysconfig.get_python_version()}")
    executable = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    for folder in ("bin", library, library / "site-packages", ".ssh", "lib/private"):
        (home / folder).mkdir(parents=True)
    shutil.copy(executable, home / "bin")
    left_out = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "ensurepip", "lib2to3")
    shutil.copytree(Path(os.__file__).parent, home / library, False, left_out, link_or_copy, dirs_exist_ok=True)
    for part in executable.parents[1].glob("lib/libpython*"):
        (home / "lib" / part.name).symlink_to(part)
    secret = [home / path for path in (".ssh/id_rsa", "lib/private/token", "notes", library / "site-packages/url.json")]
    for file in secret:
        file.write_text("secret")
    script = f"""
import os, sys
print(*[path for path in {[str(file) for file in secret]} if os.path.exists(path)])
print(*sorted(os.listdir({str(home)!r})), *sorted(os.listdir({str(home / "lib")!r})), flush=True)
import ctypes, decimal, json, sqlite3, ssl, numpy, sortedcontainers
print(sys.prefix, numpy.linalg.inv(numpy.eye(2))[0, 0])
"""
    run_it = (
        "import sys\nfrom balanced_agg.rewards.sandbox import *\ncheck_sandbox()\n"
        "sys.stdout.buffer.write(execute(sys.argv[1], b'', Limits(60.0)).output)"
    )
    done = subprocess.run(
        [home / "bin" / executable.name, "-c", run_it, script],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    there, listed, works, _ = done.stdout.split("\n")
    assert (there, works) == ("", f"{home} 1.0"), done.stderr
    assert listed.startswith("bin lib ") and "private" not in listed
