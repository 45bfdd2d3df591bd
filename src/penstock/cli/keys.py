"""`penstock keys` makes API keys, lists them, replaces them and ends them; `penstock audit` shows who did so."""

import re
import sys
from typing import Any

import click
import msgspec

from penstock.cli.client import at_a_server, reached
from penstock.cli.context import AS_JSON, coroutine, name_of
from penstock.cli.sections import WholeSentences
from penstock.core.access import SCOPES
from penstock.settings import new_key

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds_of(_context: click.Context, _option: click.Parameter, value: str) -> int:
    """Read a time such as 90d, 24h or 30m. Raises click.BadParameter."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", value)
    if found is None:
        raise click.BadParameter(f"{value!r} must be a time such as 90d, 24h or 30m")
    return int(found[1]) * UNITS_S[found[2]]


def life_of(context: click.Context, option: click.Parameter, value: str) -> int | None:
    """Read a time of a second or more, or `never`, which is None. Raises click.BadParameter."""
    if value == "never":
        return None
    life_s = seconds_of(context, option, value)
    if life_s == 0:
        raise click.BadParameter(f"{value!r} is no time to live; write `never` for a key that does not expire")
    return life_s


def scopes_of(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    """Read scopes that are separated by commas. Raises click.BadParameter for a word that is none."""
    words = tuple(re.split(r"[,+]", value))
    for word in words:
        if word not in SCOPES:
            raise click.BadParameter(f"{word!r} is no scope; the scopes are {', '.join(SCOPES)}")
    return words


@click.group(cls=WholeSentences)
def keys() -> None:
    """Make API keys, list them, replace them and end them.

    `new` makes a key for API_KEYS, which is a setting. The other commands are about managed keys: a server makes and
    ends them while it runs, and asks for a key with the scope admin.
    """


@keys.command()
@click.option(
    "--name",
    callback=name_of,
    default="default",
    show_default=True,
    help="Name of its user, and of a tenant. Logs show the name, never the key.",
)
@AS_JSON
def new(name: str, as_json: bool) -> None:
    """Make an API key and explain where to put it. Penstock does not store it."""
    key = new_key()
    if as_json:
        click.echo(msgspec.json.encode({"key": key, "name": name, "entry": f"{name}:{key}"}))
        return
    click.echo(key)
    click.echo(f'\n# in the file of --config, below [api]:\nkeys = ["{name}:{key}"]', err=True)
    click.echo(f"\n# or in the environment, beside other keys, with commas:\nAPI_KEYS={name}:{key}", err=True)


@keys.command()
@click.option("--tenant", callback=name_of, required=True, help="Whose tasks the key reads and makes.")
@click.option(
    "--scopes", callback=scopes_of, default="read,submit", show_default=True, help="Of read, submit, operate and admin."
)
@click.option(
    "--name",
    callback=name_of,
    help="Keys with one name are one caller, with one limit of the rate [the id of the key].",
)
@click.option(
    "--expires",
    "expires_in_s",
    metavar="TIME",
    callback=life_of,
    default="90d",
    show_default=True,
    help="When it works no longer: 90d, 12h or never.",
)
@AS_JSON
@at_a_server
@coroutine
async def create(url: str | None, api_key: str | None, as_json: bool, tenant: str, **said: Any) -> None:
    """Make a key and print it, once. The server keeps only a digest."""
    from penstock.cli.key_tables import new_key

    async with reached(url, api_key) as client:
        new_key(await client.create_key(tenant, **said), as_json=as_json)


@keys.command("list")
@click.option("--tenant", callback=name_of, help="Only the keys of this tenant [all].")
@AS_JSON
@at_a_server
@coroutine
async def list_(url: str | None, api_key: str | None, tenant: str | None, as_json: bool) -> None:
    """List the managed keys, and those that ended within 90 days."""
    from penstock.cli.key_tables import keys as run

    async with reached(url, api_key) as client:
        run(await client.keys(tenant=tenant), as_json=as_json)


@keys.command()
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap",
    "overlap_s",
    metavar="TIME",
    callback=seconds_of,
    default="24h",
    show_default=True,
    help="How long the old key works beside the new one.",
)
@AS_JSON
@at_a_server
@coroutine
async def rotate(url: str | None, api_key: str | None, key_id: str, overlap_s: int, as_json: bool) -> None:
    """Replace a key by a new one, which is printed once."""
    from penstock.cli.key_tables import new_key

    async with reached(url, api_key) as client:
        new_key(await client.rotate_key(key_id, overlap_s=overlap_s), as_json=as_json)


@keys.command()
@click.argument("key_ids", metavar="IDS...", nargs=-1, required=True)
@AS_JSON
@at_a_server
@coroutine
async def revoke(url: str | None, api_key: str | None, key_ids: tuple[str, ...], as_json: bool) -> None:
    """End keys now. Every process of the API refuses them within 5 s. The exit status is 1 if one does not exist."""
    from penstock.cli.key_tables import each_key

    async with reached(url, api_key) as client:
        sys.exit(await each_key(client.revoke_key, key_ids, as_json=as_json))


@keys.command("revoke-tokens")
@click.option("--tenant", callback=name_of, required=True, help="Whose task tokens end.")
@AS_JSON
@at_a_server
@coroutine
async def revoke_tokens(url: str | None, api_key: str | None, tenant: str, as_json: bool) -> None:
    """End all task tokens that a tenant was given so far."""
    async with reached(url, api_key) as client:
        await client.revoke_tokens(tenant)
    told = msgspec.json.encode({"tenant": tenant, "revoked": True}) if as_json else None
    click.echo(told or f"the task tokens of {tenant} open nothing any more")


@click.command()
@click.option("--limit", type=click.IntRange(1), help="Show at most this many acts [all].")
@AS_JSON
@at_a_server
@coroutine
async def audit(url: str | None, api_key: str | None, limit: int | None, as_json: bool) -> None:
    """Show who did what to the work or the keys of others, newest first.

    With --json there is an object for each act: a file that can be kept for longer than the server keeps it. It asks
    for a key with the scope admin.
    """
    from penstock.cli.key_tables import audit as run

    async with reached(url, api_key) as client:
        await run(client.audit(), limit=limit, as_json=as_json)


COMMANDS = (keys, audit)
