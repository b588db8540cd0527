"""The system calls that a sandboxed program does without, as a seccomp filter.

What the filter leaves is one process with threads: no second process, no network, no namespace of its own, no look
into another process, and no memory outside its address space, which RLIMIT_AS bounds.
"""

import errno
import platform
import struct

# Numbers of Linux's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_FORKS = {"x86_64": [57, 58], "aarch64": []}  # fork, vfork
_DENIED = [  # name, x86_64, aarch64
    ("unshare", 272, 97),
    ("setns", 308, 268),
    ("ptrace", 101, 117),
    ("process_vm_readv", 310, 270),
    ("process_vm_writev", 311, 271),
    ("pidfd_open", 434, 434),
    ("pidfd_getfd", 438, 438),
    ("memfd_create", 319, 279),
    ("memfd_secret", 447, 447),
    ("shmget", 29, 194),
    ("semget", 64, 190),
    ("msgget", 68, 186),
    ("mq_open", 240, 180),
    ("socket", 41, 198),
    ("bpf", 321, 280),
    ("perf_event_open", 298, 241),
    ("userfaultfd", 323, 282),
    ("io_uring_setup", 425, 425),
    ("add_key", 248, 217),
    ("request_key", 249, 218),
    ("keyctl", 250, 219),
]

MACHINES = list(_AUDIT_ARCH)

_CLONE_THREAD = 0x10000
_X32_BIT = 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; both architectures are little-endian
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def seccomp_filter() -> bytes:
    """The filter for this machine, one of MACHINES, as an array of struct sock_filter."""
    machine = platform.machine()
    denied = _FORKS[machine] + [x86_64 if machine == "x86_64" else aarch64 for _, x86_64, aarch64 in _DENIED]
    steps = [
        _step(_LOAD, _ARCH),
        _step(_JUMP_EQUAL, _AUDIT_ARCH[machine], if_true=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_JUMP_AT_LEAST, _X32_BIT, if_false=1),
        _step(_RETURN, _KILL),
        # A filter cannot read clone3's flags, which lie in memory; told ENOSYS, libc starts threads by clone.
        _step(_JUMP_EQUAL, _CLONE3, if_false=1),
        _step(_RETURN, _ERROR | errno.ENOSYS),
    ]
    for number in denied:
        steps += [_step(_JUMP_EQUAL, number, if_false=1), _step(_RETURN, _ERROR | errno.EPERM)]
    steps += [
        _step(_JUMP_EQUAL, _CLONE[machine], if_false=3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_JUMP_BITS, _CLONE_THREAD, if_true=1),
        _step(_RETURN, _ERROR | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(steps)
