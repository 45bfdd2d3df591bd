"""`penstock models push`: puts models into the storage, from which the workers of a fleet fetch them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.context import coroutine
from penstock.cli.models.places import DATA_DIR, MODEL, settings_with, shards_of, storage_of, versions_in

if TYPE_CHECKING:
    from penstock.core.model import Model
    from penstock.settings import Settings


@click.command()
@MODEL
@DATA_DIR
@coroutine
async def push(model: str, data_dir: str | None) -> None:
    """Put a model from the directory into the storage, and tell the workers.

    Without a version, all versions of the name are pushed. The files are sent first and the index last, so that no
    worker sees half a version; files that are there are not sent again. Workers fetch a version when a task asks for
    it, and compare its digests.
    """
    from penstock.models.declared import FILE
    from penstock.models.declared.files import files_of
    from penstock.models.declared.runner import declared_runner
    from penstock.models.repository import remote

    settings = settings_with(data_dir)
    folders = versions_in(Path(settings.models.directory), model)
    pushed = []
    async with storage_of(settings) as storage:
        for one in folders:
            runner = declared_runner(one.folder, name=one.name, version=one.version)
            digests, run = files_of(runner.definition), runner.definition.run
            names = [FILE, *digests]
            index = await remote.push(storage, runner.described(), one.folder, names, run, digests=digests)
            click.echo(f"{index.id} pushed: {len(index.files)} files, {index.size / 1e6:.1f} MB")
            pushed.append(index.model)
    await _tell(settings, pushed)


async def _tell(settings: Settings, pushed: Sequence[Model]) -> None:
    from penstock.errors import StoreUnavailable

    try:
        async with shards_of(settings) as shards:
            store = shards.home
            await store.models.publish(pushed, worker="operator")
            for described in pushed:
                await store.models.tell("look", described.id)
    except StoreUnavailable:
        click.echo("no server was told, since Redis cannot be reached; workers look once a minute", err=True)
