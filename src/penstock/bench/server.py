"""The server under load: a running one, or a `penstock up` that this run starts; and its metrics."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.bench import processes
from penstock.bench.plan import NOOP, Plan
from penstock.core.access import entry_of
from penstock.errors import ConfigurationError
from penstock.local.children import die_with_parent, python
from penstock.local.up import Address
from penstock.settings import RedisSettings, Settings, StorageSettings, clean_environment, environment_of
from penstock.telemetry import exposition

MODULES = {NOOP: "penstock.models.noop"}
"""Models that are not served by default -> their modules; a run of one serves nothing else."""

STOP_WITHIN_S = 60.0

PSS_EVERY_S = 0.5
"""Seconds between measurements of memory: the kernel walks all pages of a process for each."""

BUSY = "penstock_device_busy_seconds_total"
CPU = "process_cpu_seconds_total"


class Server(Struct, frozen=True, kw_only=True):
    """Address of the server; `pid` and `start_s` (seconds until ready) only if this run started it."""

    url: str
    api_key: str
    metrics_url: str
    pid: int | None = None
    start_s: float | None = None


class Expense(Struct, frozen=True, kw_only=True):
    """What the server has used so far; None where that cannot be known."""

    busy_s: float | None
    cpu_s: float | None


def settings_of(plan: Plan, settings: Settings) -> Settings:
    """Returns the operator's settings with a Redis and a directory of their own, and no limit on submits."""
    settings = replace(
        settings,
        api=replace(settings.api, rate_limit_per_minute=0),
        redis=RedisSettings(),
        storage=StorageSettings() if settings.storage.local else settings.storage,
    )
    if plan.model not in MODULES:
        return settings
    modules = (*settings.models.modules, MODULES[plan.model])
    return replace(settings, models=replace(settings.models, modules=modules, serve=(plan.model,)))


@asynccontextmanager
async def reached(plan: Plan, settings: Settings, home: Path) -> AsyncIterator[Server]:
    """The server of the plan, ready and serving its model; one of our own is stopped on leaving.

    Raises ConfigurationError when it cannot be reached or started, refuses the key, or does not serve the model.
    """
    if plan.url is None:
        async with _own(settings, home) as server:
            await _check(server, plan)
            yield server
    else:
        key = plan.api_key or next((entry_of(key).secret for key in settings.api.keys), "")
        url = plan.url.rstrip("/")
        server = Server(url=url, api_key=key, metrics_url=plan.metrics_url or f"{url}/metrics")
        await _check(server, plan)
        yield server


@asynccontextmanager
async def _own(settings: Settings, home: Path) -> AsyncIterator[Server]:
    settings = replace(settings, up=replace(settings.up, data_dir=str(home / "data")))
    log = home / "log"
    started = time.perf_counter()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *python("up", "--port", "0", "--json"),
            env=clean_environment() | environment_of(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            start_new_session=True,  # Ctrl-C reaches us alone, who stop it
            preexec_fn=die_with_parent,
        )
    try:
        assert process.stdout is not None  # noqa: S101  asked for above
        line = await process.stdout.readline()
        if not line:
            raise ConfigurationError(f"bench: the server did not start: {last_line(log)}")
        address = msgspec.json.decode(line, type=Address)
        yield Server(
            url=address.url,
            api_key=address.api_key,
            metrics_url=address.metrics_url,
            pid=process.pid,
            start_s=time.perf_counter() - started,
        )
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def last_line(log: Path) -> str:
    """Returns the last line that a process wrote before it ended."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("penstock: ") if lines else "it said nothing"


def client_of(server: Server, connections: int) -> aiohttp.ClientSession:
    """Sends the key with every request; never goes through a proxy. aiohttp takes a quarter of the CPU time that httpx
    does, and on one machine the client's is taken from the server.

    Raises ConfigurationError when the address of the server is none.
    """
    try:
        return aiohttp.ClientSession(
            server.url,
            headers={"x-api-key": server.api_key},
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=60.0, sock_read=60.0),
            trust_env=False,
        )
    except (aiohttp.InvalidURL, ValueError) as error:
        raise ConfigurationError(f"bench: {server.url} is no address of a server ({error})") from error


async def _check(server: Server, plan: Plan) -> None:
    try:
        async with client_of(server, 1) as http:
            async with http.get(f"/v1/models/{plan.model}") as answer:
                status = answer.status
            async with http.get("/v1/models") as answer:
                served = [model["name"] for model in (await answer.json()).get("data", [])]
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ConfigurationError(
            f"bench: no Penstock answers at {server.url} ({error or type(error).__name__}); "
            "start one there, or leave --url out"
        ) from error
    if status == 401:
        raise ConfigurationError(f"bench: {server.url} refuses the key; give --api-key")
    if status != 200:
        raise ConfigurationError(f"bench: {server.url} does not serve {plan.model}; it serves {', '.join(served)}")


async def devices_of(http: aiohttp.ClientSession) -> int:
    """How many workers are there, each with one device; at least one, since one that drains is not listed long."""
    async with http.get("/v1/workers", raise_for_status=True) as answer:
        return max(1, len((await answer.json())["data"]))


async def expense_of(server: Server) -> Expense:
    """Device time, and CPU time of all processes: of the tree, where it is ours, else by their metrics.

    Raises ConfigurationError when something else is served where the metrics should be.
    """
    try:
        families = await asyncio.to_thread(exposition.fetch, server.metrics_url)
    except ValueError as error:
        raise ConfigurationError(f"--metrics-url: {server.metrics_url} serves no metrics; leave it out") from error
    values: dict[str, list[float]] = {BUSY: [], CPU: []}
    for family in families:
        for sample in family.samples:
            values.get(sample.name, []).append(sample.value)
    by_metrics = {name: sum(found) if found else None for name, found in values.items()}
    return Expense(busy_s=by_metrics[BUSY], cpu_s=processes.cpu_s(server.pid) if server.pid else by_metrics[CPU])


class Watch:
    """Measures the highest memory of the server's processes while it is entered; None if they are not ours."""

    def __init__(self, server: Server) -> None:
        self._pid = server.pid
        self.peak_bytes: int | None = None

    async def __aenter__(self) -> "Watch":
        self._looking = asyncio.create_task(self._look(), name="memory watch")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()
        await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        while self._pid is not None:
            now = await asyncio.to_thread(processes.pss_bytes, self._pid)
            self.peak_bytes = max(now, self.peak_bytes or 0)
            await asyncio.sleep(PSS_EVERY_S)


def load_average() -> float:
    """Returns the load average of the last minute."""
    return round(os.getloadavg()[0], 2)
