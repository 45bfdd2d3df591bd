"""`penstock uploads` sends files that many tasks can name, and shows and deletes them."""

import sys
from pathlib import Path
from typing import Any

import click

from penstock.cli.client import at_a_server, reached
from penstock.cli.context import AS_JSON, coroutine
from penstock.cli.sections import WholeSentences


@click.group(cls=WholeSentences)
def uploads() -> None:
    """Send a file once, and name it in any number of tasks.

    `penstock submit` uploads what is too large for a request by itself.
    """


@uploads.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@AS_JSON
@at_a_server
@coroutine
async def put(url: str | None, api_key: str | None, paths: tuple[Path, ...], as_json: bool) -> None:
    """Upload files, and print the id of each.

    A task takes it as `upload_id`. An upload that no task uses is deleted after a day, or as the operator has it. The
    exit status is 1 if one failed.
    """
    from penstock.cli.progress_bars import Pauses
    from penstock.cli.uploads.tables import put as run

    async with reached(url, api_key, 60.0, Pauses()) as client:
        sys.exit(await run(client, paths, as_json=as_json))


@uploads.command()
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many uploads.")
@AS_JSON
@at_a_server
@coroutine
async def ls(url: str | None, api_key: str | None, limit: int, as_json: bool) -> None:
    """List the uploads sent from here, the latest first.

    These are those that `penstock uploads put` has sent and that are still at the server.
    """
    from penstock.cli.uploads.tables import ls as run

    async with reached(url, api_key) as client:
        await run(client, limit=limit, as_json=as_json)


@uploads.command()
@click.argument("upload_id", metavar="ID")
@AS_JSON
@at_a_server
@coroutine
async def show(url: str | None, api_key: str | None, upload_id: str, as_json: bool) -> None:
    """Show an upload: its state, and how many tasks use it."""
    from penstock.cli.uploads.sent import whole_upload_id
    from penstock.cli.uploads.tables import show as run

    async with reached(url, api_key) as client:
        run(await client.get_upload(whole_upload_id(client.url, upload_id)), as_json=as_json)


@uploads.command()
@click.argument("upload_ids", metavar="IDS...", nargs=-1, required=True)
@AS_JSON
@at_a_server
@coroutine
async def delete(url: str | None, api_key: str | None, upload_ids: tuple[str, ...], as_json: bool) -> None:
    """Delete uploads that no task uses. The exit status is 1 if one could not be deleted."""
    from penstock.cli.tables import each
    from penstock.cli.uploads.sent import whole_upload_id

    def told(_: Any) -> str:
        return "deleted"

    async with reached(url, api_key) as client:

        async def act(upload_id: str) -> None:
            await client.delete_upload(whole_upload_id(client.url, upload_id))

        sys.exit(await each(act, upload_ids, "upload_id", told, as_json=as_json))


COMMANDS = (uploads,)
