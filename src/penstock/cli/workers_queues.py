"""The commands for who looks after queues and workers: each lists them, and has what can be done to them below it."""

import sys
from typing import Any

import click

from penstock.cli.client import AS_JSON, at_a_server, reached
from penstock.cli.context import coroutine
from penstock.cli.filters import PRIORITIES

OF_PRIORITY = click.option("--priority", type=PRIORITIES, help="Of this priority only [all].")


@click.group(invoke_without_command=True)
@AS_JSON
@at_a_server
@click.pass_context
@coroutine
async def workers(context: click.Context, url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the workers, or drain and resume them."""
    from penstock.cli.tables import workers as run

    if context.invoked_subcommand is None:
        async with reached(url, api_key) as client:
            run(await client.workers(), as_json=as_json)


@workers.command()
@click.argument("worker_ids", nargs=-1, required=True)
@AS_JSON
@at_a_server
@coroutine
async def drain(url: str | None, api_key: str | None, worker_ids: tuple[str, ...], as_json: bool) -> None:
    """Let workers finish what they run and claim nothing more. Exit status 1 when one is not there."""
    from penstock.cli.tables import each_worker

    async with reached(url, api_key) as client:
        sys.exit(await each_worker(client.drain_worker, worker_ids, as_json=as_json))


@workers.command("resume")
@click.argument("worker_ids", nargs=-1, required=True)
@AS_JSON
@at_a_server
@coroutine
async def resume_workers(url: str | None, api_key: str | None, worker_ids: tuple[str, ...], as_json: bool) -> None:
    """Let drained workers claim again. Exit status 1 when one is not there."""
    from penstock.cli.tables import each_worker

    async with reached(url, api_key) as client:
        sys.exit(await each_worker(client.resume_worker, worker_ids, as_json=as_json))


@click.group(invoke_without_command=True)
@AS_JSON
@at_a_server
@click.pass_context
@coroutine
async def queues(context: click.Context, url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the queues, or pause, resume and purge them."""
    from penstock.cli.tables import queues as run

    if context.invoked_subcommand is None:
        async with reached(url, api_key) as client:
            run(await client.queues(), as_json=as_json)


@queues.command()
@click.argument("model")
@OF_PRIORITY
@AS_JSON
@at_a_server
@coroutine
async def pause(url: str | None, api_key: str | None, model: str, priority: str | None, as_json: bool) -> None:
    """Let no task of a model start; what runs goes on, and submits are taken."""
    from penstock.cli.tables import queues as run

    async with reached(url, api_key) as client:
        run(await client.pause_queue(model, priority=priority), as_json=as_json)


@queues.command()
@click.argument("model")
@OF_PRIORITY
@AS_JSON
@at_a_server
@coroutine
async def resume(url: str | None, api_key: str | None, model: str, priority: str | None, as_json: bool) -> None:
    """Let the tasks of a model start again."""
    from penstock.cli.tables import queues as run

    async with reached(url, api_key) as client:
        run(await client.resume_queue(model, priority=priority), as_json=as_json)


@queues.command()
@click.argument("model")
@OF_PRIORITY
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@at_a_server
def purge(yes: bool, **options: Any) -> None:
    """Cancel the tasks of a model that wait; none that runs."""
    which = " ".join(filter(None, (options["priority"], options["model"])))
    if not yes:
        click.confirm(f"Cancel all waiting tasks of {which}?", abort=True, err=True)
    _purge(**options)


@coroutine
async def _purge(url: str | None, api_key: str | None, model: str, priority: str | None, as_json: bool) -> None:
    async with reached(url, api_key) as client:
        canceled = await client.purge_queue(model, priority=priority)
    click.echo(f'{{"canceled": {canceled}}}' if as_json else f"{canceled} canceled")


COMMANDS = (workers, queues)
