"""The brokers of the other servers: Redis, as `penstock up` runs it, and RabbitMQ where the machine has it."""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import redis

from penstock.local.redis_server import find_server

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's wrapper on the PATH changes to the user rabbitmq and to its own directories."""

READY_WITHIN_S = 120.0


class Start(Protocol):
    """Starts one process of a server."""

    def __call__(self, name: str, command: list[str], environ: dict[str, str] | None = None) -> object: ...


def start_redis(start: Start, home: Path) -> str:
    """Starts Redis with the persistence of `penstock up` and returns its URL."""
    port = free_port()
    options = {"port": str(port), "dir": str(home), "appendonly": "yes", "appendfsync": "everysec", "save": ""}
    start("Redis", [str(find_server()), *(word for name, value in options.items() for word in (f"--{name}", value))])
    with redis.Redis(port=port) as client:
        _until(lambda: _answers(client), "Redis")
    return f"redis://127.0.0.1:{port}/0"


def has_rabbitmq() -> bool:
    """Returns whether this machine has RabbitMQ; without it, Celery uses Redis as its broker."""
    return RABBITMQ.exists() and shutil.which("epmd") is not None


def start_rabbitmq(start: Start, home: Path) -> str:
    """Starts a RabbitMQ node, with the name service (epmd) that it needs on its own port, and returns its URL."""
    port, distribution, names = free_port(), free_port(), free_port()
    environ = {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"compare{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "rabbitmq-log"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
        "RABBITMQ_CONFIG_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_PID_FILE": str(home / "rabbitmq.pid"),
    }
    (home / "plugins").write_text("[].\n")
    start("epmd", ["epmd", "-port", str(names), "-address", "127.0.0.1"])
    start("RabbitMQ", [str(RABBITMQ)], environ)
    _until(lambda: _listens(port), "RabbitMQ")
    return f"amqp://guest:guest@127.0.0.1:{port}//"


def free_port() -> int:
    """Returns a port of the loopback address that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _until(is_ready: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + READY_WITHIN_S
    while not is_ready():
        if time.monotonic() > give_up:
            raise SystemExit(f"compare: {what} does not answer after {READY_WITHIN_S:g} s")
        time.sleep(0.02)


def _answers(client: "redis.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
