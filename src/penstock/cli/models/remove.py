"""`penstock models remove`: takes models out of the directory, or out of the storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.context import coroutine
from penstock.cli.models.places import DATA_DIR, MODEL, settings_with, store_of, versions_in
from penstock.core.model import split_id
from penstock.errors import StoreUnavailable

if TYPE_CHECKING:
    from penstock.storage import Storage
    from penstock.store import Store


@click.command()
@MODEL
@click.option("--storage", "in_storage", is_flag=True, help="Remove it from the storage, not from the directory.")
@click.option("--force", is_flag=True, help="Remove it though tasks wait for it; these then fail.")
@DATA_DIR
@coroutine
async def remove(model: str, in_storage: bool, force: bool, data_dir: str | None) -> None:
    """Remove a model, and tell the workers.

    Without a version, all versions of the name are removed. A version for which tasks wait is not removed: let them
    end, or give --force, with which they fail as `model_unavailable`. A worker that has the version loaded ends what it
    runs.
    """
    from penstock.models.repository.tree import remove_version
    from penstock.storage import open_storage

    settings = settings_with(data_dir)
    directory = Path(settings.models.directory)
    async with open_storage(settings.storage, settings.redis.namespace) as storage, store_of(settings) as store:
        ids = await _stored(storage, model) if in_storage else [one.id for one in versions_in(directory, model)]
        if not force:
            await _refuse_waiting(store, ids)
        if in_storage:
            await _remove_stored(storage, ids)
        else:
            remove_version(directory, *split_id(model))
        click.echo(f"removed: {', '.join(ids)}")
        await _tell(store, ids)


async def _stored(storage: Storage, model: str) -> list[str]:
    from penstock.models.repository.remote import RemoteTree

    there = await RemoteTree(storage).look()
    ids = [one for one in there if model in (one, split_id(one)[0])]
    if not ids:
        known = ", ".join(there) or "none"
        raise click.ClickException(f"there is no model {model} in the storage (there are: {known})")
    return ids


async def _remove_stored(storage: Storage, ids: Sequence[str]) -> None:
    from penstock.models.repository.remote import remove as remove_stored

    for one in ids:
        name, version = split_id(one)
        await remove_stored(storage, name, version or "")


async def _refuse_waiting(store: Store, ids: Sequence[str]) -> None:
    waiting: Counter[str] = Counter()
    try:
        for queue in await store.queues.depths(ids):
            waiting[queue.model] += queue.depth
    except StoreUnavailable:
        return  # no server runs, or it is another one's business
    if tasks := ", ".join(f"{depth} for {one}" for one, depth in waiting.items() if depth):
        raise click.ClickException(f"tasks wait ({tasks}): let them end, or give --force, with which they fail")


async def _tell(store: Store, ids: Sequence[str]) -> None:
    """Tell the workers, and retract what none of them has: they retract what they have themselves."""
    try:
        served = {one for worker in await store.workers.listed() for one in worker.models}
        await store.models.retract([one for one in ids if one not in served])
        for one in ids:
            await store.models.tell("look", one)
    except StoreUnavailable:
        click.echo("no server was told, since Redis cannot be reached; workers see it by themselves", err=True)
