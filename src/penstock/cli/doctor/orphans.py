"""Objects of the storage that no record knows of."""

from collections.abc import AsyncIterator

from penstock.cli.doctor.findings import CheckResult, fail, ok, warn
from penstock.cli.doctor.redis import servers
from penstock.errors import ConfigurationError, StorageUnavailable, StoreUnavailable
from penstock.settings import RedisSettings, Settings
from penstock.storage import Storage, open_storage
from penstock.store import Installation, Shards, connect_each
from penstock.upkeep.orphans import NotCertain, delete_orphans, find_orphans, summary


async def examine_orphans(settings: Settings, *, delete: bool) -> AsyncIterator[CheckResult]:
    """Reports the objects that belong to no record, and deletes them if `delete` is set."""
    own = RedisSettings().url == settings.redis.url
    redis = next(servers(settings, own))
    try:
        async with (
            connect_each(redis) as clients,
            open_storage(settings.storage, settings.redis.namespace) as storage,
        ):
            for store in Shards.over(clients, settings.queue):
                yield await _orphans(store.installation, storage, delete)
    except (StoreUnavailable, StorageUnavailable, ConfigurationError) as error:
        yield fail("orphans", str(error), "the records and the objects are both needed: see penstock doctor")
    except NotCertain as error:
        yield fail("orphans", str(error), "nothing is looked for or deleted here: see docs/how-to/buckets.md")


async def _orphans(installation: Installation, storage: Storage, delete: bool) -> CheckResult:
    found = await find_orphans(installation, storage)
    if delete and found:
        gone = summary(await delete_orphans(installation, storage, found))
        return ok("orphans", f"deleted {gone.count} objects of {gone.bytes} bytes, such as {', '.join(gone.examples)}")
    if not found:
        return ok("orphans", "a record knows of every object that is older than a day")
    what = summary(found)
    text = f"no record knows of {what.count} objects of {what.bytes} bytes, such as {', '.join(what.examples)}"
    return warn("orphans", text, "penstock doctor --orphans --delete deletes them")
