"""Commands about tasks: list, show, follow and explain them, and act on some by their ids or on all that match."""

import sys
from typing import Any

import click

from penstock.cli.client import asks_a_server, reached
from penstock.cli.filters import filtered
from penstock.cli.matching import ENDS, Asked, act_on_matching, acting

WATCH_PATIENCE_S = 60.0


@click.command()
@click.argument("task_id", metavar="ID")
@asks_a_server
async def watch(url: str | None, api_key: str | None, task_id: str, as_json: bool) -> None:
    """Follow a task until it ends. The exit status is 1 if it has no result."""
    from penstock.cli.progress_bars import Pauses
    from penstock.cli.tables import watch as run
    from penstock.cli.whole_ids import whole_task_id

    async with reached(url, api_key, WATCH_PATIENCE_S, Pauses()) as client:
        sys.exit(await run(client, await whole_task_id(client, task_id), as_json=as_json))


@click.command()
@filtered
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many tasks.")
@asks_a_server
async def ls(url: str | None, api_key: str | None, batch_id: str | None, **filters: Any) -> None:
    """List tasks, newest first. Times are in UTC.

    A terminal that has no room for whole ids shows their beginnings, which all commands take.
    """
    from penstock.cli.tables import ls as run
    from penstock.cli.whole_ids import whole_batch_id

    async with reached(url, api_key) as client:
        batch_id = batch_id and await whole_batch_id(client, batch_id)
        await run(client, batch_id=batch_id, **filters)


@click.command()
@click.argument("task_id", metavar="ID")
@asks_a_server
async def show(url: str | None, api_key: str | None, task_id: str, as_json: bool) -> None:
    """Show everything about a task."""
    from penstock.cli.tables import show as run
    from penstock.cli.whole_ids import whole_task_id

    async with reached(url, api_key) as client:
        run(await client.get(await whole_task_id(client, task_id)), as_json=as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@asks_a_server
async def explain(url: str | None, api_key: str | None, task_id: str, as_json: bool) -> None:
    """Say why a task is not done yet: what is ahead of it, what blocks it, and when it should be done."""
    from penstock.cli.explaining import explain as run
    from penstock.cli.whole_ids import whole_task_id

    async with reached(url, api_key) as client:
        run(await client.explain(await whole_task_id(client, task_id)), as_json=as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@asks_a_server
async def logs(url: str | None, api_key: str | None, task_id: str, as_json: bool) -> None:
    """Print what the code of the model has logged about a task, and its tracebacks."""
    from penstock.cli.tables import print_log
    from penstock.cli.terminal import say
    from penstock.cli.whole_ids import whole_task_id

    async with reached(url, api_key) as client:
        task_id = await whole_task_id(client, task_id)
        log = await client.log(task_id)
    say({"task_id": task_id, "log": log}) if as_json else print_log(log)


def _command_of(name: str, help_: str) -> click.Command:
    @click.argument("task_ids", metavar="[IDS]...", nargs=-1)
    @filtered
    @acting
    @asks_a_server
    async def act(
        url: str | None, api_key: str | None, task_ids: tuple[str, ...], as_json: bool, **options: Any
    ) -> None:
        asked = Asked.of(name, options)
        if task_ids and asked.is_any:
            raise click.UsageError("give ids, or filters and their options, but not both")
        if not task_ids:
            asked.check()
        async with reached(url, api_key) as client:
            if not task_ids:
                return await act_on_matching(client, asked, as_json=as_json)
            sys.exit(await _each(client, name, task_ids, as_json=as_json))

    return click.command(name, help=help_)(act)


async def _each(client: Any, name: str, task_ids: tuple[str, ...], *, as_json: bool) -> int:
    from penstock.cli.tables import each_task
    from penstock.cli.whole_ids import whole_task_id

    async def act(task_id: str) -> Any:
        return await getattr(client, name)(await whole_task_id(client, task_id))

    return await each_task(act, task_ids, done=ENDS[name], as_json=as_json)


BY_FILTER = "Without ids it acts on all that match the filters: it shows how many, and asks."

STATUS = "The exit status is 1 if it could not be done for one of the ids."

cancel = _command_of("cancel", f"Cancel tasks that wait or run. {BY_FILTER} {STATUS}")
retry = _command_of("retry", f"Run tasks again that have no result. {BY_FILTER} {STATUS}")
delete = _command_of("delete", f"Delete tasks that have ended, with their files. {BY_FILTER} {STATUS}")

COMMANDS = (watch, ls, show, explain, logs, cancel, retry, delete)
