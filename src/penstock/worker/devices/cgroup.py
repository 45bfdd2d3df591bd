"""The control group of this process, as a container, Kubernetes or a unit of systemd sets it: what it may use, and
whether the kernel has killed in it.

Version 2 of cgroups has one tree, version 1 one for each controller. In a container the root of the mount may be the
group itself, which `/proc/self/cgroup` then calls by a name that is not there.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
"""Where `proc` and `sys` are."""

TREE = "sys/fs/cgroup"

KILL_COUNTS = ("memory.events", "memory.oom_control")
"""The files of version 2 and of version 1 with the number of processes of a group that the kernel has killed."""


def memory_limit() -> int | None:
    """The bytes of memory that this process may use together with the others of its group, by its limit and those of
    the groups around it; None without a limit."""
    limits = [
        int(text)
        for folder in _groups("memory")
        for text in _texts(folder, "memory.max", "memory.limit_in_bytes")
        if text.isdecimal()
    ]
    return min(limits, default=None)


def cpu_limit() -> float | None:
    """The cores of whose time this group gets no more, as `--cpus` of Docker, `CPUQuota` of systemd and the limits of
    Kubernetes set it; None without a limit."""
    quotas = [
        text.split()
        for folder in _groups("cpu")
        for text in (*_texts(folder, "cpu.max"), " ".join(_texts(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us")))
    ]
    return min((int(q[0]) / int(q[1]) for q in quotas if len(q) == 2 and q[0].isdecimal()), default=None)


def oom_kills() -> int:
    """How many processes of this group the kernel has killed so far, since memory ran out; of the machine where the
    group counts none."""
    files = [folder / name for folder in _groups("memory") for name in KILL_COUNTS]
    for file in (*files, ROOT / "proc/vmstat"):
        with suppress(OSError):
            counts = dict(line.split() for line in file.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the group of this process and of those around it, nearest first."""
    for line in "".join(_texts(ROOT, "proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        tree = ROOT / TREE / (controller if controllers else "")
        group = tree / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(tree))


def _texts(folder: Path, *names: str) -> Iterator[str]:
    """The texts of those files that are there."""
    for name in names:
        with suppress(OSError):
            yield (folder / name).read_text().strip()
