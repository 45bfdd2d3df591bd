"""What this process may use of its machine, which in a container may be less than the machine has."""

import os
from contextlib import suppress
from math import ceil
from pathlib import Path

from penstock.settings import clean_environment

CGROUPS = Path("/sys/fs/cgroup")
"""Where version 2 of cgroups has its files: inside of a container those of the container, else those of the machine,
with those of a service in the folder of its cgroup."""

OF_MEMORY_1 = "memory/memory.limit_in_bytes"
"""Where version 1 says how much memory a container may use."""

OWN_CGROUP = Path("/proc/self/cgroup")

CPU_LIMIT = "/sys/fs/cgroup/cpu.max"
"""Where version 2 of cgroups says how many µs of CPU time a container gets in how many, as `--cpus` of Docker and the
limits of Kubernetes set it."""

KERNEL_VERSION = Path("/proc/version")


def cores() -> int:
    """Cores this process may use; a part of one counts as one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # not there, or "max"
        quota, period = map(int, Path(CPU_LIMIT).read_text().split())
        return min(usable, ceil(quota / period))
    return usable


def memory() -> int:
    """Bytes of memory this process may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in (CGROUPS / OF_MEMORY_1, *(folder / "memory.max" for folder in _own_cgroups())):
        with suppress(OSError, ValueError):  # not there, or "max"
            limits.append(int(path.read_text()))
    return min(limits)


def _own_cgroups() -> list[Path]:
    """The folders of the cgroup of this process, such as that of a unit of systemd, and of those that hold it."""
    with suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            if line.startswith("0::/"):  # version 2
                own = CGROUPS / line.removeprefix("0::/")
                return [folder for folder in (own, *own.parents) if folder.is_relative_to(CGROUPS)]
    return [CGROUPS]


def is_wsl() -> bool:
    """Whether this is Linux on Windows, where the driver locks about 1 GiB in all, and half of that in a container."""
    try:
        return "microsoft" in KERNEL_VERSION.read_text().lower()
    except OSError:
        return False


def cache_directory() -> str:
    """The directory of this user for what may be lost, as the XDG base directories are defined; empty where there is
    none."""
    base = Path(clean_environment().get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return str(base.expanduser() / "penstock")
    except RuntimeError:  # a user without a home
        return ""
