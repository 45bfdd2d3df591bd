"""Tells a running server of a version that was added, and makes it the default one."""

import asyncio

from penstock.cli.models.places import shards_of
from penstock.errors import StoreUnavailable
from penstock.settings import Settings
from penstock.store import Store

PATIENCE_S = 20.0
"""How long a worker may take to publish the version, before it can become the default one."""
SEEN_WITHIN_S = 5.0
"""How long the command waits for it otherwise, so that the next command finds the model. Workers of other hosts may not
see this directory at all."""
POLL_S = 0.1


async def announced(settings: Settings, name: str, version: str, *, default: bool) -> str:
    """Make the workers look at once, wait until one of them has published the version, and set the default version.
    Returns why that was not done, or nothing. Without a server to tell, and no default to set, there is nothing to do:
    workers see what is added by themselves."""
    try:
        async with shards_of(settings) as shards:
            store = shards.home
            await store.models.tell("look", f"{name}@{version}")
            if not default:
                if await store.workers.listed():
                    await _is_published(store, f"{name}@{version}", SEEN_WITHIN_S)
            elif await _is_published(store, f"{name}@{version}", PATIENCE_S):
                await store.models.set_default(name, version)
            else:
                return f"no worker has published {name}@{version} yet; then: {_later(name, version)}"
    except StoreUnavailable:
        return f"no server can be reached; when one runs: {_later(name, version)}" if default else ""
    return ""


def _later(name: str, version: str) -> str:
    return f"penstock models set-default {name} {version}"


async def _is_published(store: Store, model_id: str, within_s: float) -> bool:
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while model_id in await store.models.missing([model_id]):
        if loop.time() > end:
            return False
        await asyncio.sleep(POLL_S)
    return True
