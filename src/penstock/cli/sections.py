"""The list of commands in `penstock --help`, by what they are for."""

from collections.abc import MutableMapping
from importlib import import_module
from typing import Any

import click

SECTIONS = {
    "Start": ("up", "demo", "doctor", "config"),
    "Tasks": ("submit", "ls", "show", "watch", "explain", "logs", "cancel", "retry", "delete", "tasks"),
    "Batches, files, events": ("batch", "uploads", "webhooks"),
    "Models": ("models", "try"),
    "Operate": ("top", "queues", "workers", "usage", "audit", "keys", "tenants"),
    "Servers and tools": ("api", "worker", "openapi", "bench"),
}
"""Heading -> the commands below it, in the order in which they are looked for."""

SHORTER = {
    "up": "Run everything on this machine.",
    "demo": "Upscale a photo, score it, and leave nothing running.",
    "doctor": "Check what Penstock needs, and say what to do.",
    "config": "Print the settings, also those of a running server.",
    "submit": "Run files and folders, and fetch the results.",
    "explain": "Say why a task is not done yet.",
    "logs": "Print what the model's code has logged about a task.",
    "batch": "Many tasks in one request: submit, follow, fetch.",
    "webhooks": "Show how events were delivered, and send them again.",
    "try": "Run a model in this process, without a server.",
    "top": "Show what the server does now, live.",
    "usage": "Show what tenants hold now and use each day.",
    "audit": "Show who did what to the work or the keys of others.",
    "tenants": "List tenants, show and set what each may use.",
    "worker": "Run one worker process for each device of this host.",
    "bench": "Put load on a server, and print what it does.",
}
"""What is said in the list about a command whose own first sentence is too long for a line."""

SHORT = 58
"""Characters of what is said about a command, so that a line has 80."""


UNCUT = 1000
"""More characters than the first sentence of any command has."""


class WholeSentences(click.Group):
    """A group whose help has the first sentence of each command, over as many lines as it takes."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands in the order of `list_commands`."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(UNCUT)) for name, one in found if one and not one.hidden])


class SectionedGroup(click.Group):
    """A group whose help lists its commands below headings.

    Those in `COMMANDS` of the module `others` are imported for the help, and when one of them is called.
    """

    def __init__(self, *args: Any, others: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._others = others

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of this name, if there is one."""
        return super().get_command(ctx, cmd_name) or self._with_others().get(cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, sorted."""
        return sorted(self._with_others())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections; a command that is in none stands at the end."""
        shown = {name: command for name, command in self._with_others().items() if not command.hidden}
        others = sorted(shown.keys() - {name for names in SECTIONS.values() for name in names})
        for heading, names in {**SECTIONS, "Others": tuple(others)}.items():
            rows = [
                (name, SHORTER.get(name) or shown[name].get_short_help_str(SHORT)) for name in names if name in shown
            ]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)

    def _with_others(self) -> MutableMapping[str, click.Command]:
        for command in import_module(self._others).COMMANDS:
            self.add_command(command)
        return self.commands
