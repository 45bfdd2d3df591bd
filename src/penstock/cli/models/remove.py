"""`penstock models remove`: takes models out of the directory, or out of the storage."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.context import coroutine
from penstock.cli.models.places import (
    DATA_DIR,
    MODEL,
    settings_with,
    shards_of,
    storage_of,
    versions_in,
    versions_stored,
)
from penstock.core.model import split_id
from penstock.errors import StoreUnavailable

if TYPE_CHECKING:
    from penstock.storage import Storage
    from penstock.store import Shards, Store, WorkerInfo


LOOK_S = 3.0
"""How long the command looks whether the storage has what it has removed from the directory."""


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
    runs. A model that is neither here nor on any worker is removed from the catalogue.
    """
    from penstock.models.repository.tree import remove_version

    settings = settings_with(data_dir)
    directory = Path(settings.models.directory)
    async with storage_of(settings) as storage, shards_of(settings) as shards:
        store = shards.home
        ids = await _ids(storage, model) if in_storage else await _ids_in(directory, model, store)
        if not force:
            await _refuse_waiting(shards, ids)
        if in_storage:
            await _remove_stored(storage, ids)
        else:
            remove_version(directory, *split_id(model))
        click.echo(f"removed: {', '.join(ids)}")
        await _tell(store, ids)
        await _say_what_stays(storage, directory, ids)


async def _ids(storage: Storage, model: str) -> list[str]:
    return [one.id for one in await versions_stored(storage, model)]


async def _ids_in(directory: Path, model: str, store: Store) -> list[str]:
    """The ids in the directory, else those in the catalogue that no worker has: their machines have gone for good."""
    try:
        return [one.id for one in versions_in(directory, model)]
    except click.ClickException:
        left = await _left_behind(store, model)
        if not left:
            raise
        return left


async def _left_behind(store: Store, model: str) -> list[str]:
    try:
        published = [one.model.id for one in (await store.models.catalogue()).versions]
        served = {one for worker in await store.workers.listed() for one in worker.models}
    except StoreUnavailable:
        return []
    return [one for one in published if model in (one, split_id(one)[0]) and one not in served]


async def _remove_stored(storage: Storage, ids: Sequence[str]) -> None:
    from penstock.models.repository.remote import remove as remove_stored

    for one in ids:
        name, version = split_id(one)
        await remove_stored(storage, name, version or "")


async def _refuse_waiting(shards: Shards, ids: Sequence[str]) -> None:
    waiting: Counter[str] = Counter()
    try:
        for queue in await shards.totals.depths(ids):
            waiting[queue.model] += queue.depth
        workers = await shards.home.workers.listed()
    except StoreUnavailable:
        return  # no server runs, or it is another one's business
    tasks = [f"{depth} for {one}" for one, depth in waiting.items() if depth]
    tasks += [f"some for {one}, which {worker.id} loads" for worker in workers for one in ids if _loads(worker, one)]
    if tasks:
        told = f"tasks wait ({', '.join(tasks)}): let them end, or give --force, with which they fail"
        raise click.ClickException(told)


def _loads(worker: WorkerInfo, model: str) -> bool:
    return model in worker.residence and worker.residence[model].state == "loading"


async def _say_what_stays(storage: Storage, directory: Path, ids: Sequence[str]) -> None:
    """Say which of these versions are served still: each may be in the directory and in the storage."""
    from penstock.errors import StorageUnavailable
    from penstock.models.repository.remote import RemoteTree
    from penstock.models.repository.tree import scan

    for one in ids:
        if one in scan(directory).versions:
            click.echo(f"{one} is still in {directory}; to remove it there too: penstock models remove {one}")
    with suppress(StorageUnavailable, TimeoutError):
        async with asyncio.timeout(LOOK_S):
            stored = await RemoteTree(storage).look()
        for one in sorted(stored.keys() & set(ids)):
            click.echo(f"{one} is still in the storage, and served; then: penstock models remove {one} --storage")


async def _tell(store: Store, ids: Sequence[str]) -> None:
    """Tell the workers, and retract what none of them has: they retract what they have themselves."""
    try:
        served = {one for worker in await store.workers.listed() for one in worker.models}
        await store.models.retract([one for one in ids if one not in served])
        for one in ids:
            await store.models.tell("look", one)
    except StoreUnavailable:
        click.echo("no server was told, since Redis cannot be reached; workers see it by themselves", err=True)
