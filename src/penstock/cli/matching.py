"""Commands that act on all tasks that match a filter: `penstock tasks cancel`, `retry` and `delete`."""

from typing import Any

import click
import msgspec

from penstock.cli.client import AS_JSON, OF_TENANT, at_a_server, reached
from penstock.cli.context import coroutine
from penstock.cli.filters import filtered

ENDS = {"cancel": "canceled", "retry": "queued again", "delete": "deleted"}


@click.group()
def tasks() -> None:
    """Cancel, retry or delete all tasks that match a filter."""


def _command_of(name: str) -> click.Command:
    @filtered
    @click.option("--all", "every", is_flag=True, help="Required if there is no filter but --status.")
    @click.option("--dry-run", is_flag=True, help="Show which tasks match, and change nothing.")
    @click.option("--yes", is_flag=True, help="Do not ask.")
    @OF_TENANT
    @AS_JSON
    @at_a_server
    @coroutine
    async def act(**options: Any) -> None:
        await _act(name, **options)

    text = f"{name.capitalize()} all tasks that match. It shows how many match, and asks before it changes them."
    return click.command(name, help=text)(act)


async def _act(
    name: str, url: str | None, api_key: str | None, tenant: str | None, every: bool, dry_run: bool, yes: bool,
    as_json: bool, **which: Any,
) -> None:  # fmt: skip
    async with reached(url, api_key, tenant=tenant) as client:
        act = getattr(client, f"{name}_matching")
        hit = await act(dry_run=True, every=every, **which)
        if not dry_run and hit.matched:
            if not yes:
                click.confirm(f"{name.capitalize()} {hit.matched} tasks ({_some(hit.task_ids)})?", abort=True, err=True)
            hit = await act(every=every, **which)
    told = f"{hit.matched} would be {ENDS[name]}" if dry_run else f"{hit.changed} {ENDS[name]}"
    click.echo(msgspec.json.encode(hit) if as_json else told)


def _some(task_ids: tuple[str, ...]) -> str:
    return ", ".join(task_ids[:3]) + (", …" if len(task_ids) > 3 else "")


for _name in ENDS:
    tasks.add_command(_command_of(_name))

COMMANDS = (tasks,)
