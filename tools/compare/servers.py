"""The compared servers: how each is started, and which processes belong to it."""

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from penstock.bench import processes
from penstock.local.children import die_with_parent
from penstock.settings import clean_environment
from tools.compare.brokers import Start, free_port, has_rabbitmq, start_rabbitmq, start_redis

ROOT = Path(__file__).parents[2]

STOP_WITHIN_S = 60.0

GREY = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
"""An image of one pixel: Penstock takes no task without an input."""


@dataclass
class Load:
    """What is sent: photos for a network, or tasks that do nothing where there are none."""

    photos: list[Path] = field(default_factory=list)
    network: Path | None = None

    @property
    def environ(self) -> dict[str, str]:
        """What tells a server of ours or theirs which work it has."""
        return {"PEER_NETWORK": str(self.network or ""), "PYTHONPATH": str(ROOT)}

    def bodies(self) -> list[bytes]:
        """Returns the bodies for the other servers, which are sent in turn."""
        return [json.dumps({"image": _base64(photo)}).encode() for photo in self.photos] or [b'{"x":1}']

    def bodies_for_penstock(self) -> list[bytes]:
        """Returns the same for Penstock."""
        model = "classifier-v1" if self.photos else "noop-v1"
        urls = [f"data:image/jpeg;base64,{_base64(photo)}" for photo in self.photos] or [GREY]
        return [json.dumps({"model": model, "input": {"image_url": url}}).encode() for url in urls]


@dataclass
class Server:
    """A server with one API process and one worker process, and every process it needs, by name."""

    name: str
    bodies: list[bytes]
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    roots: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """Returns the CPU seconds of all processes so far."""
        return sum(processes.cpu_s(root.pid) for root in self.roots.values())

    def pss_bytes(self) -> dict[str, int]:
        """Returns the memory of each process by name, in bytes."""
        return {name: processes.pss_bytes(root.pid) for name, root in self.roots.items()}


@contextmanager
def penstock(home: Path, load: Load, python: str) -> Iterator[Server]:
    """Runs `penstock up` with one model and with its own Redis."""
    model = "classifier-v1" if load.photos else "noop-v1"
    environ = load.environ | {
        "GPU_IDS": "cpu",
        "RATE_LIMIT_PER_MINUTE": "0",
        "PENSTOCK_MODELS_MODULES": "tools.compare.own_model" if load.photos else "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": model,
    }
    command = [python, "-m", "penstock", "up", "--port", "0", "--data-dir", str(home / "data"), "--json"]
    with running(command, home / "up.log", environ, stdout=subprocess.PIPE) as up:
        assert up.stdout is not None
        address = json.loads(up.stdout.readline() or _died(home / "up.log"))
        headers = {"x-api-key": address["api_key"]}
        yield Server("Penstock", load.bodies_for_penstock(), address["url"], headers, {"penstock up": up})


@contextmanager
def saq(home: Path, load: Load, python: str) -> Iterator[Server]:
    """Runs uvicorn with FastAPI, a SAQ worker, and Redis."""
    with _server("FastAPI + SAQ", home, load) as (server, start):
        environ = load.environ | {"PEER_REDIS": start_redis(start, home)}
        start("SAQ worker", [python, "-m", "saq", "tools.compare.peers.saq_tasks.settings", "--quiet"], environ)
        start("FastAPI", [python, *_uvicorn(server, "tools.compare.peers.saq_api:app")], environ)
        yield server


@contextmanager
def celery(home: Path, load: Load, python: str) -> Iterator[Server]:
    """Runs uvicorn with FastAPI, a Celery worker (prefork, one process), the broker, and Redis for the results."""
    with _server("FastAPI + Celery", home, load) as (server, start):
        results = start_redis(start, home)
        broker = start_rabbitmq(start, home) if has_rabbitmq() else results.replace("/0", "/1")
        environ = load.environ | {"PEER_BROKER": broker, "PEER_REDIS": results}
        work = ["-A", "tools.compare.peers.celery_tasks", "worker", "--concurrency", "1", "--loglevel", "ERROR"]
        start("Celery worker", [python, "-m", "celery", *work], environ)
        start("FastAPI", [python, *_uvicorn(server, "tools.compare.peers.celery_api:app")], environ)
        yield server


@contextmanager
def litserve(home: Path, load: Load, python: str) -> Iterator[Server]:
    """Runs LitServe with one API process and one worker."""
    with _server("LitServe", home, load) as (server, start):
        port = free_port()
        server.url = f"http://127.0.0.1:{port}"
        start("LitServe", [python, "-m", "tools.compare.peers.litserve_server", str(port)], load.environ)
        yield server


@contextmanager
def _server(name: str, home: Path, load: Load) -> Iterator[tuple[Server, Start]]:
    """A server without processes, and what starts those; they end with it."""
    server = Server(name, load.bodies())
    with ExitStack() as stack:

        def start(name: str, command: list[str], environ: dict[str, str] | None = None) -> None:
            log = home / f"{name.replace(' ', '-')}.log"
            server.roots[name] = stack.enter_context(running(command, log, environ or {}))

        yield server, start


def _uvicorn(server: Server, app: str) -> list[str]:
    port = free_port()
    server.url = f"http://127.0.0.1:{port}"
    return ["-m", "uvicorn", app, "--port", str(port), "--log-level", "error", "--no-access-log"]


@contextmanager
def running(command: list[str], log: Path, environ: dict[str, str], **pipes: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process of a server to the end of the block. What it prints goes to the log, but for these pipes."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env=clean_environment() | environ,
            cwd=ROOT,
            stdin=pipes.get("stdin", subprocess.DEVNULL),
            stdout=pipes.get("stdout", out),
            stderr=out,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # LitServe leaves its children behind
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()


def _base64(photo: Path) -> str:
    return base64.b64encode(photo.read_bytes()).decode()


def _died(log: Path) -> str:
    raise SystemExit(f"compare: penstock up did not start:{os.linesep}{log.read_text()}")
