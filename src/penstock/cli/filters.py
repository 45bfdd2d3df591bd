"""The options that say which tasks, for the list and for the acts on all that match."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

STATUSES = click.Choice(["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELED", "EXPIRED"], case_sensitive=False)
PRIORITIES = click.Choice(["high", "normal", "low"])
MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])


def filtered(command: F) -> F:
    """With the options that say which tasks, as the client's `Filter`."""
    options = (
        click.option("--status", multiple=True, type=STATUSES, help="Repeatable."),
        click.option("--model", help="Of this model only."),
        click.option("--priority", type=PRIORITIES, help="Of this priority only."),
        click.option("--batch", "batch_id", metavar="ID", help="Lines of this batch only."),
        click.option(
            "--metadata", multiple=True, metavar="K=V", callback=_entries, help="With this entry; repeatable."
        ),
        click.option("--created-after", type=MOMENT, help="Local time, or with a zone such as +0200."),
        click.option("--created-before", type=MOMENT, help="The same."),
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
