"""`penstock models pull`: brings models from the storage into the directory."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from penstock.cli.context import coroutine
from penstock.cli.models.places import DATA_DIR, MODEL, settings_with, storage_of, versions_stored

if TYPE_CHECKING:
    from penstock.models.repository.remote import VersionIndex
    from penstock.storage import Storage


@click.command()
@MODEL
@click.option("--replace", is_flag=True, help="Replace a version that is in the directory already.")
@DATA_DIR
@coroutine
async def pull(model: str, replace: bool, data_dir: str | None) -> None:
    """Bring a model from the storage into the directory.

    Without a version, all versions of the name are pulled. Every file is compared with its digest, and a version
    appears whole or not at all. The workers of a running server are told.
    """
    from penstock.cli.models.announcing import announced
    from penstock.models.repository.tree import write_version

    settings = settings_with(data_dir)
    async with storage_of(settings) as storage:
        for index in await versions_stored(storage, model):
            with TemporaryDirectory(prefix="penstock-pull-") as draft:
                await _fetch(storage, index, Path(draft) / "files")
                files = {file.name: Path(draft) / "files" / file.name for file in index.files}
                into = Path(settings.models.directory)
                folder = write_version(into, index.model.name, index.model.version, files, replace=replace)
            click.echo(f"{index.id} pulled into {folder}")
            await announced(settings, index.model.name, index.model.version, default=False)


async def _fetch(storage: Storage, index: VersionIndex, into: Path) -> None:
    from penstock.errors import ConfigurationError
    from penstock.models.repository.remote import fetch

    try:
        await fetch(storage, index, into)
    except OSError as error:
        raise ConfigurationError(f"{index.id}: {into} cannot be written: {error.strerror}") from error
