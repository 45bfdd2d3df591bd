"""What a process gives up before it touches the bytes of others: files, the network, other processes, more memory.

Rights are taken away by resource limits, by Landlock and by seccomp, which knows the few calls of the kernel that
decoding needs; any other fails with EPERM. Numbers and structures are those of the kernel's headers (`linux/prctl.h`,
`linux/seccomp.h`, `linux/landlock.h`, and `unistd.h` of each architecture).
"""

import ctypes
import os
import platform
import resource
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
SECCOMP_MODE_FILTER = 2
SIGKILL = 9

LANDLOCK_CREATE_RULESET, LANDLOCK_RESTRICT_SELF = 444, 446
LANDLOCK_CREATE_RULESET_VERSION = 1
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""The number of rights to files that each version of Landlock knows. Later ones know as many as the last."""
NETWORK_RIGHTS, SCOPES = 2, 2
"""TCP bind and connect, from version 4; abstract sockets and signals, from version 6."""

OPEN_FILES = 32


class Architecture(NamedTuple):
    """How seccomp calls an architecture, the numbers of the calls that are allowed, and of those that may map memory
    as long as it cannot be executed."""

    audit: int
    allowed: tuple[int, ...]
    mapping: tuple[int, ...]


ARCHITECTURES = {
    "x86_64": Architecture(
        audit=0xC000003E,
        # close munmap brk rt_sigaction rt_sigprocmask rt_sigreturn sched_yield mremap madvise getpid sendto recvmsg
        # exit gettid futex sigaltstack clock_gettime clock_nanosleep exit_group restart_syscall getrandom
        allowed=(
            *(3, 11, 12, 13, 14, 15, 24, 25, 28, 39, 44, 47),
            *(60, 186, 202, 131, 228, 230, 231, 219, 318),
        ),
        mapping=(9, 10),  # mmap mprotect
    ),
    "aarch64": Architecture(
        audit=0xC00000B7,
        # The same calls in the same order.
        allowed=(
            *(57, 215, 214, 134, 135, 139, 124, 216, 233, 172, 206, 212),
            *(93, 178, 98, 132, 113, 115, 94, 128, 278),
        ),
        mapping=(222, 226),
    ),
}


def confine(memory_bytes: int) -> list[str]:
    """Give up everything that decoding does not need, for ever: this process may take so much more memory, and keep
    open the files that it has. Returns what this kernel cannot do.

    What is imported and opened later fails: import and open everything before.
    """
    _limit(memory_bytes)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # the kernel should take this process before the worker
    _libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return ["no_new_privs", "landlock", "seccomp"]
    steps = {"landlock": _give_up_files, "seccomp": _give_up_calls}
    return [name for name, step in steps.items() if not step()]


def _limit(memory_bytes: int) -> None:
    """Limit memory, files and core dumps, where the machine does not limit them more."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limits = {
        resource.RLIMIT_AS: size + memory_bytes,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        _, most = resource.getrlimit(kind)
        lower = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(kind, (lower, lower))


def _give_up_files() -> bool:
    version = _libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    if version < 1:
        return False
    rights = [(1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1]
    if version >= 4:
        rights.append((1 << NETWORK_RIGHTS) - 1)
    if version >= 6:
        rights.append((1 << SCOPES) - 1)
    handled = struct.pack(f"={len(rights)}Q", *rights)
    ruleset = _libc.syscall(LANDLOCK_CREATE_RULESET, handled, len(handled), 0)
    if ruleset < 0:
        return False
    failed = _libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return not failed


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _give_up_calls() -> bool:
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    code = _filter(architecture)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    return not _libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


LOAD, EQUALS, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
"""BPF: load a word of `struct seccomp_data`, compare it, test bits of it, end."""
NUMBER, ARCHITECTURE, THIRD_ARGUMENT = 0, 4, 32
"""Where these are in it; the low half of the argument, on a little-endian machine."""
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000
"""Return values; EPERM is 1."""
PROT_EXEC = 4


def _filter(architecture: Architecture) -> bytes:
    """A program for seccomp: each step is an operation, how many steps to skip if true and if false, and a value."""
    allowed, mapping = architecture.allowed, architecture.mapping
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUALS, 1, 0, architecture.audit), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    to_allow = len(allowed) + len(mapping)
    for place, number in enumerate(allowed):
        steps.append((EQUALS, to_allow - place, 0, number))
    for place, number in enumerate(mapping):
        steps.append((EQUALS, len(mapping) - place + 1, 0, number))
    steps += [
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
        (LOAD, 0, 0, THIRD_ARGUMENT),
        (ANY_BIT, 0, 1, PROT_EXEC),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
