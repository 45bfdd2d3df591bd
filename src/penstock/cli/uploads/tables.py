"""Sends uploads, and prints them as tables on a terminal or as JSON lines."""

from collections.abc import Iterable
from pathlib import Path

import click
import msgspec

from penstock.cli.terminal import add_pairs, console, filled_table, pairs, plain, readable, say, whole
from penstock.cli.uploads.sent import remember, sent_to
from penstock.cli.usage_tables import readable_bytes
from penstock.client import AsyncClient, PenstockApiError, StoredUpload

GONE = "upload_not_found"


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
            remember(client.url, upload.upload_id)
            if as_json:
                say({"source": readable(path), **msgspec.to_builtins(upload)})
            else:
                click.echo(f"{upload.upload_id}  {plain(readable(path)).plain}")
    return failed


async def ls(client: AsyncClient, *, limit: int, as_json: bool) -> None:
    """Lists the latest uploads that were sent from here and are still at the server, at most `limit`."""
    found: list[StoredUpload] = []
    for upload_id in sent_to(client.url):
        if len(found) == limit:
            break
        try:
            found.append(await client.get_upload(upload_id))
        except PenstockApiError as error:
            if error.code != GONE:
                raise
    if as_json:
        for upload in found:
            say(upload)
        return
    rows = filled_table(
        (whole("upload"), [plain(upload.upload_id) for upload in found]),
        (whole("status"), [plain(upload.status) for upload in found]),
        (whole("size"), [plain(readable_bytes(upload.size)) for upload in found]),
        (whole("tasks"), [plain(str(upload.tasks)) for upload in found]),
        ("name", [plain(upload.name or "") for upload in found]),
    )
    console().print(rows if found else "[dim]no uploads that were sent from here[/dim]")


def show(upload: StoredUpload, *, as_json: bool) -> None:
    """Prints everything about an upload."""
    if as_json:
        say(upload)
        return
    rows = pairs()
    for name, value in msgspec.to_builtins(upload).items():
        add_pairs(rows, name, value)
    console().print(rows)
