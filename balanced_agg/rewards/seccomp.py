"""The system calls that a sandboxed program may use, as a seccomp filter: what Python needs, and no other.

What the filter leaves is one process with threads that share one table of descriptors: no second process, no network,
no namespace of its own, no look into another process, no lock on a file or news of it, and no memory that RLIMIT_AS
does not count. Calls that hold memory elsewhere are not in the list (memory files, vmsplice, io_uring, message queues,
locks, watches); those that can are in it with the arguments that do not.
"""

import errno
import platform
import struct

# Name, number on x86_64, number on aarch64: Linux's arch/x86/entry/syscalls/syscall_64.tbl and
# include/uapi/asm-generic/unistd.h.
_ALLOWED = """
read 0 63, readv 19 65, pread64 17 67, preadv 295 69, write 1 64, writev 20 66, pwrite64 18 68, pwritev 296 70,
lseek 8 62, close 3 57, open 2 -, openat 257 56, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291,
access 21 -, faccessat 269 48, readlink 89 -, readlinkat 267 78, getdents 78 -, getdents64 217 61, getcwd 79 17,
chdir 80 49, fchdir 81 50, dup 32 23, dup2 33 -, dup3 292 24, statfs 137 43, fstatfs 138 44, umask 95 166,

pipe 22 -, pipe2 293 59, eventfd2 290 19, poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -,
epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, sendto 44 206, recvfrom 45 207,
shutdown 48 210, getsockname 51 204, getpeername 52 205, getsockopt 55 209,

brk 12 214, munmap 11 215, mremap 25 216, mprotect 10 226, msync 26 227,

futex 202 98, set_robust_list 273 99, rseq 334 293, set_tid_address 218 96, gettid 186 178, sched_yield 24 124,
sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120, sched_get_priority_max 146 125,
sched_get_priority_min 147 126, getcpu 309 168, membarrier 324 283, exit 60 93, exit_group 231 94,

rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigtimedwait 128 137,
rt_sigsuspend 130 133, sigaltstack 131 132, restart_syscall 219 128, kill 62 129, tkill 200 130, tgkill 234 131,
pause 34 -, alarm 37 -, getitimer 36 102, setitimer 38 103,

clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169, time 201 -,
times 100 153, getrusage 98 165,

execve 59 221, wait4 61 260, waitid 247 95, getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175,
getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, getpgrp 111 -,
getpgid 121 155, getsid 124 156, getpriority 140 141, getrlimit 97 163, setrlimit 160 164, prlimit64 302 261,
uname 63 160, sysinfo 99 179, getrandom 318 278, arch_prctl 158 -, setgroups 116 159, setresgid 119 149,
setresuid 117 147
"""
_WORD = 0xFFFFFFFF
# CLONE_VM, _FS, _FILES, _SIGHAND and _THREAD: what a thread shares. One with descriptors of its own would have as many
# again as RLIMIT_NOFILE allows.
_THREAD = 0x10F00
_MAP_SHARED_ANONYMOUS, _MAP_HUGETLB = 0x21, 0x40000
_AF_UNIX, _SOCK_STREAM = 1, 1
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_THP_DISABLE = 15, 16, 41
# As above, then the alternatives: of each, all of (number of the argument, mask, value of its lower half under it).
_ALLOWED_WITH = {
    "clone 56 220": [[(0, _THREAD, _THREAD)]],
    # Memory that is shared stays, whole, as long as a page of it is mapped; what is mapped is all that RLIMIT_AS sees.
    "mmap 9 222": [
        [(3, _MAP_SHARED_ANONYMOUS | _MAP_HUGETLB, 0)],
        [(3, _MAP_SHARED_ANONYMOUS | _MAP_HUGETLB, 0x01)],
        [(3, _MAP_SHARED_ANONYMOUS | _MAP_HUGETLB, 0x20)],
    ],
    # MADV_NORMAL, _RANDOM, _SEQUENTIAL, _WILLNEED, _DONTNEED and _FREE: of a huge page, too, a part keeps the whole.
    "madvise 28 233": [[(2, _WORD, advice)] for advice in (0, 1, 2, 3, 4, 8)],
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC and F_GETPIPE_SZ: no locks, no larger pipes.
    "fcntl 72 25": [[(1, _WORD, command)] for command in (0, 1, 2, 3, 4, 1030, 1032)],
    # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX and FIOCLEX
    "ioctl 16 29": [[(1, _WORD, request)] for request in (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)],
    # asyncio needs a pair. It carries no descriptors, since sendmsg is not allowed, and knows no other address.
    "socketpair 53 199": [[(0, _WORD, _AF_UNIX), (1, 0xFF, _SOCK_STREAM)]],
    "prctl 157 167": [
        [(0, _WORD, _PR_SET_NAME)],
        [(0, _WORD, _PR_GET_NAME)],
        [(0, _WORD, _PR_SET_THP_DISABLE), (1, _WORD, 1)],
    ],
}
# What is newer than Linux 5.1 has the same number everywhere. Told that it does not exist, libc does without: a filter
# cannot read clone3's flags, which lie in memory, and threads are then started by clone.
_NEWER = 424

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = list(_AUDIT_ARCH)

_X32_BIT = 0x40000000

_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; both architectures are little-endian
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _number(call: str) -> int | None:
    """Of "name x86_64 aarch64", what this machine has."""
    number = call.split()[1 + MACHINES.index(platform.machine())]
    return None if number == "-" else int(number)


def _with_arguments(alternatives: list[list[tuple[int, int, int]]]) -> list[bytes]:
    """Steps that return: allowed if all conditions of one of these alternatives hold."""
    steps = []
    for conditions in alternatives:
        for index, (argument, mask, value) in enumerate(conditions, 1):
            past_this_alternative = 3 * (len(conditions) - index) + 1
            steps += [
                _step(_LOAD, _ARGUMENTS + 8 * argument),
                _step(_AND, mask),
                _step(_JUMP_EQUAL, value, if_false=past_this_alternative),
            ]
        steps.append(_step(_RETURN, _ALLOW))
    return [*steps, _step(_RETURN, _ERROR | errno.EPERM)]


def seccomp_filter() -> bytes:
    """The filter for this machine, one of MACHINES, as an array of struct sock_filter."""
    steps = [
        _step(_LOAD, _ARCH),
        _step(_JUMP_EQUAL, _AUDIT_ARCH[platform.machine()], if_true=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_JUMP_AT_LEAST, _X32_BIT, if_false=1),
        _step(_RETURN, _KILL),
        _step(_JUMP_AT_LEAST, _NEWER, if_false=1),
        _step(_RETURN, _ERROR | errno.ENOSYS),
    ]
    for call, alternatives in _ALLOWED_WITH.items():
        returns = _with_arguments(alternatives)
        steps += [_step(_JUMP_EQUAL, _number(call), if_false=len(returns)), *returns]
    for number in filter(lambda number: number is not None, map(_number, _ALLOWED.split(","))):
        steps += [_step(_JUMP_EQUAL, number, if_false=1), _step(_RETURN, _ALLOW)]
    return b"".join([*steps, _step(_RETURN, _ERROR | errno.EPERM)])
