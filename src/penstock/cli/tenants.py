"""`penstock tenants` lists the tenants of a server, and shows and sets what each may use."""

import re
from typing import TYPE_CHECKING

import click

from penstock.cli.client import at_a_server, reached
from penstock.cli.context import AS_JSON, coroutine
from penstock.cli.sections import WholeSentences
from penstock.core.quotas import QUOTAS

if TYPE_CHECKING:
    from penstock.client import AsyncClient, TenantQuotas

DEFAULT = "default"
"""What stands for the quota of the settings."""


def quotas_of(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, int | None]:
    """Read `name=value` of each; None stands for `default`. Raises click.BadParameter."""
    said: dict[str, int | None] = {}
    for value in values:
        name, _, amount = value.partition("=")
        if name not in QUOTAS:
            raise click.BadParameter(f"{name!r} is no quota; the quotas are {', '.join(QUOTAS)}")
        if not re.fullmatch(rf"[0-9]{{1,15}}|{DEFAULT}", amount):
            raise click.BadParameter(f"{value!r} must be {name}= and a number, 0 for no limit, or {DEFAULT}")
        said[name] = None if amount == DEFAULT else int(amount)
    return said


@click.group(cls=WholeSentences)
def tenants() -> None:
    """List the tenants of a server, and show and set what each may use. It asks for a key with the scope admin."""


@tenants.command("list")
@AS_JSON
@at_a_server
@coroutine
async def list_(url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the tenants that have keys, tasks, batches, or quotas of their own."""
    from penstock.cli.key_tables import tenants as run

    async with reached(url, api_key) as client:
        run(await client.tenants(), as_json=as_json)


@tenants.command()
@click.argument("tenant")
@click.option(
    "--set",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    callback=quotas_of,
    help="Set a quota: a number, 0 for no limit, or default for that of the settings; repeatable.",
)
@click.option("--reset", is_flag=True, help="Take back all that was set for the tenant, before --set.")
@AS_JSON
@at_a_server
@coroutine
async def quotas(
    url: str | None, api_key: str | None, tenant: str, changes: dict[str, int | None], reset: bool, as_json: bool
) -> None:
    """Show what a tenant may use, after --reset and --set. Every process of the API goes by it within 5 s."""
    from penstock.cli.key_tables import quotas as run

    async with reached(url, api_key) as client:
        run(await _changed(client, tenant, changes, reset=reset), as_json=as_json)


async def _changed(
    client: "AsyncClient", tenant: str, changes: dict[str, int | None], *, reset: bool
) -> "TenantQuotas":
    if not changes:
        return await client.reset_quotas(tenant) if reset else await client.quotas(tenant)
    before = {} if reset else (await client.quotas(tenant)).own
    own = {name: amount for name, amount in ({**before} | changes).items() if amount is not None}
    return await client.set_quotas(tenant, own)


COMMANDS = (tenants,)
