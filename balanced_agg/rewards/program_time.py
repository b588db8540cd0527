"""What a running program has used: its own time, which is not that of others on the machine, and page tables."""

import os
import time
from pathlib import Path

PROC = Path("/proc")
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


class ProgramTime:
    """The seconds that a process has run or slept. Those in which it waited for a core do not count.

    Between two looks it used the processor time that it was given, if one of its threads could run at the second look,
    and else, asleep, all the time that went by. Where /proc says nothing, all time counts.
    """

    def __init__(self, pid: int | None):
        self.seconds = 0.0
        self._folder = PROC / str(pid)
        self._last, self._cpu = time.monotonic(), self._cpu_seconds()

    def look(self) -> float:
        """The seconds until now."""
        now, cpu = time.monotonic(), self._cpu_seconds()
        used = cpu - self._cpu
        self.seconds += used if self._can_run() else max(used, now - self._last)
        self._last, self._cpu = now, cpu
        return self.seconds

    def end(self, longest: float) -> float:
        """The seconds until now for a process that has ended, of which `longest` at most are later than the last look.

        It may have ended long before the caller was given a core to see that.
        """
        return self.seconds + min(time.monotonic() - self._last, longest)

    def page_table_bytes(self) -> int:
        """Memory of the kernel's that says where the process's memory is, which no resource limit counts."""
        for line in self._read("status").splitlines():
            if line.startswith("VmPTE:"):
                return 1024 * int(line.split()[1])
        return 0

    def _cpu_seconds(self) -> float:
        """Of all threads, in user and kernel mode."""
        fields = self._read("stat").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) * TICK_SECONDS

    def _can_run(self) -> bool:
        try:
            threads = list((self._folder / "task").iterdir())
        except OSError:
            return False
        return any(self._read(thread / "stat").rpartition(")")[2].startswith(" R") for thread in threads)

    def _read(self, name: str | Path) -> str:
        """Empty if the process has ended, or is another user's to look at."""
        try:
            return (self._folder / name).read_text(errors="replace")
        except OSError:
            return ""
