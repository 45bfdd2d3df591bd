"""`penstock models set-default`, `load` and `unload`: which version a name means, and what is loaded."""

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import click

from penstock.cli.client import at_a_server, reached
from penstock.cli.context import AS_JSON, coroutine

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Model

LOOK_EVERY_S = 0.2

HEARD_WITHIN_S = 10.0
"""Workers that have not tried a model again within this time, which has failed on all of them, will not."""


@click.command("set-default")
@click.argument("name")
@click.argument("version")
@AS_JSON
@at_a_server
@coroutine
async def set_default(url: str | None, api_key: str | None, name: str, version: str, as_json: bool) -> None:
    """Make a version the one that NAME means.

    It takes effect at the next submit. Tasks that were submitted before end on their version.
    """
    from penstock.cli.models.tables import print_state

    async with reached(url, api_key) as client:
        print_state(await client.set_default_model(name, version), as_json=as_json)


@click.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait until a worker has it; the exit status is 1 if it cannot be loaded.")
@AS_JSON
@at_a_server
@coroutine
async def load(url: str | None, api_key: str | None, name: str, wait: bool, as_json: bool) -> None:
    """Load a model before its first task comes.

    NAME is that of a model, for its default version, or NAME@VERSION.
    """
    from penstock.cli.models.tables import print_state

    async with reached(url, api_key) as client:
        model = await (loaded(client, name) if wait else client.load_model(name))
        print_state(model, as_json=as_json)
        sys.exit(1 if wait and model.state == "failed" else 0)


async def loaded(client: "AsyncClient", name: str) -> "Model":
    """Loads a model, and returns it when a worker has it, or when all have failed since the call. Raises ClickException
    when there is no worker any more that could."""
    from penstock.cli.models.tables import version_of

    before = frozenset(version_of(await client.model(name)).workers)
    model = await client.load_model(name)
    until = time.monotonic() + HEARD_WITHIN_S
    while model.state != "ready":
        if not (workers := version_of(model).workers):
            raise click.ClickException(f"no worker has {model.name}@{model.version} any more")
        have_tried = before.isdisjoint(workers) or time.monotonic() > until
        if model.state == "failed" and have_tried:
            break
        await asyncio.sleep(LOOK_EVERY_S)
        model = await client.model(f"{model.name}@{model.version}")
    return model


@click.command()
@click.argument("name")
@AS_JSON
@at_a_server
@coroutine
async def unload(url: str | None, api_key: str | None, name: str, as_json: bool) -> None:
    """Give back the memory of a model.

    NAME is that of a model, for its default version, or NAME@VERSION. What runs ends first, and the next task loads the
    model again.
    """
    from penstock.cli.models.tables import print_state

    async with reached(url, api_key) as client:
        print_state(await client.unload_model(name), as_json=as_json)
