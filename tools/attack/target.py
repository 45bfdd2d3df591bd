"""The server under attack: a whole `penstock up` on loopback, with 1,024 files and less patience than by default."""

import os
import resource
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
from msgspec import Struct

from tests.support.processes import System, up

FILES = 1024
RECEIVE_S, SHORT_RECEIVE_S = 3.0, 1.0
"""The deadline of a request and of a silent connection, instead of 30 and 75 s; the second one of a short run."""
HEALTHY = "127.0.0.1"
_SPARE_FILES = 200

_FEW_FILES = """#!{python}
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))
os.execv({python!r}, [{python!r}, *sys.argv[1:]])
"""


class Target(Struct, frozen=True):
    """The server, and how much is tried: all of it, or a part."""

    system: System
    pid: int
    """The process of the API."""
    is_short: bool

    @property
    def url(self) -> str:
        return self.system.url

    @property
    def key(self) -> str:
        return self.system.api_key

    @property
    def receive_s(self) -> float:
        """The deadline of a request, and of a silent connection."""
        return SHORT_RECEIVE_S if self.is_short else RECEIVE_S

    def count(self, most: int) -> int:
        """Return how many of something to try: fewer in a short run, and no more than we may open files."""
        return min(most // 8 if self.is_short else most, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _SPARE_FILES)

    def address(self, number: int) -> str:
        """Return one of 60,000 addresses of ours that are not the healthy client's."""
        return f"127.1.{number // 250 % 250}.{number % 250 + 2}"

    @contextmanager
    def connected(self, source: str, timeout_s: float = 20.0) -> Iterator[socket.socket]:
        """Connect from this address."""
        with self.connect(source, timeout_s) as connection:
            yield connection

    def connect(self, source: str, timeout_s: float = 20.0) -> socket.socket:
        """Return a connection from this address."""
        at = httpx.URL(self.url)
        return socket.create_connection((at.host, at.port or 0), timeout=timeout_s, source_address=(source, 0))

    def exchange(self, request: bytes, source: str) -> bytes:
        """Return the answer to these bytes, to the end of the connection; nothing if it was reset."""
        with self.connected(source) as connection:
            return sent_and_read(connection, request)


@contextmanager
def under_attack(home: Path, *, is_short: bool) -> Iterator[Target]:
    """Start the server, and stop it at the end."""
    _raise_own_limit()
    python = home / "python"
    python.write_text(_FEW_FILES.format(python=sys.executable, files=FILES))
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    receive_s = SHORT_RECEIVE_S if is_short else RECEIVE_S
    environ = {
        "GPU_IDS": "cpu",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1,image-scoring-v1",
        "PENSTOCK_LIMITS_MAX_IMAGE_SCANS": str(10**6),
        "PENSTOCK_LIMITS_MAX_IMAGE_CHUNKS": str(10**6),
        "PENSTOCK_API_RECEIVE_S": str(receive_s),
        "PENSTOCK_API_KEEP_ALIVE_S": str(receive_s),
        "PENSTOCK_API_WRONG_KEYS_PER_MINUTE": "60",
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    with up(home / "data", str(python), (), **environ) as system:
        yield Target(system, _api_of(system), is_short)


def sent_and_read(connection: socket.socket, request: bytes) -> bytes:
    """Send, and read to the end of the connection; a reset ends it too."""
    answer = b""
    with suppress(ConnectionError):  # it may be refused before its end, with an answer
        connection.sendall(request)
    try:
        while piece := connection.recv(65_536):
            answer += piece
    except (ConnectionError, TimeoutError):
        pass
    return answer


def status_of(answer: bytes) -> int:
    """Return the status of an answer, 0 if there is none."""
    head = answer.split(b" ", 2)
    return int(head[1]) if len(head) == 3 and head[1].isdigit() else 0


def head_of(method: str, path: str, *lines: str) -> bytes:
    """Return the head of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""]).encode()


def resident_bytes(pid: int) -> int:
    """Return the memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many(target: Target, count: int, stack: ExitStack) -> list[socket.socket]:
    """Open connections from many addresses; fewer where the server lets in no more."""
    return [stack.enter_context(target.connect(target.address(number))) for number in range(count)]


def _api_of(system: System) -> int:
    """Return the process that listens: the child of `penstock up` whose command is `api-process`."""
    for pid in system.process.children():
        if b"api-process" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise RuntimeError("penstock up has no API process")


def _raise_own_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
