"""Checks of the storage: that it takes objects, and, for a bucket, what its clients meet there."""

from collections.abc import AsyncIterator
from pathlib import Path

from penstock.cli.doctor.findings import CheckResult, fail, ok, warn
from penstock.errors import ConfigurationError, StorageUnavailable
from penstock.settings import Settings, StorageSettings
from penstock.storage import Storage, open_storage
from penstock.upkeep.links import check_links


async def check_storage(settings: Settings) -> AsyncIterator[CheckResult]:
    local, where = settings.storage.local, _place_of(settings.storage)
    try:
        async with open_storage(settings.storage, settings.redis.namespace) as opened:
            await opened.probe()
            yield ok("storage", f"{where} takes, gives and deletes an object")
            async for finding in _clients_view(opened, where):
                yield finding
    except (StorageUnavailable, ConfigurationError) as error:
        advice = "let us write there, or set PENSTOCK_STORAGE_DIRECTORY" if local else "see [storage] in the settings"
        yield fail("storage", f"{where}: {error}", advice)


async def _clients_view(storage: Storage, where: str) -> AsyncIterator[CheckResult]:
    """Checks a bucket as its clients and strangers see it: links, digests, what is public, what is replaced, and
    versions that it keeps; nothing for local storage."""
    report = await check_links(storage)
    if report is None:
        return
    for trouble in report.troubles:
        yield (fail if trouble.is_certain else warn)("links", trouble.problem, trouble.advice)
    if not report.troubles:
        yield ok("links", f"clients download from {report.host} and upload to it")
    if report.compares_digests is False:
        found = f"{where} takes other bytes than the sha256 that was announced for them"
        yield warn("digests", found, "a wrong upload is found when a task reads it: have clients check what they send")
    if report.is_public:
        found = f"anybody may {report.is_public} objects of {where}, without a key or a link"
        yield fail("private", found, "take away what its policy and its ACLs allow to everybody")
    if report.stores_once:
        yield ok("results", f"{where} refuses to replace a result by another one")
    else:
        found = f"{where} takes a second object under the key of a result, since it does not know If-None-Match"
        yield ok("results", f"{found}; no two attempts have the same keys")
    if report.lets_pages_send:
        yield ok("pages", f"pages of any origin may send their files to {where} by its links")
    else:
        found = f"{where} has no CORS rule for pages of any origin"
        yield ok("pages", f"{found}; to send their files there they need one: see docs/how-to/buckets.md")
    if await storage.keeps_versions():
        found = f"{where} keeps old versions of what is deleted"
        yield warn("versions", found, "let a lifecycle rule remove them: see docs/how-to/buckets.md")


def _place_of(storage: StorageSettings) -> str:
    return str(Path(storage.directory).absolute()) if storage.local else f"bucket {storage.s3_bucket}"
