"""`penstock models list` and `show`: which models a server runs, and everything about one of them."""

import click

from penstock.cli.client import at_a_server, reached
from penstock.cli.context import AS_JSON, coroutine


@click.command("list")
@AS_JSON
@at_a_server
@coroutine
async def list_models(url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the models that the server runs, with their versions and where they are loaded."""
    from penstock.cli.models.tables import models as run

    async with reached(url, api_key) as client:
        catalogue = await client.catalogue()
        run(catalogue.data, catalogue.faulty, as_json=as_json)


@click.command()
@click.argument("name")
@AS_JSON
@at_a_server
@coroutine
async def show(url: str | None, api_key: str | None, name: str, as_json: bool) -> None:
    """Show everything about a model."""
    from penstock.cli.models.tables import show as run

    async with reached(url, api_key) as client:
        run(await client.model(name), as_json=as_json)
