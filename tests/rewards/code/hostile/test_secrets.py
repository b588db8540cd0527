"""A hostile program sees no secret of the environment and no other process, and pries into none."""

import os
import secrets
import subprocess

import pytest

from tests.rewards.code.hostile.outside import lines, run
from tests.rewards.code.hostile.programs import CALL


def test_no_secret_of_the_environment_and_no_other_process_is_visible(monkeypatch):
    canary = secrets.token_hex(16)
    monkeypatch.setenv("WANDB_API_KEY", canary)
    with subprocess.Popen(["sleep", "1000"], env={"TOKEN": canary}) as bystander:
        try:
            execution = run("""
                import os
                print([pid for pid in os.listdir("/proc") if pid.isdigit()], os.listdir("/proc/1"), flush=True)
                for folder, _, names in os.walk("/proc"):
                    if "/task" in folder or folder.count("/") > 3:
                        continue
                    for name in names:
                        if name in ("kmsg", "kcore", "pagemap", "mem", "kpagecount", "kpageflags", "kpagecgroup"):
                            continue
                        try:
                            fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
                            os.write(1, os.read(fd, 4096))
                            os.close(fd)
                        except OSError:
                            pass
            """)
        finally:
            bystander.kill()
    assert canary not in execution.output.decode(errors="replace")
    assert execution.output.splitlines()[0] == b"['1', '2'] []"
    assert execution.completed


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86_64")
def test_privileged_and_prying_system_calls_fail():
    calls = {
        "ptrace": "101, 16, 1, 0, 0",
        "process_vm_readv": "310, 1, 0, 0, 0, 0, 0",
        "process_vm_writev": "311, 1, 0, 0, 0, 0, 0",
        "pidfd_open": "434, 1, 0",
        "unshare": "272, 0x10000000",
        "setns": "308, 0, 0",
        "mount": "165, b'none', b'/dev', b'tmpfs', 0, 0",
        "umount2": "166, b'/proc/1', 2",
        "pivot_root": "155, b'/', b'/'",
        "chroot": "161, b'/usr'",
        "mknod": "133, b'/dev/sda', 0o60666, 0x800",
        "sethostname": "170, b'x', 1",
        "bpf": "321, 0, 0, 0",
        "perf_event_open": "298, 0, 0, 0, 0, 0",
        "userfaultfd": "323, 1",
        "io_uring_setup": "425, 1, 0",
        "keyctl": "250, 0, -3, 0",
        "add_key": "248, b'user', b'x', b'x', 1, -3",
        "reboot": "169, 0, 0, 0, 0",
        "swapon": "167, b'/dev/zero', 0",
    }
    output = lines(run(CALL + "".join(f"print({name!r}, call({call}))\n" for name, call in calls.items())))
    assert [line for line in output if not line.endswith((" EPERM", " ENOSYS"))] == []
    assert len(output) == len(calls)
