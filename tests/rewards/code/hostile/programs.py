"""Hostile programs, one of each kind: what it is after, and the text. Where it succeeds it prints a line with GOT.

A text may name what a test has put on this machine: @SECRET_FILE@, @PORT@ and @ABSTRACT@ (where it listens), @PID@ (a
process of this machine), @FOLDER@ (where this package lies). `CALL` gives it system calls past Python and libc.
"""

import textwrap
from dataclasses import dataclass

CALL = """
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result
def got(number, *args):
    answer = call(number, *args)
    if not isinstance(answer, str):
        print("GOT", number, answer, flush=True)
    return answer
"""
MAPS = """
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
FAILED = 2**64 - 1
"""


@dataclass(frozen=True)
class Hostile:
    """A program, the function of it that is called, if one is, and whether it can do no harm but for x86_64."""

    aim: str
    text: str
    fn_name: str | None = None
    x86_64: bool = False


def _program(aim: str, text: str, *before: str, **options) -> Hostile:
    return Hostile(aim, "\n".join([*before, textwrap.dedent(text)]), **options)


PROGRAMS = {
    # --- to score
    "prints verdicts": _program(
        "to be taken for the grader",
        """
        for text in ("ready", "True", "passed", '{"output": "", "completed": true}', "1.0", "[[1]]"):
            print(text, flush=True)
        """,
    ),
    "writes to all descriptors": _program(
        "to find a channel that carries verdicts",
        """
        import os
        for descriptor in range(1024):
            for text in (b"ready\\n", b"true\\n", b"\\0" * 64):
                try:
                    os.write(descriptor, text)
                except OSError:
                    pass
        """,
    ),
    "prints every answer": _program(
        "to have the right one among others",
        """
        for number in range(200_000):
            print(number, hex(number)[2:])
        """,
    ),
    "prints no number": _program(
        "to be equal to any, or to break the comparison",
        """
        print("nan inf -inf sNaN 1e9999999999 0x10 ١٢ 1_0", "9" * 100_000, "1e-400", "--5", "\\x00", "\\ud7ff")
        """,
    ),
    "returns what equals all": _program(
        "to pass a comparison in its own process",
        """
        class Everything(str):
            __eq__ = lambda self, other: True
            __ne__ = lambda self, other: False
            __hash__ = str.__hash__
        def f(x):
            return Everything("?")
        """,
        fn_name="f",
    ),
    "returns what serializes as it likes": _program(
        "to answer in place of the harness",
        """
        class Answer(dict):
            def __iter__(self): return iter(["true"])
            def items(self): return [("passed", True)]
            def item(self): return True
        def f(x):
            return {"answer": Answer(a=1), "more": object.__new__(type("Scalar", (), {"item": lambda self: "*"}))}
        """,
        fn_name="f",
    ),
    "patches what the harness uses": _program(
        "to have it answer something else",
        """
        import builtins, io, json, os, sys
        json.dumps = json.JSONEncoder.encode = lambda *args, **kwargs: "true"
        json.loads = lambda *args, **kwargs: []
        os.fdopen = os.dup = os.dup2 = lambda *args, **kwargs: open(1, "w")
        builtins.getattr = lambda *args: lambda *more: True
        sys.modules["json"] = sys.modules["os"] = None
        def f(x):
            return "?"
        """,
        fn_name="f",
    ),
    "rewrites the frames above": _program(
        "to change the code that called it",
        """
        import gc, sys, types
        frame = sys._getframe()
        while frame:
            for name, value in list(frame.f_globals.items()):
                if isinstance(value, types.FunctionType):
                    value.__code__ = (lambda *args, **kwargs: True).__code__
            frame = frame.f_back
        for thing in gc.get_objects():
            if isinstance(thing, dict) and any(thing.get(name) for name in ("expected", "outputs", "ground_truth")):
                print("GOT", thing)
        """,
    ),
    "ends in peace before it answers": _program("to fail no check", "import os\nos._exit(0)"),
    "answers while it ends": _program(
        "to write after it was judged",
        """
        import atexit, sys, threading, time
        class Late:
            def __del__(self): sys.__stdout__.write("true")
        sys.late = Late()
        atexit.register(print, "true")
        threading.Thread(target=lambda: (time.sleep(0.2), print("true"))).start()
        """,
    ),
    "becomes another program": _program(
        "to be judged by that one's exit status",
        """
        import os, sys
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "print(True)"])
        """,
    ),
    "ends its harness": _program(
        "to leave a grader without a verdict",
        """
        import os, signal
        for pid in (os.getppid(), 1, -1, os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        """,
    ),
    "waits for its second test": _program(
        "to answer it with what the first one showed",
        """
        import glob, os, sys
        given = sys.stdin.read()
        for folder in ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run", "/packages", "/proc/self/fd", "."):
            for path in glob.glob(folder + "/kept*"):
                print("GOT", open(path).read())
            try:
                with open(folder + "/kept", "x") as file:
                    file.write(given)
                print("GOT a place", folder)
            except OSError:
                pass
        """,
    ),
    "stays for its second test": _program(
        "to be there when that is graded",
        """
        import os, threading, time
        for leave in (os.fork, os.forkpty, lambda: os.posix_spawn("/usr/bin/sleep", ["sleep", "9"], {})):
            try:
                print("GOT", leave())
            except OSError:
                pass
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        """,
    ),
    # --- to read what it should not
    "reads its own memory": _program(
        "to find the expected answer in it",
        """
        import re
        with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
            for line in maps:
                low, high = (int(word, 16) for word in line.split()[0].split("-"))
                try:
                    memory.seek(low)
                    text = memory.read(min(high - low, 2**24))
                except (OSError, ValueError, OverflowError):
                    continue
                for found in re.findall(rb'"outputs"[^\\0]{0,80}|expected-[0-9a-f]{8,}', text):
                    print(found)
        """,
    ),
    "reads its descriptors again": _program(
        "to find inputs of other tests, or the filter",
        """
        import os
        for name in os.listdir("/proc/self/fd"):
            for path in ("/proc/self/fd/", "/dev/fd/"):
                try:
                    target = os.readlink(path + name)
                    again = os.open(path + name, os.O_RDONLY | os.O_NONBLOCK)
                    text = os.pread(again, 10**6, 0)
                except OSError:
                    continue
                print(name, target, text)
        """,
    ),
    "reads files of this machine": _program(
        "to find secrets",
        """
        import os
        known = ["@SECRET_FILE@", "@FOLDER@", "/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/ssl", "/home"]
        known += ["/root/.ssh", "/root/.netrc", "/var/lib", "/var/log", "/run", "/sys", "/boot", "/mnt", "/proc/1/root"]
        for path in known:
            for way in (path, "/proc/self/root" + path, "/proc/self/cwd/.." + path, "/lib/../.." + path):
                if os.path.exists(way) and (os.path.isfile(way) or os.listdir(way)):
                    print("GOT", way)
        """,
    ),
    "reads around the interpreter": _program(
        "to find what lies in its prefix",
        """
        import os, sys
        needed = {"bin", "lib", "lib64"}
        top = sys.prefix
        if top not in ("/usr", "/"):
            print(*("GOT " + name for name in os.listdir(top) if name not in needed))
        for folder in sys.path + [top + "/lib", top + "/bin"]:
            for name in ("site-packages", "dist-packages", "pkgconfig"):
                path = os.path.join(folder, name)
                if os.path.isdir(path) and os.listdir(path):
                    print("GOT", path)
        """,
    ),
    "reads other processes": _program(
        "to find their secrets",
        """
        import os
        for pid in {*filter(str.isdigit, os.listdir("/proc")), "1", "@PID@", "self/task/1"} - {str(os.getpid())}:
            for name in ("environ", "cmdline", "maps", "mem", "fd", "root", "cwd", "status", "task"):
                if os.path.lexists(f"/proc/{pid}/{name}"):
                    print("GOT", pid, name)
        """,
    ),
    "reads facts about this machine": _program(
        "to know where it is",
        """
        import os, socket
        for folder, _, names in os.walk("/proc"):
            parts = folder.split("/")
            if len(parts) > 2 and (parts[2].isdigit() or parts[2] in ("self", "thread-self", "net")):
                continue
            for name in names:
                path = os.path.join(folder, name)
                try:
                    if not os.path.islink(path) and open(path, "rb").read(1):
                        print("GOT", path)
                except OSError:
                    pass
        if os.uname().nodename != "sandbox" or socket.gethostname() != "sandbox":
            print("GOT", os.uname())
        """,
    ),
    "looks into another process": _program(
        "to read or steer it by debugging calls",
        """
        got(101, 16, 1), got(101, 0x4206, 1)  # ptrace
        got(310, 1, 0, 0, 0, 0, 0), got(311, 1, 0, 0, 0, 0, 0)  # process_vm_readv, process_vm_writev
        got(312, 1, os.getpid(), 0, 0, 0)  # kcmp
        got(434, 1, 0), got(438, 3, 0, 0), got(448, 3, 0, 0, 0, 0)  # pidfd_open, pidfd_getfd, process_mrelease
        """,
        CALL,
        x86_64=True,
    ),
    "opens files past paths": _program(
        "to reach by handle or descriptor what no path leads to",
        """
        handle = ctypes.create_string_buffer(b"\\x80\\0\\0\\0", 256)
        mount = ctypes.c_int()
        for path in (b"/", b"/usr/lib", b"/proc", b"/dev"):
            got(303, -100, path, handle, ctypes.byref(mount), 0)  # name_to_handle_at
        root = os.open("/", os.O_RDONLY)
        got(304, root, handle, 0), got(437, root, handle, 0, 0)  # open_by_handle_at, openat2
        for up in ("../" * 40 + "etc/shadow", "../" * 40 + "home"):
            try:
                print("GOT", os.open(up, os.O_RDONLY, dir_fd=root))
            except OSError:
                pass
        got(161, b"/usr"), got(155, b"/", b"/")  # chroot, pivot_root
        got(428, -100, b"/", 1), got(442, root, b"", 0, 0, 0)  # open_tree, mount_setattr
        """,
        CALL,
        x86_64=True,
    ),
    "asks for keys": _program(
        "to read keyrings",
        """
        got(250, 0, -3, 1), got(250, 11, -3, 0, 0)  # keyctl: get a keyring, read it
        got(249, b"user", b"x", 0, -3), got(248, b"user", b"x", b"x", 1, -3)  # request_key, add_key
        try:
            print("GOT", open("/proc/keys").read())
        except OSError:
            pass
        """,
        CALL,
        x86_64=True,
    ),
    "asks for shared memory": _program(
        "to find that of other programs",
        """
        from multiprocessing import shared_memory
        got(29, 0, 4096, 0o1600), got(30, 0, 0, 0), got(31, 0, 13, 0)  # shmget, shmat, shmctl
        got(64, 0, 1, 0o1600), got(68, 0, 0o1600), got(240, b"queue", 0o102, 0o600, 0)  # semget, msgget, mq_open
        try:
            print("GOT", shared_memory.SharedMemory(create=True, size=4096).name)
        except OSError:
            pass
        """,
        CALL,
        x86_64=True,
    ),
    # --- to reach others
    "connects by TCP": _program(
        "to reach servers",
        """
        import socket, urllib.request
        ways = [lambda: socket.getaddrinfo("example.org", 80), lambda: socket.gethostbyname("localhost.localdomain."),
                lambda: urllib.request.urlopen("http://127.0.0.1:@PORT@", timeout=1)]
        for host, port in (("127.0.0.1", @PORT@), ("::1", @PORT@), ("0.0.0.0", @PORT@), ("169.254.169.254", 80)):
            ways.append(lambda host=host, port=port: socket.create_connection((host, port), 1))
        for way in ways:
            try:
                print("GOT", way())
            except OSError:
                pass
        """,
    ),
    "connects by UNIX sockets": _program(
        "to reach servers on this machine",
        """
        import socket
        one, other = socket.socketpair()
        for address in ("@ABSTRACT@", "/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/systemd/private"):
            for attempt in (lambda: socket.socket(socket.AF_UNIX).connect(address), lambda: one.connect(address),
                            lambda: one.bind(address + "2"), lambda: one.sendto(b"x", address),
                            lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", address),
                            lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0].connect(address)):
                try:
                    attempt()
                    print("GOT", address)
                except OSError:
                    pass
        """.replace("@ABSTRACT@", "\\0@ABSTRACT@"),
    ),
    "makes sockets of all families": _program(
        "to find one that is forgotten",
        """
        import socket
        for family in range(50):
            for kind in (1, 2, 3, 5, 10):
                for make in (socket.socket, socket.socketpair):
                    try:
                        made = make(family, kind)
                    except OSError:
                        continue
                    if (make, family, kind) != (socket.socketpair, socket.AF_UNIX, socket.SOCK_STREAM):
                        print("GOT", family, kind, made)
        """,
    ),
    "calls as a 32-bit program": _program(
        "to pass the filter by other numbers",
        """
        import mmap
        page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))  # mov eax, getpid; int 0x80; ret
        print("GOT", ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
        """,
        CALL,
        x86_64=True,
    ),
    "calls by x32 numbers": _program(
        "to pass the filter by other numbers", "got(0x40000000 + 41, 2, 1, 0)", CALL, x86_64=True
    ),
    "queues its calls": _program(
        "to have the kernel make calls that the filter does not see",
        """
        setup = ctypes.create_string_buffer(256)
        got(425, 8, setup)
        got(206, 8, ctypes.byref(ctypes.c_ulong()))
        """,
        CALL,
        x86_64=True,
    ),
    # --- to have or steer more than its process
    "forks without end": _program(
        "to have more processes than can be counted",
        """
        import multiprocessing, subprocess
        ways = (os.fork, os.forkpty, lambda: subprocess.Popen(["/usr/bin/sleep", "9"]).pid,
                lambda: os.posix_spawn("/usr/bin/sleep", ["sleep", "9"], {}),
                lambda: multiprocessing.get_context("spawn").Process(target=print).start())
        for _ in range(30):
            for way in ways:
                try:
                    print("GOT", way())
                except OSError:
                    pass
        for number in (56, 57, 58, 435):
            for flags in (0, 17, 0x100, 0x4111, 0x200, 0x8000, 0x10000000 | 17, 0x20000000 | 17):
                got(number, flags, 0, 0, 0, 0)
        """,
        CALL,
        x86_64=True,
    ),
    "starts threads without end": _program(
        "to have more threads than can be counted",
        """
        import threading, time
        threading.stack_size(2**15)
        started = 0
        try:
            while started < 5000:
                threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
                started += 1
        except RuntimeError:
            pass
        if started > 64:
            print("GOT", started)
        """,
    ),
    "hides": _program(
        "to be there when its sandbox is gone",
        """
        import ctypes, os, signal, time
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        libc = ctypes.CDLL(None)
        for leave in (os.setsid, os.setpgrp, lambda: libc.prctl(1, 0), lambda: libc.daemon(0, 0)):
            try:
                leave()
            except OSError:
                pass
        os.closerange(0, 4096)
        while True:
            time.sleep(600)
        """,
    ),
    "stops itself": _program(
        "never to end",
        """
        import os, signal
        os.kill(os.getpid(), signal.SIGSTOP)
        """,
    ),
    "signals everybody": _program(
        "to end or stop other processes",
        """
        import os, signal
        for pid in {*range(1, 2000), @PID@, -@PID@} - {os.getpid()}:
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                except OSError:
                    continue
                if pid > 2:
                    print("GOT", pid)
        """,
    ),
    "makes a world of its own": _program(
        "to have rights in a new namespace",
        """
        for flags in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x400, 0x10020000):
            got(272, flags)  # unshare
        for name in ("user", "mnt", "net", "pid", "uts", "ipc", "cgroup"):
            try:
                got(308, os.open("/proc/self/ns/" + name, os.O_RDONLY), 0)  # setns
            except OSError:
                pass
        got(165, b"none", b"/dev", b"tmpfs", 0, 0), got(165, b"/", b"/", 0, 0x1020, 0)  # mount, also to write
        got(166, b"/proc/1", 2), got(166, b"/dev/zero", 2)  # umount2 of what covers
        got(430, b"tmpfs", 0), got(429, -100, b"/", -100, b"/", 0)  # fsopen, move_mount
        """,
        CALL,
        x86_64=True,
    ),
    "asks to be root": _program(
        "to have rights",
        """
        changes = [os.setuid, os.setgid, os.seteuid, os.setegid]
        for change in [*changes, lambda i: os.setresuid(i, i, i), lambda i: os.setgroups([i])]:
            try:
                change(0)
                print("GOT", os.getresuid(), os.getresgid(), os.getgroups())
            except OSError:
                pass
        libc.capset(b"\\x22\\x05\\x08\\x20" + bytes(4), b"\\xff" * 24)
        with open("/proc/self/status") as status:
            rights = {line.split(":")[0]: int(line.split()[1], 16) for line in status if line.startswith("Cap")}
        if any(rights[name] for name in ("CapEff", "CapPrm", "CapAmb")) or os.getuid() == 0:
            print("GOT", rights)
        if any(not os.statvfs(folder).f_flag & os.ST_NOSUID for folder in ("/", "/usr/lib", "/lib", "/dev", "/proc")):
            print("GOT programs that change the user")
        """,
        CALL,
    ),
    "raises its limits": _program(
        "to have more memory, time and threads",
        """
        import os, resource
        for name in [name for name in dir(resource) if name.startswith("RLIMIT_")]:
            number = getattr(resource, name)
            soft, hard = resource.getrlimit(number)
            if hard in (resource.RLIM_INFINITY, 0):
                continue
            for pid in (0, os.getpid()):
                try:
                    resource.prlimit(pid, number, (hard + 1, hard + 1))
                    print("GOT", name)
                except (OSError, ValueError, OverflowError):
                    pass
        for name in ("AS", "CPU", "NOFILE", "NPROC", "STACK", "CORE"):
            if resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] == resource.RLIM_INFINITY:
                print("GOT no limit", name)
        """,
    ),
    "filters its own calls": _program(
        "to replace the filter, to answer it itself, or to fill the kernel with filters",
        """
        allow_all = ctypes.create_string_buffer(bytes.fromhex("060000000000ff7f"), 8)
        program = (ctypes.c_size_t * 2)(1, ctypes.addressof(allow_all))
        got(317, 1, 0, program), got(317, 1, 8, program), got(317, 0, 0, 0), got(157, 22, 2, program)  # seccomp
        got(321, 0, 0, 0), got(298, 0, 0, 0, 0, 0), got(323, 1), got(444, 0, 0, 1)  # bpf, perf, userfaultfd, landlock
        """,
        CALL,
        x86_64=True,
    ),
    "changes this machine": _program(
        "to stop it, or to change its clock, names and swap",
        """
        import time
        got(169, -18751047, 672274793, 0x1234567), got(162), got(306, 0)  # reboot, sync, syncfs
        got(170, b"x", 1), got(171, b"x", 1), got(164, 0, 0), got(227, 0, bytes(16)), got(159, 0)  # names and clocks
        got(167, b"/dev/full", 0), got(163, b"/dev/null"), got(133, b"/x", 0o60666, 2048)  # swapon, acct, mknod
        got(175, 0, 0, 0), got(103, 5, 0, 0), got(153), got(172, 3)  # init_module, syslog, vhangup, iopl
        try:
            time.clock_settime(time.CLOCK_REALTIME, 0)
            print("GOT the clock")
        except OSError:
            pass
        """,
        CALL,
        x86_64=True,
    ),
    "puts itself first": _program(
        "to take time from other programs",
        """
        import os
        for attempt in (lambda: os.setpriority(os.PRIO_PROCESS, 0, -20), lambda: os.nice(-5),
                        lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)),
                        lambda: os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1)),
                        lambda: os.sched_setaffinity(0, range(os.sysconf("SC_NPROCESSORS_CONF")))):
            try:
                attempt()
                print("GOT", os.sched_getscheduler(0), os.sched_getaffinity(0))
            except OSError:
                pass
        """,
    ),
    "watches files of this machine": _program(
        "to see what others do, and to use up what one user may watch",
        """
        for number in (253, 294, 300):
            got(number, 0, 0)
        import fcntl
        for folder in ("/usr/lib", "/dev", os.path.dirname(os.__file__)):
            try:
                fcntl.fcntl(os.open(folder, os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT)
                print("GOT", folder)
            except OSError:
                pass
        """,
        CALL,
        x86_64=True,
    ),
    "locks files of this machine": _program(
        "to have others wait, and to fill the kernel with locks",
        """
        import fcntl, os
        for path in (os.__file__, "/usr/lib", "/etc/ld.so.cache", "/sandbox_entry.py", "/dev/null"):
            file = os.open(path, os.O_RDONLY)
            for attempt in (
                lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), lambda: fcntl.flock(file, fcntl.LOCK_SH),
                lambda: fcntl.lockf(file, fcntl.LOCK_SH, 1, 7), lambda: fcntl.fcntl(file, 37, bytes(32)),
                lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, 0), lambda: fcntl.fcntl(file, fcntl.F_SETOWN, 1),
            ):
                try:
                    attempt()
                    print("GOT", path)
                except OSError:
                    pass
        """,
    ),
    "changes files of this machine": _program(
        "to leave something behind",
        """
        import os
        module = os.__file__
        places = ["/", "/usr/lib", "/etc", "/dev", "/proc", "/packages", "/sandbox_entry.py"]
        for place in [*places, module, os.path.dirname(module)]:
            new = place + "/new"
            for number, way in enumerate([
                lambda: open(place, "a"), lambda: os.chmod(place, 0o777), lambda: os.chown(place, 0, 0),
                lambda: os.unlink(place), lambda: os.rename(place, place + "2"), lambda: os.truncate(place, 0),
                lambda: os.setxattr(place, "user.x", b"x"), lambda: os.open(place, os.O_RDWR | os.O_TMPFILE),
                lambda: os.utime(place),
                lambda: open(new, "w"), lambda: os.mkdir(new), lambda: os.symlink("/", new), lambda: os.mkfifo(new),
                lambda: os.link(module, new), lambda: os.mknod(new, 0o20666, 259),
            ]):
                try:
                    way()
                    print("GOT", place, number)
                except OSError:
                    pass
        """,
    ),
    "types into terminals": _program(
        "to have a user's shell run something",
        """
        import fcntl, glob, os, termios
        for path in ("/dev/tty", "/dev/console", "/dev/ptmx", *glob.glob("/dev/pts/*"), "/dev/stdin", "/dev/stdout"):
            try:
                terminal = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            except OSError:
                continue
            for request in (termios.TIOCSTI, termios.TIOCSCTTY, 0x541C, 0x5437):
                try:
                    fcntl.ioctl(terminal, request, b"x")
                    print("GOT", path, request)
                except OSError:
                    pass
            if "pt" in path:
                print("GOT", path)
        """,
    ),
    # --- to have more memory than its limit
    "fills its memory": _program(
        "to have the machine run out",
        """
        held = []
        while True:
            held.append(bytearray(2**22))
        """,
    ),
    "fills maps": _program(
        "to have the machine run out",
        """
        import mmap
        held = []
        while True:
            held.append(mmap.mmap(-1, 2**22, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
            held[-1].write(b"x" * 2**22)
        """,
    ),
    "builds one huge value": _program(
        "to have the machine run out",
        """
        def grow():
            text, number = "x", 3
            while True:
                text, number = text + text, number * number
        grow()
        """,
    ),
    "splices pages into pipes": _program(
        "to have memory that is no longer mapped",
        """
        import mmap
        pair = os.pipe()
        got(72, pair[1], 1031, 2**20)
        page = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096)
        got(278, pair[1], vector, 1, 8)
        got(276, pair[0], pair[1], 4096, 0)
        got(275, os.open(os.__file__, os.O_RDONLY), 0, pair[1], 0, 4096, 0)
        got(40, pair[1], os.open(os.__file__, os.O_RDONLY), 0, 4096)
        got(326, os.open(os.__file__, os.O_RDONLY), 0, pair[1], 0, 4096, 0)
        """,
        CALL,
        x86_64=True,
    ),
    "keeps a page of shared memory": _program(
        "to have the rest of it, which is no longer mapped",
        """
        import resource
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        ways = [(0x21, -1), (0x23, -1)]
        for path in ("/dev/zero", "/dev/full", "/dev/null", "/dev/urandom"):
            try:
                ways += [(flags, os.open(path, os.O_RDWR)) for flags in (1, 3)]
            except OSError:
                pass
        for flags, file in ways:
            held = 0
            while held <= limit:
                start = libc.mmap(None, 2**25, 3, flags, file, 0)
                if start == FAILED:
                    break
                ctypes.memset(start, 1, 2**25)
                libc.munmap(start + 4096, 2**25 - 4096, 0)
                held += 2**25
            if held > limit:
                print("GOT", flags, file, held, flush=True)
        """,
        CALL,
        MAPS,
    ),
    "keeps a page of huge ones": _program(
        "to have the rest of it, which is no longer mapped",
        """
        for advice in (14, 25):
            start = libc.mmap(None, 2**22, 3, 0x22, -1, 0)
            inside = -(-start // 2**21) * 2**21
            if libc.madvise(inside, 2**21, advice) == 0:
                print("GOT", advice)
        if libc.mmap(None, 2**21, 3, 0x40022, -1, 0) != FAILED:
            print("GOT pages of the machine's reserve")
        """,
        CALL,
        MAPS,
    ),
    "scatters its pages": _program(
        "to have a page of page tables, or two, for each",
        """
        import resource, time
        for number in range(1, 20_000):
            edge = number * 2**31
            if libc.mmap(edge - 4096, 8192, 1, 0x22, -1, 0) == edge - 4096:
                ctypes.string_at(edge - 4096, 1), ctypes.string_at(edge, 1)
        time.sleep(1)
        tables = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmPTE"))
        if tables > resource.getrlimit(resource.RLIMIT_AS)[0] / 8:
            print("GOT", tables)
        """,
        CALL,
        MAPS,
    ),
    "sends sockets through sockets": _program(
        "to have more of them, with what they hold, than it may have open",
        """
        import array, socket
        carrier = socket.socketpair()[0]
        for _ in range(2000):
            pair = socket.socketpair()
            rights = array.array("i", [one.fileno() for one in pair])
            try:
                carrier.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                print("GOT one in flight")
            except OSError:
                break
        for level, option in ((1, 7), (1, 8), (1, 32), (1, 33)):
            try:
                carrier.setsockopt(level, option, 2**30)
                print("GOT", option)
            except OSError:
                pass
        """,
    ),
    "gives each thread its own files": _program(
        "to have as many pipes and sockets as threads would",
        """
        import threading
        def work():
            for number, *arguments in ((272, 0x400), (436, 1000, 1001, 2), (435, ctypes.create_string_buffer(88), 88)):
                got(number, *arguments)
            for flags in (0x10B00, 0x10900, 0x10100, 0x10A00):
                got(56, flags, 0, 0, 0, 0)
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = []
        try:
            while len(held) < 1000:
                held.append(os.pipe())
        except OSError:
            pass
        if len(held) > 32:
            print("GOT", len(held))
        """,
        CALL,
        x86_64=True,
    ),
    "makes files in memory": _program(
        "to have memory that is not mapped",
        """
        import tempfile
        got(319, b"x", 0), got(319, b"x", 4), got(447, 0)  # memfd_create, also of huge pages, memfd_secret
        for folder in ("/", "/dev", "/dev/shm", "/tmp", "/run", "/packages", "/proc", "."):
            try:
                print("GOT", tempfile.TemporaryFile(dir=folder))
            except OSError:
                pass
        """,
        CALL,
        x86_64=True,
    ),
    "fills the kernel's tables": _program(
        "to use up what all programs of this machine share",
        """
        got(206, 8000, ctypes.byref(ctypes.c_ulong())), got(222, 0, 0, ctypes.byref(ctypes.c_int()))  # io_setup, timers
        got(283, 0, 0), got(282, -1, bytes(8), 8), got(289, -1, bytes(8), 8, 0)  # timerfd_create, signalfd
        got(237, 0, 4096, 0, 0, 0, 0), got(238, 0, 0, 0), got(216, 0, 4096, 0, 0, 0)  # mbind, set_mempolicy
        got(149, 0, 4096), got(151, 1), got(325, 0, 4096, 0)  # mlock, mlockall, mlock2
        """,
        CALL,
        x86_64=True,
    ),
    # --- to have no end
    "writes without end": _program(
        "to fill memory or disk", "import sys\nwhile True:\n    sys.stdout.write('x' * 10**6)"
    ),
    "complains without end": _program(
        "to fill logs or disk", "import sys\nwhile True:\n    sys.stderr.write('x' * 10**6)"
    ),
    "writes a byte at a time": _program(
        "to have the grader wait for the next",
        """
        import sys, time
        while True:
            sys.stdout.write("x")
            sys.stdout.flush()
            time.sleep(0.005)
        """,
    ),
    "closes its output and goes on": _program(
        "to have the grader wait for its end", "import os\nos.closerange(0, 3)\nwhile True:\n    pass"
    ),
    "reads its output back": _program(
        "to have the grader wait for what it has read already",
        """
        import os, time
        back = os.open("/proc/self/fd/1", os.O_RDONLY)
        os.set_blocking(back, False)
        print("true", flush=True)
        while True:
            try:
                os.read(back, 10**6)
            except BlockingIOError:
                time.sleep(0.0001)
        """,
    ),
    "runs without end": _program("to keep a core", "while True:\n    pass"),
    "sleeps without end": _program(
        "to keep a place without using it",
        """
        import threading
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
        """,
    ),
    "runs 63 threads without end": _program(
        "to keep all cores",
        """
        import hashlib, threading
        def work():
            hashlib.pbkdf2_hmac("sha256", b"x", b"x", 10**9)
        for _ in range(62):
            threading.Thread(target=work).start()
        work()
        """,
    ),
    "wakes 63 threads all the time": _program(
        "to look as if it waited for a core, without using one",
        """
        import threading, time
        def work():
            while True:
                time.sleep(0.001)
        for _ in range(62):
            threading.Thread(target=work).start()
        work()
        """,
    ),
    "calls itself without end": _program(
        "to crash the interpreter",
        """
        import sys
        sys.setrecursionlimit(10**9)
        def f():
            f()
        f()
        """,
    ),
    "stays in one instruction": _program(
        "to have no moment at which a signal is heard",
        """
        import re, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        re.match(r"(a+)+$", "a" * 40 + "b")
        """,
    ),
    "is hard to compile": _program(
        "to have the compiler take memory, time or the stack",
        """
        for text in ("(" * 90_000 + ")" * 90_000, "-" * 10**6 + "1", "[" * 10**5, "0x" + "f" * 10**7, "9" * 10**5):
            try:
                eval(text)
            except (SyntaxError, ValueError, MemoryError, RecursionError):
                pass
        """,
    ),
}
