"""`penstock config` prints the settings of this shell, or those that a running server goes by."""

from typing import Any

import click
import msgspec

from penstock.cli.client import at_a_server, reached
from penstock.cli.context import AS_JSON, as_toml, by_section, coroutine, masked, settings_of_call
from penstock.settings import Settings

NOTHING_CHANGED = "# every setting is the default\n"


@click.command()
@click.option("--server", is_flag=True, help="Those of the running server, for a key with the scope operate.")
@click.option("--changed", is_flag=True, help="Only those that are not the default.")
@AS_JSON
@at_a_server
@coroutine
async def config(url: str | None, api_key: str | None, server: bool, changed: bool, as_json: bool) -> None:
    """Print the settings that a server started here would have, as TOML. With --server, those of the running one.

    Secrets are masked here, and a server does not send them.
    """
    if server:
        async with reached(url, api_key) as client:
            found = await client.server_settings()
        told, settings = f"# {client.url} runs Penstock {found.version}\n", found.settings
    else:
        told, settings = "", by_section(settings_of_call())
    settings = masked(without_defaults(settings) if changed else settings)
    if as_json:
        click.echo(msgspec.json.encode(settings))
    else:
        click.echo(told + (as_toml(settings) if settings else NOTHING_CHANGED), nl=False)


def without_defaults(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the settings that have another value than this version has by default, in sections that have any."""
    defaults = by_section(Settings())
    changed = {
        section: {name: value for name, value in values.items() if defaults.get(section, {}).get(name) != value}
        for section, values in settings.items()
    }
    return {section: values for section, values in changed.items() if values}


COMMANDS = (config,)
