"""`penstock models`: lists the models, and has subcommands that are imported when they are called."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import click
from click.core import ParameterSource

from penstock.cli.client import at_a_server
from penstock.cli.context import AS_JSON
from penstock.cli.sections import WholeSentences

PLACES: Mapping[str, str] = {
    "list": "listing.list_models",
    "show": "listing.show",
    "add": "add.add",
    "check": "check.check",
    "new": "new.new",
    "set-default": "switching.set_default",
    "load": "switching.load",
    "unload": "switching.unload",
    "remove": "remove.remove",
    "push": "push.push",
    "pull": "pull.pull",
}
"""Command -> file of this folder and function in it, in the order of `penstock models --help`."""


class ModelCommands(WholeSentences):
    """A group that finds its commands in PLACES."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, place in PLACES.items() if find_spec(_module_of(place))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        place = PLACES[cmd_name]
        command: click.Command = getattr(import_module(_module_of(place)), place.rpartition(".")[2])
        return command


def _module_of(place: str) -> str:
    return f"{__package__}.{place.partition('.')[0]}"


@click.group(cls=ModelCommands, invoke_without_command=True)
@AS_JSON
@at_a_server
@click.pass_context
def models(context: click.Context, /, **options: Any) -> None:
    """List the models, or add, check, switch and load them."""
    if context.invoked_subcommand is None:
        from penstock.cli.models.listing import list_models

        context.invoke(list_models, **options)
        return
    for option in context.command.params:  # the command would go to another server without a word
        if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"give {option.opts[0]} after {context.invoked_subcommand}, not before it")


COMMANDS = (models,)
