"""Running a hostile program, and looking from outside at this machine and at what comes back."""

import json
import secrets
import textwrap
import threading
from dataclasses import dataclass, field
from pathlib import Path

from balanced_agg.rewards.code import grade_code
from balanced_agg.rewards.sandbox import Execution, Limits, execute

MIB = 2**20


def run(script, stdin=b"", **limits):
    return execute(textwrap.dedent(script), stdin, Limits(**{"seconds": 5.0} | limits))


def lines(execution: Execution):
    assert execution.completed, execution
    return execution.output.decode().splitlines()


def grade(program, inputs, outputs, fn_name=None):
    truth = json.dumps({"inputs": inputs, "outputs": outputs, "fn_name": fn_name})
    return grade_code(f"```python\n{textwrap.dedent(program)}\n```", truth)


def processes_named(name):
    """Host process ids, by /proc, of processes that call themselves `name`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == name:
                found.append(process)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


@dataclass
class Peak:
    processes: int = 0
    threads: int = 0
    resident_bytes: int = 0
    uids: set[str] = field(default_factory=set)


class Watch:
    """Names a sandboxed process and records, while it runs, what the host knows of processes with that name."""

    def __init__(self):
        self.name = "x" + secrets.token_hex(6)
        self.introduce = f"import ctypes\nctypes.CDLL(None).prctl(15, b'{self.name}')\n"
        self.peak = Peak()
        self._over = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.wait(0.02):
            processes = processes_named(self.name)
            try:
                status = [
                    dict(line.split(":\t", 1) for line in (p / "status").open() if ":\t" in line) for p in processes
                ]
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.peak.processes = max(self.peak.processes, len(status))
            self.peak.threads = max(self.peak.threads, sum(int(s.get("Threads", 0)) for s in status))
            resident = sum(int(s.get("VmRSS", "0").split()[0]) * 1024 for s in status)
            self.peak.resident_bytes = max(self.peak.resident_bytes, resident)
            self.peak.uids |= {s["Uid"].split()[0] for s in status}


def run_watched(script, **limits):
    with Watch() as watch:
        execution = run(watch.introduce + textwrap.dedent(script), **limits)
    assert not processes_named(watch.name)
    assert watch.peak.processes >= 1
    return execution, watch.peak
