"""A hostile program has the system calls that are listed, with the arguments that are listed, and no others."""

import os
import re
from pathlib import Path

import pytest

from balanced_agg.rewards import sandbox, seccomp
from tests.rewards.code.hostile.outside import lines, run
from tests.rewards.code.hostile.programs import CALL

TABLE = [call.split() for call in [*seccomp._ALLOWED.split(","), *seccomp._ALLOWED_WITH]]
# Where Debian and Fedora have the kernel's own numbers.
HEADERS = {
    "x86_64": ["/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"],
    "aarch64": ["/usr/include/asm-generic/unistd.h"],
}
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")


@pytest.mark.parametrize("machine", HEADERS)
def test_the_numbers_are_the_kernels(machine):
    header = next((path for path in map(Path, HEADERS[machine]) if path.exists()), None)
    if header is None:
        pytest.skip("the kernel's headers are not installed")
    known = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    known.setdefault("newfstatat", known.get("fstatat"))
    column = 1 + seccomp.MACHINES.index(machine)
    listed = {call[0]: call[column] for call in TABLE if call[column] != "-"}
    assert len(listed) > 100
    assert listed == {name: known[name] for name in listed}
    # What one machine has and the other has not are older calls that do what a newer one of the list does.
    assert all(call[column] == "-" for call in TABLE if call[0] not in known)


def test_no_call_is_listed_twice():
    for column in (0, 1, 2):
        listed = [call[column] for call in TABLE if call[column] != "-"]
        assert len(set(listed)) == len(listed)


def test_every_call_that_is_not_listed_is_refused():
    """All numbers that the kernel has or may have, without arguments; what exists would do something or say why not."""
    column = 1 + seccomp.MACHINES.index(os.uname().machine)
    listed = {int(call[column]) for call in TABLE if call[column] != "-"}
    # x86_64's uretprobe and uprobe, which no filter sees: the kernel itself ends a process that was not told to call.
    asked = set(range(700)) - listed - {335, 336}
    output = lines(run(CALL + f"for number in {asked}: print(number, call(number, *6 * [0]))"))
    answers = {int(number): answer for number, answer in map(str.split, output)}
    assert set(answers) == asked
    assert {answer for number, answer in answers.items() if number < 424} == {"EPERM"}
    assert {answer for number, answer in answers.items() if number >= 424} == {"ENOSYS"}


@x86_64
@pytest.mark.parametrize(
    ("allowed", "refused"),
    [
        # clone: CLONE_VM | FS | FILES | SIGHAND | THREAD; a thread without one of them fails otherwise than by EPERM
        (None, ["56, 17", "56, 0x10b00", "56, 0x10900", "56, 0x100, 0", "56, 0x4111, 0"]),
        # mmap: private or of a file; not shared and anonymous, not MAP_SHARED_VALIDATE, not MAP_HUGETLB
        ("9, 0, 4096, 3, 0x22, -1, 0", ["9, 0, 4096, 3, 0x21, -1, 0", "9, 0, 4096, 1, 0x23, -1, 0"]),
        ("9, 0, 4096, 1, 0x01, 0, 0", ["9, 0, 2097152, 3, 0x40022, -1, 0", "9, 0, 2097152, 3, 0x40001, 0, 0"]),
        # madvise: MADV_DONTNEED; not _REMOVE, _MERGEABLE, _HUGEPAGE, _COLLAPSE, _HWPOISON
        ("28, 0, 0, 4", [f"28, 0, 0, {advice}" for advice in (9, 12, 14, 25, 100)]),
        # fcntl: F_GETFD, F_GETPIPE_SZ; no locks, leases, notices, owners, larger pipes, seals
        ("72, 0, 1", [f"72, 0, {n}, 0" for n in (5, 6, 7, 8, 9, 10, 15, 36, 37, 38, 1024, 1025, 1026, 1031, 1033)]),
        # ioctl: FIONREAD; not TIOCSTI, TIOCSCTTY, FIOASYNC, FS_IOC_SETFLAGS, FICLONE
        ("16, 0, 0x541B, BUFFER", [f"16, 0, {n}" for n in (0x5412, 0x540E, 0x5452, 0x40086602, 0x40049409)]),
        # socketpair: AF_UNIX streams; not AF_INET, AF_NETLINK, datagrams, sequenced packets
        ("53, 1, 0x80801, 0, BUFFER", [f"53, {kind}, 0, 0" for kind in ("2, 1", "16, 3", "1, 2", "1, 5")]),
        # prctl: names, and huge pages off but not on; not PR_SET_DUMPABLE, _SECCOMP, _NO_NEW_PRIVS, _MM, _PTRACER
        ("157, 15, b'name'", [f"157, {n}, 1, 0, 0, 0" for n in (1, 4, 22, 35, 38, 0x59616D61)]),
        ("157, 41, 1, 0, 0, 0", ["157, 41, 0, 0, 0, 0", "157, 41, 1 << 32, 0, 0, 0"]),
    ],
)  # fmt: skip
def test_a_call_is_refused_with_arguments_that_are_not_listed(allowed, refused):
    output = lines(run(CALL + "\n".join(f"print(call({call}))" for call in refused), stdin=b"content"))
    assert output == ["EPERM"] * len(refused)
    if allowed:
        (answer,) = lines(run(CALL + f"BUFFER = (ctypes.c_int * 2)()\nprint(call({allowed}))", stdin=b"content"))
        assert answer != "EPERM"


def test_a_sandbox_has_no_huge_pages_unless_the_machine_has_none_unasked(monkeypatch):
    script = CALL + "print(*[line for line in open('/proc/self/status') if line.startswith('THP')])"
    monkeypatch.setattr(sandbox, "_huge_pages_unasked", lambda: True)
    assert [line for line in lines(run(script)) if line] in (["THP_enabled:\t0"], [])  # Linux says so since 5.0
