"""Sends uploads, and prints them as tables on a terminal or as JSON lines."""

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from penstock.cli.terminal import add_pairs, console, pairs, plain, readable, say
from penstock.client import AsyncClient, PenstockApiError, StoredUpload


async def put(client: AsyncClient, paths: Iterable[Path], *, as_json: bool) -> int:
    """Uploads each file, also after one has failed, and returns the exit status."""
    failed = 0
    for path in paths:
        try:
            upload = await client.upload(path)
        except (PenstockApiError, OSError) as error:
            failed = 1
            if as_json:
                say({"source": readable(path), "error": getattr(error, "code", "file_error"), "detail": str(error)})
            else:
                click.echo(plain(f"{readable(path)}  {error}").plain, err=True)
        else:
            if as_json:
                say({"source": readable(path), **msgspec.to_builtins(upload)})
            else:
                click.echo(f"{upload.upload_id}  {plain(readable(path)).plain}")
    return failed


def show(upload: StoredUpload, *, as_json: bool) -> None:
    """Prints everything about an upload."""
    if as_json:
        say(upload)
        return
    rows = pairs()
    for name, value in msgspec.to_builtins(upload).items():
        add_pairs(rows, name, value)
    console().print(rows)
