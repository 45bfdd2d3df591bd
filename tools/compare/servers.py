"""The compared servers: how each is started, and which processes belong to it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from penstock.bench import processes
from penstock.local.children import die_with_parent
from penstock.local.redis_server import find_server
from penstock.settings import clean_environment

ROOT = Path(__file__).parents[2]

RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's wrapper on the PATH changes to the user rabbitmq and to its own directories."""

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0


@dataclass
class Server:
    """A server with one API process and one worker process, and every process it needs, by name. Only Penstock has
    batches (`has_batches`); the others take many tasks at `/v1/bulk`."""

    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    has_batches: bool = False
    roots: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """Returns the CPU seconds of all processes so far."""
        return sum(processes.cpu_s(root.pid) for root in self.roots.values())

    def pss_bytes(self) -> dict[str, int]:
        """Returns the memory of each process by name, in bytes."""
        return {name: processes.pss_bytes(root.pid) for name, root in self.roots.items()}


@contextmanager
def penstock(home: Path) -> Iterator[Server]:
    """Runs `penstock up` with the model that does nothing and with its own Redis."""
    environ = {
        "GPU_IDS": "cpu",
        "RATE_LIMIT_PER_MINUTE": "0",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": "noop-v1",
    }
    command = [sys.executable, "-m", "penstock", "up", "--port", "0", "--data-dir", str(home / "data"), "--json"]
    with ExitStack() as stack:
        up = stack.enter_context(_running(command, home / "up.log", environ, stdout=subprocess.PIPE))
        assert up.stdout is not None
        address = json.loads(up.stdout.readline() or _died(home / "up.log"))
        headers = {"x-api-key": address["api_key"]}
        yield Server(url=address["url"], headers=headers, has_batches=True, roots={"penstock up": up})


@contextmanager
def celery(home: Path, *, python: str, late: bool) -> Iterator[Server]:
    """Runs uvicorn with FastAPI, a Celery worker (prefork, one process), the broker, and Redis for the results."""
    server = Server()
    with ExitStack() as stack:

        def start(name: str, command: list[str], environ: dict[str, str]) -> None:
            log = home / f"{name.replace(' ', '-')}.log"
            server.roots[name] = stack.enter_context(_running(command, log, environ))

        results = _start_redis(start, home)
        broker = _start_rabbitmq(start, home) if has_rabbitmq() else results.replace("/0", "/1")
        environ = {
            "PEER_BROKER": broker,
            "PEER_RESULTS": results,
            "PEER_LATE": "1" if late else "0",
            "PYTHONPATH": str(ROOT),
        }
        port = _free_port()
        worker = [
            "-m",
            "celery",
            "-A",
            "tools.compare.peer_tasks",
            "worker",
            "--concurrency",
            "1",
            "--loglevel",
            "ERROR",
        ]
        start("Celery worker", [python, *worker], environ)
        serve = ["-m", "uvicorn", "tools.compare.peer_api:app", "--port", str(port), "--log-level", "error"]
        start("FastAPI", [python, *serve, "--no-access-log"], environ)
        server.url = f"http://127.0.0.1:{port}"
        yield server


def has_rabbitmq() -> bool:
    """Returns whether this machine has RabbitMQ; without it, Celery uses Redis as its broker."""
    return RABBITMQ.exists() and shutil.which("epmd") is not None


def _start_redis(start: Callable[[str, list[str], dict[str, str]], None], home: Path) -> str:
    """Starts Redis with the persistence of `penstock up` and returns its URL."""
    port = _free_port()
    options = [
        "--port",
        str(port),
        "--dir",
        str(home),
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
        "--save",
        "",
    ]
    start("Redis", [str(find_server()), *options], {})
    with redis.Redis(port=port) as client:
        _until(lambda: _answers(client), "Redis")
    return f"redis://127.0.0.1:{port}/0"


def _start_rabbitmq(start: Callable[[str, list[str], dict[str, str]], None], home: Path) -> str:
    """Starts a RabbitMQ node, with the name service (epmd) that it needs on its own port, and returns its URL."""
    port, distribution, names = _free_port(), _free_port(), _free_port()
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
    start("epmd", ["epmd", "-port", str(names), "-address", "127.0.0.1"], {})
    start("RabbitMQ", [str(RABBITMQ)], environ)
    _until(lambda: _listens(port), "RabbitMQ")
    return f"amqp://guest:guest@127.0.0.1:{port}//"


@contextmanager
def _running(
    command: list[str], log: Path, environ: dict[str, str], stdout: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=clean_environment() | environ,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out if stdout is None else stdout,
            stderr=out,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


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


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _died(log: Path) -> str:
    raise SystemExit(f"compare: penstock up did not start:{os.linesep}{log.read_text()}")
