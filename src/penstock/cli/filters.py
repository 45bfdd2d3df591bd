"""Options that select tasks, for `penstock ls` and for the commands that act on all tasks that match."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

STATUSES = click.Choice(["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELED", "EXPIRED"], case_sensitive=False)
PRIORITIES = click.Choice(["high", "normal", "low"])
MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])


def filtered(command: F) -> F:
    """Adds the options that make up the client's `Filter`."""
    options = (
        click.option("--status", multiple=True, type=STATUSES, help="Only tasks in this status; repeatable."),
        click.option("--model", help="Only tasks of this model."),
        click.option("--priority", type=PRIORITIES, help="Only tasks of this priority."),
        click.option("--key", metavar="NAME", help="Only tasks that the key of this name has submitted."),
        click.option("--error", "error_code", metavar="CODE", help="Only tasks that ended with this error."),
        click.option("--id", "id_prefix", metavar="ID", help="Only tasks whose id begins so."),
        click.option("--batch", "batch_id", metavar="ID", help="Only lines of this batch."),
        click.option(
            "--metadata",
            multiple=True,
            metavar="K=V",
            callback=_entries,
            help="Only tasks with this entry; repeatable.",
        ),
        click.option(
            "--created-after",
            type=MOMENT,
            metavar="TIME",
            help="Only tasks created after 2026-11-28, 2026-11-28T19:00:00 (local time) or a time with a zone (+0200).",
        ),
        click.option("--created-before", type=MOMENT, metavar="TIME", help="Only tasks created before this time."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _entries(context: click.Context, parameter: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    entries = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            raise click.BadParameter(f"{pair!r} is not of the form key=value", context, parameter)
        entries[name] = value
    return entries
