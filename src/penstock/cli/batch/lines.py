"""The lines of a `penstock batch submit`."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from penstock.cli.run_plan import counted
from penstock.cli.sources import places_of
from penstock.client import AsyncClient, Batch
from penstock.client.bounded import as_they_end
from penstock.client.inputs import Source
from penstock.errors import ConfigurationError

LINES = (".jsonl", ".ndjson")

INLINE_BYTES = 700_000
"""Larger images are uploaded first: a line has 1 MiB, and base64 makes four bytes of three."""

TOGETHER = 8
"""Images that are uploaded at a time."""


async def submitted(client: AsyncClient, paths: Sequence[Path], model: str, options: dict[str, Any]) -> Batch:
    """Submits a file of lines, or the images of files and folders. Raises click.UsageError for both at once, and
    ConfigurationError if there is no image."""
    if not any(path.suffix.lower() in LINES and path.is_file() for path in paths):
        sources = await asyncio.to_thread(_images, paths)
        return await client.submit_batch(await _with_uploads(client, sources), model, **options)
    if len(paths) > 1:
        raise click.UsageError("give one file of lines, or images and folders")
    return await client.submit_batch_file(paths[0], model, **options)


def _images(paths: Sequence[Path]) -> dict[str, Path]:
    passed_over: Counter[str] = Counter()
    found: dict[str, Path] = {}
    for source, place in places_of(paths, passed_over=passed_over):
        name = place.as_posix()
        if name in found:
            raise ConfigurationError(f"{found[name]} and {source} would both be {name}; name a folder above both")
        found[name] = source
    if not found:
        raise ConfigurationError(f"there are no image files{' among ' if passed_over else ''}{counted(passed_over)}")
    if passed_over:
        click.echo(f"passed over: {counted(passed_over)}", err=True)
    return found


async def _with_uploads(client: AsyncClient, sources: dict[str, Path]) -> dict[str, Source]:
    async def sent(name: str) -> tuple[str, Source]:
        return name, await client.upload(sources[name])

    large = [name for name, path in sources.items() if path.stat().st_size > INLINE_BYTES]
    uploads = {name: upload async for name, upload in as_they_end(sent, large, limit=TOGETHER)}
    return {**sources, **uploads}
