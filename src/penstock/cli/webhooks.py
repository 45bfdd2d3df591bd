"""`penstock webhooks` shows how the events of a task or a batch were delivered, and sends the last one again."""

import sys
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.client import asks_a_server, reached
from penstock.cli.sections import WholeSentences

if TYPE_CHECKING:
    from penstock.client import AsyncClient

OF_BATCHES = "bat_"


@click.group(cls=WholeSentences)
def webhooks() -> None:
    """Show how the events of a task or a batch were delivered, and send the last one again."""


@webhooks.command()
@click.argument("subject", metavar="ID")
@asks_a_server
async def show(url: str | None, api_key: str | None, subject: str, as_json: bool) -> None:
    """Show the webhook of a task or a batch, its events, and each try to deliver them. Times are in UTC."""
    from penstock.cli.webhook_tables import show as run

    async with reached(url, api_key) as client:
        subject = await _whole(client, subject)
        of_batch = subject.startswith(OF_BATCHES)
        found = await client.get_batch(subject) if of_batch else await client.get(subject)
        if found.webhook is None:
            raise click.ClickException(f"{subject} has no webhook; a submit names one as `webhook`")
        run(found.webhook, as_json=as_json)


@webhooks.command()
@click.argument("subjects", metavar="IDS...", nargs=-1, required=True)
@asks_a_server
async def redeliver(url: str | None, api_key: str | None, subjects: tuple[str, ...], as_json: bool) -> None:
    """Send the last event of tasks and batches to their webhooks again, with as many tries as a new event has.

    The exit status is 1 if one has no event.
    """
    from penstock.cli.tables import each

    async with reached(url, api_key) as client:

        async def act(subject: str) -> Any:
            subject = await _whole(client, subject)
            of_batch = subject.startswith(OF_BATCHES)
            return await (client.redeliver_batch(subject) if of_batch else client.redeliver(subject))

        sys.exit(await each(act, subjects, "id", lambda _: "sent again", as_json=as_json))


async def _whole(client: "AsyncClient", subject: str) -> str:
    from penstock.cli.whole_ids import whole_batch_id, whole_task_id

    return await (whole_batch_id if subject.startswith(OF_BATCHES) else whole_task_id)(client, subject)


COMMANDS = (webhooks,)
