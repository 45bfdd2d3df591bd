"""`penstock up`: Redis, the API and one worker for each device, as children of this process."""

import asyncio
import base64
import fcntl
import json
import os
import secrets
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import IO

import msgspec
from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

from penstock.allocator import give_back
from penstock.core.access import entry_of
from penstock.core.device import Device
from penstock.errors import ConfigurationError, StoppedEarly
from penstock.local.api_processes import API, ApiProcesses
from penstock.local.children import Child, Launch, Patience, called_aside, python
from penstock.local.down_devices import OnDevice
from penstock.local.redis_server import redis_child
from penstock.local.reports import list_down, release_tasks, retract_models, unlist
from penstock.local.spares import SpareProcess, Spares
from penstock.local.supervisor import Supervisor
from penstock.net.session import read_local
from penstock.settings import (
    KEY_FILE,
    URL_FILE,
    Settings,
    clean_environment,
    environment_of,
    new_key,
    within,
)
from penstock.telemetry import exposition
from penstock.telemetry.nvml import watch_cards
from penstock.telemetry.summed import Summed
from penstock.worker.devices import GPU_VARIABLES, Placement, found_again, placements
from penstock.worker.heartbeat import PARENT_DIED, longest_silence_s

BESIDE_WORKERS_S = 30.0
"""Longest start of everything but the workers, whose models take most of the time: see `worker.start_s`."""

NO_SPARES = Spares()

SILENT_START_S, TELL_AGAIN_S = 5.0, 15.0
"""When a start takes longer than the first, the log says what is missing, and again after each of the second."""


FRESH = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Nothing compiled is kept of a model that is edited: within one second Python takes it for that of the edit."""


class Address(Struct, frozen=True, kw_only=True):
    """The URLs and the API key of a running `penstock up`; also the JSON line of `--json`."""

    url: str
    metrics_url: str
    api_key: str


@asynccontextmanager
async def everything(
    settings: Settings, *, own_redis: bool, log: IO[bytes] | None = None, spares: Spares = NO_SPARES
) -> AsyncIterator[tuple[Supervisor, Address]]:
    """Start all processes, those of the API from spare ones, wait until a task could run, and stop all processes on
    leaving.

    Raises ConfigurationError when the data directory or a port is taken or a process cannot start, and StoppedEarly
    when a signal comes before a task could run.
    """
    data_dir = _directory(settings.up.data_dir)
    with _locked(data_dir), _bound(settings.api.host, settings.api.port) as listener:
        supervisor = Supervisor(log=log)
        supervisor.stop_on_signals()
        settings, key = _with_key(settings, data_dir)
        settings = _with_webhook_secret(settings, data_dir)
        settings = _with_open_pages(within(settings, data_dir))
        if own_redis:
            child, url = redis_child(data_dir, settings.up.redis_max_bytes)
            settings = replace(settings, redis=replace(settings.redis, url=url))
            supervisor.add(child)
        host, port = listener.getsockname()[:2]
        url = f"http://{_reachable(host)}:{port}"
        try:
            # No load balancer sends requests here, so that the API need not linger.
            at_once = replace(settings, api=replace(settings.api, linger_s=0.0))
            api = ApiProcesses(at_once, [listener], supervisor, spares=spares.api)
            api.start()
            await add_workers(settings, supervisor, spares.workers)
            metrics_url = serve_metrics(settings, supervisor, {API: api.metrics})
            within_s = settings.worker.start_s + BESIDE_WORKERS_S
            await _until_ready(supervisor, lambda: _missing(url) or api.missing(), within_s=within_s)
            spares.dismiss()
            supervisor.outlive_workers()
            give_back()
            with _told(data_dir / URL_FILE, url):
                yield supervisor, Address(url=url, metrics_url=metrics_url, api_key=key)
        finally:
            await supervisor.close()


async def add_workers(settings: Settings, supervisor: Supervisor, spares: Sequence[SpareProcess] = ()) -> None:
    """Start a worker process for each device of this host.

    Raises ConfigurationError when no device can be used, and StoppedEarly when a signal comes while the driver is
    asked.
    """
    asked = asyncio.create_task(called_aside(partial(placements, settings.worker)))
    stopped = asyncio.create_task(supervisor.until_stopped())
    await asyncio.wait([asked, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not asked.done():
        asked.cancel()
        raise StoppedEarly
    for child in worker_children(settings, asked.result(), spares):
        supervisor.add(child)


def worker_children(settings: Settings, places: list[Placement], spares: Sequence[SpareProcess] = ()) -> list[Child]:
    """A worker process for each placement. When one dies, its tasks are released at once; while it cannot run, it is
    listed as DOWN. The health of their cards is reported from now on, and of one that is lost as soon as it is back."""
    taken = {place.device.name for place in places if not place.lost}
    cards = {place.device.name: place.environment["CUDA_VISIBLE_DEVICES"] for place in places if _has_card(place)}
    finding, unused = Lock(), list(spares)

    def child(place: Placement) -> Child:
        now = place

        def launch() -> Launch:
            nonlocal now
            with finding:  # devices that come back at the same time must not take each other's names
                now = found_again(settings.worker, now, taken) if now.lost else now
            if _has_card(now):
                cards[now.device.name] = now.environment["CUDA_VISIBLE_DEVICES"]
            worker_id = f"{socket.gethostname()}-{now.device.name}-{uuid.uuid4().hex[:8]}"
            device = msgspec.json.encode(now.device).decode()
            usual = (GPU_VARIABLES if now.device.kind == "cuda" else {}) | (FRESH if settings.models.modules else {})
            return Launch(
                argv=python("worker-process", "--device", device, "--id", worker_id),
                environment=usual | clean_environment() | environment_of(_of_worker(settings)) | now.environment,
                identity=worker_id,
            )

        return Child(
            name=f"worker-{place.device.name}",
            rank=1,
            launch=launch,
            grace_s=settings.worker.drain_s + 10,
            parent_died=PARENT_DIED,
            # What a driver, or the libraries of a GPU, read when a process begins, only one that is executed can have.
            spare=unused.pop() if unused and place.device.kind == "cpu" else None,
            reports=Patience(start_s=settings.worker.start_s, silence_s=longest_silence_s(settings)),
            after_death=partial(release_tasks, settings),
            after_replacement=partial(retract_models, settings),
            on_device=OnDevice(
                device=place.device.name,
                retry_s=settings.worker.device_retry_s,
                is_down=partial(list_down, settings, place.device),
                came_back=partial(unlist, settings, place.device),
            ),
        )

    watch_cards(cards)
    return [child(place) for place in places]


def _of_worker(settings: Settings) -> Settings:
    """The settings without the secrets that only the API uses: code of models runs in a worker."""
    api, webhooks = replace(settings.api, keys=()), replace(settings.webhooks, secrets=())
    return replace(settings, api=api, webhooks=webhooks)


def _has_card(place: Placement) -> bool:
    return place.device.kind == "cuda" and not place.lost


def serve_metrics(settings: Settings, supervisor: Supervisor, groups: Mapping[str, Summed] | None = None) -> str:
    """Serve the metrics of all processes on `telemetry.metrics_port`, those of a group as one. Returns the URL."""
    host, port = settings.telemetry.metrics_host, settings.telemetry.metrics_port
    try:
        port = exposition.serve_children(host, port, supervisor.metrics, groups)
    except OSError as error:
        raise ConfigurationError(f"telemetry.metrics_port: cannot listen on {host}:{port}: {error.strerror}") from error
    return f"http://{host}:{port}/metrics"


def device_of(text: str) -> Device:
    """The device that the command line of a worker process describes."""
    return msgspec.json.decode(text, type=Device)


def _reachable(host: str) -> str:
    """The address at which this machine reaches a server of its own that listens at `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  compared, not bound


async def _until_ready(supervisor: Supervisor, look: Callable[[], str], *, within_s: float) -> None:
    """Wait until a task could run and `look` finds nothing missing. What is missing is logged after a while, and when
    it changes."""
    stopped = asyncio.create_task(supervisor.until_stopped())
    missing, tell_at = "", time.monotonic() + SILENT_START_S
    try:
        async with asyncio.timeout(within_s):
            while not stopped.done():
                before, missing = missing, await asyncio.to_thread(look)
                if not missing:
                    break
                if missing != before:
                    tell_at = max(tell_at, time.monotonic() + 1)
                if time.monotonic() > tell_at:
                    logger.bind(missing=missing).warning("not ready yet")
                    tell_at = time.monotonic() + TELL_AGAIN_S
                await asyncio.wait([stopped], timeout=0.02)
    except TimeoutError:
        raise ConfigurationError(f"not ready in {within_s:g} s: {missing}") from None
    finally:
        stopped.cancel()
    if supervisor.exit_status:
        raise ConfigurationError(supervisor.failure or "a process could not start; its message is above")
    if stopped.done():
        raise StoppedEarly


def _missing(url: str) -> str:
    """Why no task could run yet, in the words of the API; empty when one could."""
    try:
        status, body = read_local(f"{url}/readyz", timeout_s=2)
        readiness = json.loads(body)
    except (OSError, ValueError):
        return "the API does not answer yet"
    if status != HTTPStatus.OK:
        return str(readiness.get("detail", status))
    return "" if readiness["workers"] else "no worker is ready yet: its log says what it waits for"


def _directory(path: str) -> Path:
    directory = Path(path).absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"up.data_dir: cannot use {directory}: {error.strerror}") from error
    return directory


@contextmanager
def _told(path: Path, url: str) -> Iterator[None]:
    """Keeps the URL in a file, from which the commands of this directory know their server."""
    path.write_text(f"{url}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Allows one `penstock up` for each data directory. Raises ConfigurationError when another one runs."""
    fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"another penstock uses {data_dir}; give --data-dir") from error
        yield
    finally:
        os.close(fd)


def _bound(host: str, port: int) -> socket.socket:
    """The listening socket of the API. It is bound here, so that the port is known before the API starts (for port 0),
    and kept while the API restarts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"api.port: cannot listen on {host}:{port}: {error.strerror}; give --port") from error
    listener.set_inheritable(True)
    return listener


def _with_key(settings: Settings, data_dir: Path) -> tuple[Settings, str]:
    """The first key of the settings, else one that the first start makes and keeps in the data directory."""
    if settings.api.keys:
        return settings, entry_of(settings.api.keys[0]).secret
    key = _made_once(data_dir / KEY_FILE, new_key)
    return replace(settings, api=replace(settings.api, keys=(f"default:{key}",))), key


def _with_open_pages(settings: Settings) -> Settings:
    """The settings with `/docs` and `/metrics` unless they say otherwise: this server listens on this machine alone
    unless it is told to."""
    api = settings.api
    docs, metrics = (shown.replace("auto", "on") for shown in (api.docs, api.metrics))
    return replace(settings, api=replace(api, docs=docs, metrics=metrics))


def _with_webhook_secret(settings: Settings, data_dir: Path) -> Settings:
    """The settings with a secret for webhooks, which the first start makes and keeps in the data directory."""
    if settings.webhooks.secrets:
        return settings
    path = data_dir / "webhook-secret"
    secret = _made_once(path, lambda: f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
    return replace(settings, webhooks=replace(settings.webhooks, secrets=(secret,)))


def _made_once(path: Path, make: Callable[[], str]) -> str:
    """The secret in a file that only this user can read; it is made at the first call."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(make())
    return path.read_text().strip()
