"""All checks of this machine and these settings, in order."""

import asyncio
import platform
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import click
import msgspec

from penstock import __version__
from penstock.cli.doctor.devices import check_devices
from penstock.cli.doctor.findings import CheckResult, fail, ok, row_of, warn
from penstock.cli.doctor.orphans import examine_orphans
from penstock.cli.doctor.redis import check_redis
from penstock.cli.doctor.storage import check_storage
from penstock.cli.terminal import console
from penstock.errors import ConfigurationError
from penstock.models import load_runners
from penstock.models.onnxruntime.session import damaged
from penstock.settings import Settings
from penstock.worker.devices import cores
from penstock.worker.residency.versions import LocalVersions


async def doctor(settings_of: Callable[[], Settings], *, orphans: bool, delete: bool, as_json: bool) -> int:
    """Runs all checks, or looks for orphans, and prints each result; the exit status is 1 if a check failed."""
    out, states = console(), set()
    async for finding in examine_orphans(settings_of(), delete=delete) if orphans else examine(settings_of):
        states.add(finding.state)
        if as_json:
            click.echo(msgspec.json.encode(finding))
        else:
            out.print(row_of(finding))
    return 1 if "fail" in states else 0


async def examine(settings_of: Callable[[], Settings]) -> AsyncIterator[CheckResult]:
    """Yields the result of each check. With wrong settings only the machine itself is checked."""
    yield _python()
    try:
        settings = settings_of()
        load_runners(settings.models, in_storage=not settings.storage.local)
    except ConfigurationError as error:
        yield fail("settings", str(error), "change it; config.example.toml has every setting")
        return
    yield ok("settings", "all names and values are valid")
    yield _models(settings)
    if settings.api.processes > 1:
        yield _api(settings.api.processes)
    async for finding in check_redis(settings):
        yield finding
    async for finding in check_storage(settings):
        yield finding
    for finding in await asyncio.to_thread(lambda: list(check_devices(settings))):
        yield finding


def _python() -> CheckResult:
    found = f"Python {platform.python_version()}, Penstock {__version__}, {platform.system()} {platform.machine()}"
    if sys.platform == "linux":
        return ok("python", found)
    return warn("python", found, "Penstock is tested on Linux only")


def _api(processes: int) -> CheckResult:
    here = cores()
    found = f"{processes} processes at one port, on {here} cores"
    if processes > here:
        return warn("api", found, "each uses one core: more of them cost memory and gain nothing; see api.processes")
    return ok("api", found)


def _models(settings: Settings) -> CheckResult:
    broken = damaged()
    if broken:
        return fail("models", "; ".join(broken), "reinstall Penstock")
    seen = LocalVersions(Path(settings.models.directory), settings.limits).look()
    wrong = [f"{place}: {reason}" for place, reason in (seen.broken | seen.strange).items()]
    if wrong:
        return warn(
            "models", "; ".join(wrong), f"mend or remove them in {settings.models.directory}; others are served"
        )
    found = f"; {len(seen.versions)} versions in {settings.models.directory}" if seen.versions else ""
    return ok("models", f"all shipped files have the digests of the manifest{found}")
