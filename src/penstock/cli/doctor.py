"""`penstock doctor`: checks whether this machine can run Penstock with these settings, and says what to do if not."""

import asyncio
import platform
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import click
import msgspec
from msgspec import Struct
from msgspec.structs import replace
from rich.table import Table

from penstock import __version__
from penstock.cli.terminal import console, plain
from penstock.errors import ConfigurationError, StorageUnavailable, StoreUnavailable
from penstock.local.redis_server import find_server
from penstock.local.supervisor import python
from penstock.models import load_runners
from penstock.models.onnxruntime.probe import DeviceProbe
from penstock.models.onnxruntime.session import damaged
from penstock.settings import RedisSettings, Settings, StorageSettings, clean_environment, environment_of
from penstock.storage import Storage, open_storage
from penstock.store import Engine, Installation, Redis, SetAside, Store, check_server, connect, look_at, takes_writes
from penstock.upkeep.links import check_links
from penstock.upkeep.orphans import NotCertain, delete_orphans, find_orphans, summary
from penstock.worker.devices import Placement, placements

OLDEST_REDIS = 7
"""An older Redis with full memory stops a script halfway, where a newer one refuses to start it."""

CLOCKS_APART_S = 2.0
"""Times in tasks come from the clock of Redis, times in logs and signed links from ours; S3 itself tolerates 15
minutes."""

DEVICE_WITHIN_S = 120.0

SHOWN_RECORDS = 20
"""How many of the latest unreadable records are shown."""

State = Literal["ok", "warn", "fail"]
COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


class CheckResult(Struct, frozen=True, kw_only=True):
    """The result of one check, and a line of `--json`. `advice` says what to do about a problem."""

    check: str
    state: State
    found: str
    advice: str = ""


async def doctor(settings_of: Callable[[], Settings], *, orphans: bool, delete: bool, as_json: bool) -> int:
    """Runs all checks, or looks for orphans, and prints each result; the exit status is 1 if a check failed."""
    out, states = console(), set()
    async for finding in examine_orphans(settings_of(), delete=delete) if orphans else examine(settings_of):
        states.add(finding.state)
        if as_json:
            click.echo(msgspec.json.encode(finding))
        else:
            out.print(_row(finding))
    return 1 if "fail" in states else 0


async def examine(settings_of: Callable[[], Settings]) -> AsyncIterator[CheckResult]:
    """Yields the result of each check. With wrong settings only the machine itself is checked."""
    yield _python()
    try:
        settings = settings_of()
        load_runners(settings.models)
    except ConfigurationError as error:
        yield _fail("settings", str(error), "change it; config.example.toml has every setting")
        return
    yield _ok("settings", "all names and values are valid")
    yield _models()
    async for finding in _redis(settings):
        yield finding
    async for finding in _storage(settings):
        yield finding
    for finding in await asyncio.to_thread(lambda: list(_devices(settings))):
        yield finding


async def examine_orphans(settings: Settings, *, delete: bool) -> AsyncIterator[CheckResult]:
    """Reports the objects that belong to no record, and deletes them if `delete` is set."""
    own = RedisSettings().url == settings.redis.url
    redis = next(_servers(settings, own))
    try:
        async with (
            connect(redis) as client,
            open_storage(settings.storage, settings.redis.namespace) as storage,
        ):
            yield await _orphans(Installation(Engine(client, redis.namespace, settings.queue)), storage, delete)
    except (StoreUnavailable, StorageUnavailable, ConfigurationError) as error:
        yield _fail("orphans", str(error), "the records and the objects are both needed: see penstock doctor")
    except NotCertain as error:
        yield _fail("orphans", str(error), "nothing is looked for or deleted here: see docs/how-to/buckets.md")


async def _orphans(installation: Installation, storage: Storage, delete: bool) -> CheckResult:
    found = await find_orphans(installation, storage)
    if delete and found:
        gone = summary(await delete_orphans(installation, storage, found))
        return _ok("orphans", f"deleted {gone.count} objects of {gone.bytes} bytes, such as {', '.join(gone.examples)}")
    if not found:
        return _ok("orphans", "a record knows of every object that is older than a day")
    what = summary(found)
    text = f"no record knows of {what.count} objects of {what.bytes} bytes, such as {', '.join(what.examples)}"
    return _warn("orphans", text, "penstock doctor --orphans --delete deletes them")


def _python() -> CheckResult:
    found = f"Python {platform.python_version()}, Penstock {__version__}, {platform.system()} {platform.machine()}"
    if sys.platform == "linux":
        return _ok("python", found)
    return _warn("python", found, "Penstock is tested on Linux only")


def _models() -> CheckResult:
    broken = damaged()
    if broken:
        return _fail("models", "; ".join(broken), "reinstall Penstock")
    return _ok("models", "all shipped files have the digests of the manifest")


async def _redis(settings: Settings) -> AsyncIterator[CheckResult]:
    own = RedisSettings().url == settings.redis.url
    for redis in _servers(settings, own):
        async with connect(redis) as client:
            try:
                server = await look_at(client)
                await takes_writes(client, redis.namespace)
                name = f"{server.product.capitalize()} {server.version} at {_without_password(redis.url)}"
                yield await _set_up(client, name, server.major, settings.redis.namespace)
                yield _clock(server.ahead_s)
                if aside := await Store(Engine(client, redis.namespace, settings.queue)).unreadable():
                    yield _records(aside)
            except StoreUnavailable as error:
                why = error.detail
            else:
                return
    if not own:
        found, _, advice = why.partition("; ")
        yield _fail("redis", f"{_without_password(settings.redis.url)}: {found}", advice or "see the log of Redis")
        return
    try:
        yield _ok("redis", f"none runs yet; `penstock up` starts {find_server()}")
    except ConfigurationError as error:
        yield _fail("redis", str(error), "without REDIS_URL, `penstock up` needs a server program")


def _servers(settings: Settings, own: bool) -> Iterator[RedisSettings]:
    """Yields the Redis that `penstock up` runs in this directory, if it does, and then the one of the settings."""
    socket = Path(settings.up.data_dir).absolute() / "redis" / "redis.sock"
    if own and socket.exists():
        yield replace(settings.redis, url=f"unix://{socket}")
    yield settings.redis


async def _set_up(client: Redis, name: str, major: int, namespace: str) -> CheckResult:
    try:
        warnings = await check_server(client, namespace)
    except ConfigurationError as error:
        found, _, advice = str(error).partition("; ")
        return _fail("redis", f"{name}: {found}", advice)
    if warnings:
        return _warn("redis", name, "; ".join(warnings))
    if major < OLDEST_REDIS:
        return _warn("redis", name, f"use {OLDEST_REDIS} or later: an older one may stop a script in its midst")
    return _ok("redis", f"{name}, with an append-only file, evicts nothing")


def _clock(ahead_s: float) -> CheckResult:
    where = "ahead of" if ahead_s > 0 else "behind"
    found = f"the clock of Redis is {abs(ahead_s):.3f} s {where} ours"
    if abs(ahead_s) > CLOCKS_APART_S:
        return _warn("clock", found, "run a time service (chrony, systemd-timesyncd) on both hosts")
    return _ok("clock", found)


def _records(aside: Sequence[SetAside]) -> CheckResult:
    some = "; ".join(f"{one.id} ({one.reason})" for one in aside[:SHOWN_RECORDS])
    found = f"{len(aside)} records could not be read within a week, and were set aside: {some}"
    return _warn("records", found, "look for a faulty disk, a restore, or another program that writes to this Redis")


async def _storage(settings: Settings) -> AsyncIterator[CheckResult]:
    local, where = settings.storage.local, _place_of(settings.storage)
    try:
        async with open_storage(settings.storage, settings.redis.namespace) as opened:
            await opened.probe()
            yield _ok("storage", f"{where} takes, gives and deletes an object")
            async for finding in _clients_view(opened, where):
                yield finding
    except (StorageUnavailable, ConfigurationError) as error:
        advice = "let us write there, or set PENSTOCK_STORAGE_DIRECTORY" if local else "see [storage] in the settings"
        yield _fail("storage", f"{where}: {error}", advice)


async def _clients_view(storage: Storage, where: str) -> AsyncIterator[CheckResult]:
    """Checks a bucket as its clients see it: links, digests, and versions that it keeps; nothing for local storage."""
    report = await check_links(storage)
    if report is None:
        return
    for trouble in report.troubles:
        yield (_fail if trouble.is_certain else _warn)("links", trouble.problem, trouble.advice)
    if not report.troubles:
        yield _ok("links", f"clients download from {report.host} and upload to it")
    if report.compares_digests is False:
        found = f"{where} takes other bytes than the sha256 that was announced for them"
        yield _warn("digests", found, "a wrong upload is found when a task reads it: have clients check what they send")
    if await storage.keeps_versions():
        found = f"{where} keeps old versions of what is deleted"
        yield _warn("versions", found, "let a lifecycle rule remove them: see docs/how-to/buckets.md")


def _place_of(storage: StorageSettings) -> str:
    return str(Path(storage.directory).absolute()) if storage.local else f"bucket {storage.s3_bucket}"


def _devices(settings: Settings) -> Iterator[CheckResult]:
    try:
        places = placements(settings.worker)
    except ConfigurationError as error:
        yield _fail("device", str(error), "set GPU_IDS to auto, cpu, or numbers that are there")
        return
    for place in places:
        yield _device(place, settings)


def _device(place: Placement, settings: Settings) -> CheckResult:
    """Tries the device in a new process: which devices a process sees is decided by its environment, as for workers."""
    environment = clean_environment() | environment_of(settings) | place.environment
    argv = python("try-device", "--device", msgspec.json.encode(place.device).decode())
    try:
        tried = subprocess.run(argv, env=environment, capture_output=True, timeout=DEVICE_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        found = f"{place.device.name}: a small model does not run within {DEVICE_WITHIN_S:g} s"
        return _fail("device", found, "see whether the driver answers: nvidia-smi")
    if tried.returncode:
        said = tried.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {tried.returncode}"]
        why = said[-1].removeprefix("penstock: ")
        return _fail("device", f"{place.device.name}: {why}", "see docs/how-to/tune-a-gpu.md, or set GPU_IDS=cpu")
    trial = msgspec.json.decode(tried.stdout, type=DeviceProbe)
    found = (
        f"{trial.device} by {trial.provider} of ONNX Runtime {trial.runtime}: "
        f"a small model loads in {trial.load_s:.1f} s and runs in {trial.run_s * 1000:.0f} ms"
    )
    return _ok("device", found)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _ok(check: str, found: str) -> CheckResult:
    return CheckResult(check=check, state="ok", found=found)


def _warn(check: str, found: str, advice: str) -> CheckResult:
    return CheckResult(check=check, state="warn", found=found, advice=advice)


def _fail(check: str, found: str, advice: str) -> CheckResult:
    return CheckResult(check=check, state="fail", found=found, advice=advice)


def _row(finding: CheckResult) -> Table:
    row = Table.grid(padding=(0, 1))
    row.add_column(width=4)
    row.add_column(width=8)
    row.add_column()
    row.add_row(plain(finding.state, COLOURS[finding.state]), plain(finding.check), plain(finding.found))
    if finding.advice:
        row.add_row("", "", plain(f"→ {finding.advice}", "yellow"))
    return row
