"""Where the commands for models work: the directory of models, the storage, and the server that is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from penstock.cli.context import settings_of_call
from penstock.core.model import split_id
from penstock.local.redis_server import socket_of
from penstock.models.repository.tree import VersionFolder, scan
from penstock.settings import Settings, within
from penstock.store import Shards, connect_each

if TYPE_CHECKING:
    from penstock.models.repository.remote import VersionIndex
    from penstock.storage import Storage

MODEL = click.argument("model", metavar="NAME[@VERSION]")
DATA_DIR = click.option("--data-dir", type=click.Path(), help="Directory of `penstock up` [penstock-data].")


def settings_with(data_dir: str | None) -> Settings:
    """The settings of a server: where they name no directory, socket or bucket, those of `penstock up` in its data
    directory."""
    settings = settings_of_call(up_data_dir=data_dir)
    home = Path(settings.up.data_dir).absolute()
    socket = socket_of(home)
    if settings.redis.url == type(settings.redis)().url and socket.exists():
        settings = replace(settings, redis=replace(settings.redis, url=f"unix://{socket}"))
    return within(settings, home)


def versions_in(directory: Path, reference: str) -> list[VersionFolder]:
    """The versions of a name, or the one of `name@version`. Raises ClickException when there is none."""
    name, version = split_id(reference)
    there = scan(directory).versions.values()
    found = [one for one in there if one.name == name and version in (None, one.version)]
    if not found:
        known = ", ".join(one.id for one in there) or "none"
        raise click.ClickException(f"there is no model {reference} in {directory} (there are: {known})")
    return found


async def versions_stored(storage: Storage, reference: str) -> list[VersionIndex]:
    """The same of the versions in the storage. Raises StorageUnavailable, too."""
    from penstock.models.repository.remote import RemoteTree

    name, version = split_id(reference)
    there = await RemoteTree(storage).look()
    found = [one for one in there.values() if one.model.name == name and version in (None, one.model.version)]
    if not found:
        known = ", ".join(there) or "none"
        raise click.ClickException(f"there is no model {reference} in the storage (there are: {known})")
    return found


@asynccontextmanager
async def storage_of(settings: Settings) -> AsyncIterator[Storage]:
    """The storage of the server. When it cannot be used the command ends with one line."""
    from penstock.errors import StorageUnavailable
    from penstock.storage import open_storage

    try:
        async with open_storage(settings.storage, settings.redis.namespace) as storage:
            yield storage
    except StorageUnavailable as error:
        raise click.ClickException(str(error)) from error


@asynccontextmanager
async def shards_of(settings: Settings) -> AsyncIterator[Shards]:
    """The task store of the server. Whether it can be reached shows with the first call."""
    async with connect_each(settings.redis) as clients:
        yield Shards.over(clients, settings.queue)
