"""Spare processes: forked while their parent starts, each becomes a child of it later.

They share the memory of what both have imported, and need not import it. What is forked must be told everything by
then: it is done while the parent has one thread, no event loop and no connection. So a spare serves one start, that of
a process which may know all that its parent knows. Whatever is started again is executed.
"""

import asyncio
import ctypes
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import F_DUPFD, fcntl
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from penstock.allocator import give_back, limit_arenas
from penstock.settings import take_environment

MOST_BYTES, MOST_FDS = 2**20, 64
"""The longest message; the system may allow a shorter one (net.core.wmem_default)."""

FREE_FDS = 100
"""Files that are passed are held from this number on until each is at the number that it is to have."""


SHARED = (
    "penstock.store",
    "penstock.storage",
    "penstock.telemetry.exposition",
    "penstock.telemetry.metrics",
    "penstock.upkeep.rounds",
    "penstock.upkeep.watches",
    "uvloop",
)
"""What the API and a worker both import, as their parent does before it forks."""


class Role(Struct, frozen=True, kw_only=True):
    """What a spare becomes. `fds` are the numbers at which it is to have the files that come with this."""

    argv: list[str]
    environment: dict[str, str]
    umask: int
    fds: list[int]
    parent_died: int


class SpareProcess:
    """A process that waits for its role, and then is a child like one of `asyncio.subprocess`."""

    def __init__(self, pid: int, line: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._line = line
        self._ended: asyncio.Future[None] | None = None

    @property
    def is_unused(self) -> bool:
        """Whether it still waits for its role."""
        return self._ended is None

    def become(self, role: Role, files: Sequence[int]) -> None:
        """Give it its role, and the files that it is to have. Raises OSError where it has ended."""
        self._watch()
        with socket.socket(fileno=self._line) as line:
            socket.send_fds(line, [msgspec.json.encode(role)], [*files])

    def dismiss(self) -> None:
        """Let it end where it still waits for a role."""
        if self.is_unused:
            self._watch()
            os.close(self._line)

    async def wait(self) -> int:
        """Wait for its end, and return the exit status as `subprocess` gives it."""
        assert self._ended is not None  # noqa: S101  only a process with a role is waited for
        await asyncio.shield(self._ended)
        assert self.returncode is not None  # noqa: S101
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        ended = self._ended = loop.create_future()
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, self._reap, pidfd, ended)

    def _reap(self, pidfd: int, ended: "asyncio.Future[None]") -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        ended.set_result(None)


class Spares(NamedTuple):
    """The spare processes of one machine: those of the API know its settings, those of workers do not."""

    api: Sequence[SpareProcess] = ()
    workers: Sequence[SpareProcess] = ()

    def dismiss(self) -> None:
        """Let those end that wait still."""
        for spare in (*self.api, *self.workers):
            spare.dismiss()


def import_shared(*others: str) -> None:
    """Import what processes that are forked now are to share."""
    for module in (*SHARED, *others):
        import_module(module)


def fork_spares(count: int, run: Callable[[], None]) -> list[SpareProcess]:
    """Fork so many processes; each calls `run` when it has its role, whose command line is then in `sys.argv`, and ends
    with it. None are forked where this process has threads already, or the system has no pidfd_open(2)."""
    if not _sees_ends() or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208  there is no path but names
        return []
    gc.collect()
    give_back()
    gc.freeze()  # a collection that visits an object writes to it, and the page is no longer shared
    return [_forked(run) for _ in range(count)]


def _sees_ends() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # not Linux, or one before 5.3, or a sandbox
        return False
    return True


def _forked(run: Callable[[], None]) -> SpareProcess:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return SpareProcess(pid, ours.detach())
    ours.close()
    _close_all_but(theirs.fileno())
    os.setsid()  # Ctrl-C reaches the parent alone, which stops its children in order
    with theirs:
        message, files, _, _ = socket.recv_fds(theirs, MOST_BYTES, MOST_FDS)
    if not message:  # the parent has no use for it, or is gone
        os._exit(0)
    _take(msgspec.json.decode(message, type=Role), files, parent)
    run()
    sys.exit(0)


def _close_all_but(line: int) -> None:
    """Close what an executed process would not have either. A line to another spare that is open here too never ends,
    and the other would wait for ever."""
    for file in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  there is no path but numbers
        if file > 2 and file != line:
            with suppress(OSError):  # that of the list itself is closed
                os.close(file)


def _take(role: Role, files: Sequence[int], parent: int) -> None:
    ctypes.CDLL(None).prctl(1, role.parent_died)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)
    with suppress(KeyError, ValueError):
        limit_arenas(int(role.environment["MALLOC_ARENA_MAX"]))  # glibc reads it when a program begins
    held = [fcntl(file, F_DUPFD, FREE_FDS) for file in files]
    for file, number in zip(held, role.fds, strict=True):
        os.dup2(file, number, inheritable=number <= 2)  # a program that the child starts writes to its stderr
    for file in (*files, *held):
        if file not in role.fds:
            os.close(file)
    if role.umask >= 0:
        os.umask(role.umask)
    take_environment(role.environment)
    sys.dont_write_bytecode = bool(role.environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.argv = ["penstock", *role.argv[3:]]
    with suppress(OSError, ValueError, IndexError):
        _show(role.argv)


def _show(argv: Sequence[str]) -> None:
    """Write a command line where the kernel looks for it, over that of the parent and its environment."""
    places = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end, _, last = map(int, places[45:49])  # arg_start, arg_end, env_start and env_end of proc_pid_stat(5)
    words = b"\0".join(os.fsencode(word) for word in argv)
    if len(words) >= end - begin:  # behind the old end, the kernel reads on to the first zero
        words = words.replace(b"\0", b" ")
    room = max(0, last - begin - 1)  # a sandbox may say 0 for all of them
    ctypes.memset(begin, 0, room)
    ctypes.memmove(begin, words, min(len(words), room))
