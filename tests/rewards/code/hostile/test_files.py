"""A hostile program reads and writes no file of this machine."""

import secrets
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
