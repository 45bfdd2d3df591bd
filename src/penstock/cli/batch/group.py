"""`penstock batch`: many tasks in one request, its progress and its results."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.client import asks_a_server, at_a_server, params_of, reached
from penstock.cli.context import AS_JSON, coroutine
from penstock.cli.filters import PRIORITIES
from penstock.cli.sections import WholeSentences
from penstock.cli.written import taken_from, written_as

if TYPE_CHECKING:
    from penstock.client import AsyncClient

OUTPUT = click.Path(path_type=Path, file_okay=False)

SUBMIT_PATIENCE_S = 60.0


@click.group(cls=WholeSentences)
def batch() -> None:
    """Submit many tasks in one request, follow them, and fetch their results.

    `penstock submit` runs folders too, and waits for each file. A batch goes on by itself.
    """


@batch.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", default="superres-x4", show_default=True, help="Model of the lines that name none.")
@click.option(
    "--param", "pairs", multiple=True, metavar="K=V", help="Parameter of the model, such as variant=clean; repeatable."
)
@written_as
@click.option("--priority", type=PRIORITIES, default="low", show_default=True, help="Which tasks come first.")
@click.option("--wait", is_flag=True, help="Follow the batch until it ends; the exit status is 1 if a line failed.")
@AS_JSON
@at_a_server
@coroutine
async def submit(
    url: str | None, api_key: str | None, pairs: tuple[str, ...], wait: bool, as_json: bool, **members: Any
) -> None:
    """Submit the lines of a .jsonl file, or one task for each image of files and folders.

    A line is a task with a custom_id of yours; what it does not say is as the options have it. The custom_id of an
    image is its path below the folder that was named. All lines are checked first: if one is wrong, none is queued.
    """
    from penstock.cli.batch.lines import submitted
    from penstock.cli.batch.tables import follow, shown
    from penstock.cli.progress_bars import Pauses

    options = {"params": params_of(pairs), "output": taken_from(members), "priority": members["priority"]}
    async with reached(url, api_key, SUBMIT_PATIENCE_S, Pauses()) as client:
        made = await submitted(client, members["paths"], members["model"], options)
        if wait:
            sys.exit(await follow(client, made.batch_id, as_json=as_json))
        shown(made, as_json=as_json)


@batch.command("ls")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many batches.")
@asks_a_server
async def ls(url: str | None, api_key: str | None, limit: int, as_json: bool) -> None:
    """List batches, newest first. Times are in UTC."""
    from penstock.cli.batch.tables import ls as run

    async with reached(url, api_key) as client:
        await run(client, limit=limit, as_json=as_json)


@batch.command()
@click.argument("batch_id", metavar="ID")
@asks_a_server
async def show(url: str | None, api_key: str | None, batch_id: str, as_json: bool) -> None:
    """Show everything about a batch: counts, progress, the time that is left."""
    from penstock.cli.batch.tables import shown
    from penstock.cli.whole_ids import whole_batch_id

    async with reached(url, api_key) as client:
        shown(await client.get_batch(await whole_batch_id(client, batch_id)), as_json=as_json)


@batch.command()
@click.argument("batch_id", metavar="ID")
@asks_a_server
async def watch(url: str | None, api_key: str | None, batch_id: str, as_json: bool) -> None:
    """Follow a batch until it ends. The exit status is 1 if a line has no result."""
    from penstock.cli.batch.tables import follow
    from penstock.cli.progress_bars import Pauses
    from penstock.cli.whole_ids import whole_batch_id

    async with reached(url, api_key, SUBMIT_PATIENCE_S, Pauses()) as client:
        sys.exit(await follow(client, await whole_batch_id(client, batch_id), as_json=as_json))


@batch.command()
@click.argument("batch_id", metavar="ID")
@click.option("-o", "--output", type=OUTPUT, help="Fetch the results of the lines into this directory.")
@click.option("--failed", is_flag=True, help="Only lines without a result.")
@asks_a_server
async def results(
    url: str | None, api_key: str | None, batch_id: str, output: Path | None, failed: bool, as_json: bool
) -> None:
    """List how the lines have ended so far, and fetch their results. The exit status is 1 if one cannot be fetched."""
    from penstock.cli.batch.tables import results as run
    from penstock.cli.whole_ids import whole_batch_id

    async with reached(url, api_key) as client:
        batch_id = await whole_batch_id(client, batch_id)
        sys.exit(await run(client, batch_id, output, only_failed=failed, as_json=as_json))


@batch.command()
@click.argument("batch_ids", metavar="IDS...", nargs=-1, required=True)
@asks_a_server
async def cancel(url: str | None, api_key: str | None, batch_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel the lines of batches that have not ended. The exit status is 1 if one could not be canceled."""
    async with reached(url, api_key) as client:
        sys.exit(await _each(client, "cancel_batch", batch_ids, as_json=as_json))


@batch.command()
@click.argument("batch_ids", metavar="IDS...", nargs=-1, required=True)
@asks_a_server
async def delete(url: str | None, api_key: str | None, batch_ids: tuple[str, ...], as_json: bool) -> None:
    """Delete batches that have ended; their tasks stay. The exit status is 1 if one could not be deleted."""
    async with reached(url, api_key) as client:
        sys.exit(await _each(client, "delete_batch", batch_ids, as_json=as_json))


async def _each(client: "AsyncClient", method: str, batch_ids: tuple[str, ...], *, as_json: bool) -> int:
    from penstock.cli.tables import each
    from penstock.cli.whole_ids import whole_batch_id

    async def act(batch_id: str) -> Any:
        return await getattr(client, method)(await whole_batch_id(client, batch_id))

    return await each(act, batch_ids, "batch_id", lambda batch: batch.status if batch else "deleted", as_json=as_json)


COMMANDS = (batch,)
