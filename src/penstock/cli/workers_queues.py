"""`penstock workers` and `penstock queues`: each lists them, and has subcommands that change them."""

import sys
from typing import Any

import click

from penstock.cli.client import at_a_server, in_a_tenant, of_tenant, reached
from penstock.cli.context import AS_JSON, coroutine
from penstock.cli.filters import PRIORITIES
from penstock.cli.sections import WholeSentences

OF_PRIORITY = click.option("--priority", type=PRIORITIES, help="Only this priority [all].")


@click.group(cls=WholeSentences, invoke_without_command=True)
@AS_JSON
@in_a_tenant
@at_a_server
@click.pass_context
@coroutine
async def workers(context: click.Context, url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the workers, or drain and resume them."""
    from penstock.cli.tables import workers as run

    if context.invoked_subcommand is None:
        async with reached(url, api_key) as client:
            run(await client.workers(), as_json=as_json)


def _worker_command(name: str, method: str, text: str) -> click.Command:
    @click.argument("worker_ids", nargs=-1, required=True)
    @AS_JSON
    @at_a_server
    @coroutine
    async def command(url: str | None, api_key: str | None, worker_ids: tuple[str, ...], as_json: bool) -> None:
        from penstock.cli.tables import each_worker

        async with reached(url, api_key) as client:
            sys.exit(await each_worker(getattr(client, method), worker_ids, as_json=as_json))

    return click.command(name, help=f"{text} The exit status is 1 if one does not exist.")(command)


workers.add_command(_worker_command("drain", "drain_worker", "Let workers finish their tasks and claim no more."))
workers.add_command(_worker_command("resume", "resume_worker", "Let drained workers claim tasks again."))


@click.group(cls=WholeSentences, invoke_without_command=True)
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


def _queue_command(name: str, method: str, text: str) -> click.Command:
    @click.argument("model")
    @OF_PRIORITY
    @AS_JSON
    @at_a_server
    @coroutine
    async def command(url: str | None, api_key: str | None, model: str, priority: str | None, as_json: bool) -> None:
        from penstock.cli.tables import queues as run

        async with reached(url, api_key) as client:
            run(await getattr(client, method)(model, priority=priority), as_json=as_json)

    return click.command(name, help=text)(command)


PAUSE = "Stop starting tasks of a model. Running tasks go on, and submits are accepted."

queues.add_command(_queue_command("pause", "pause_queue", PAUSE))
queues.add_command(_queue_command("resume", "resume_queue", "Start tasks of a model again."))


@queues.command()
@click.argument("model")
@OF_PRIORITY
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@in_a_tenant
@at_a_server
def purge(yes: bool, **options: Any) -> None:
    """Cancel the waiting tasks of a model that are your tenant's, but none that runs."""
    which = " ".join(filter(None, (options["priority"], options["model"])))
    if not yes:
        click.confirm(f"Cancel all waiting tasks{of_tenant() or ' of your tenant'} for {which}?", abort=True, err=True)
    _purge(**options)


@coroutine
async def _purge(url: str | None, api_key: str | None, model: str, priority: str | None, as_json: bool) -> None:
    async with reached(url, api_key) as client:
        canceled = await client.purge_queue(model, priority=priority)
    click.echo(f'{{"canceled": {canceled}}}' if as_json else f"{canceled} canceled")


COMMANDS = (workers, queues)
