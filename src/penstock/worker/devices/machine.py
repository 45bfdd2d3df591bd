"""What this process may use of its machine, which in a container may be less than the machine has."""

import os
from math import ceil
from pathlib import Path

from penstock.settings import clean_environment
from penstock.worker.devices import cgroup

KERNEL_VERSION = Path("/proc/version")


def cores() -> int:
    """Cores this process may use; a part of one counts as one."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, ceil(cgroup.cpu_limit() or usable))


def memory() -> int:
    """Bytes of memory this process may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, cgroup.memory_limit() or physical)


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
