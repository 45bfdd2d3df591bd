"""CPU time and memory of a tree of processes, from /proc (Linux)."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def tree(root: int) -> Iterator[int]:
    """Returns the process and all its living descendants."""
    yield root
    with suppress(OSError):
        for thread in (PROC / str(root) / "task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text().split():
                    yield from tree(int(child))


def cpu_s(root: int) -> float:
    """CPU seconds, user and system, of the tree since it was started, with those of its ended children."""
    return sum(_ticks(pid) for pid in tree(root)) / os.sysconf("SC_CLK_TCK")


def pss_bytes(root: int) -> int:
    """Memory of the tree at this moment; pages that processes share are divided among them (proportional set size)."""
    return sum(_pss(pid) for pid in tree(root))


def _ticks(pid: int) -> int:
    """utime, stime, cutime and cstime of proc_pid_stat(5); the name before them may hold spaces."""
    with suppress(OSError):
        return sum(map(int, (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15]))
    return 0


def _pss(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
