"""Prints keys, tenants and the audit as tables on a terminal, or as JSON lines."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing

import click
from rich.text import Text

from penstock.cli.tables import each
from penstock.cli.terminal import (
    console,
    ids,
    minute,
    plain,
    say,
    short,
    state,
    table,
    whole,
)
from penstock.client import AuditEntry, Key, NewKey, Tenant, TenantQuotas


def new_key(made: NewKey, *, as_json: bool) -> None:
    """Prints the text of a key on stdout, and what it may do on stderr."""
    if as_json:
        say(made)
        return
    click.echo(made.key)
    key = made.record
    until = f"until {short(key.expires_at)} UTC" if key.expires_at else "until it is revoked"
    click.echo(f"\n# {key.id} of tenant {key.tenant}: {', '.join(key.scopes)}; it works {until}", err=True)
    click.echo("# Keep it now: the server has only a digest of it.", err=True)
    if made.replaced and made.replaced.expires_at:
        click.echo(f"# {made.replaced.id} works until {short(made.replaced.expires_at)} UTC", err=True)


def keys(known: Iterable[Key], *, as_json: bool) -> None:
    """Prints the keys, the newest first. A key that is a caller of its own has no name."""
    rows = table(whole("id"), ids("tenant"), ids("name"), ids("scopes"), whole("works until"), whole("last used"))
    for key in known:
        if as_json:
            say(key)
        rows.add_row(
            plain(key.id),
            plain(key.tenant),
            plain("" if key.name == key.id else key.name),
            plain(" ".join(key.scopes)),
            _end_of(key),
            minute(key.last_used_at) if key.last_used_at else "",
        )
    if not as_json:
        console().print(rows if rows.row_count else "[dim]no managed keys[/dim]")


def _end_of(key: Key) -> Text:
    if key.status != "active":
        return state(key.status)
    return plain(minute(key.expires_at) if key.expires_at else "no end")


async def each_key(act: Callable[[str], Awaitable[Key]], key_ids: Iterable[str], *, as_json: bool) -> int:
    """Calls `act` for each key, also after one has failed, and returns the exit status."""
    return await each(act, key_ids, "id", lambda key: f"{key.status}, of tenant {key.tenant}", as_json=as_json)


def tenants(known: Iterable[Tenant], *, as_json: bool) -> None:
    """Prints the tenants, by name, with those of their quotas that are a limit."""
    rows = table("tenant", "keys", "waiting", "running", ids("quotas"))
    for one in known:
        if as_json:
            say(one)
        limits = " ".join(f"{name}={amount}" for name, amount in one.quotas.items() if amount)
        rows.add_row(plain(one.tenant), str(one.keys), str(one.pending), str(one.running), plain(limits))
    if not as_json:
        console().print(rows)


def quotas(found: TenantQuotas, *, as_json: bool) -> None:
    """Prints what a tenant may use, a row for each quota."""
    if as_json:
        say(found)
        return
    rows = table("quota", "limit", "set for")
    for name, amount in found.quotas.items():
        rows.add_row(plain(name), str(amount or "none"), plain(found.tenant if name in found.own else ""))
    console().print(rows)


async def audit(entries: AsyncGenerator[AuditEntry, None], *, limit: int | None, as_json: bool) -> None:
    """Prints the acts, newest first, at most `limit`, each with its details; JSON lines as they come."""
    rows = table(whole("at"), ids("by"), ids("tenant"), ids("from"), ids("did"))
    left = limit
    async with aclosing(entries):
        async for entry in entries:
            if as_json:
                say(entry)
            did = plain(f"{entry.act} {entry.subject}").append_text(plain(_details(entry), "dim"))
            rows.add_row(short(entry.at), *map(plain, (entry.by, entry.tenant, entry.address)), did)
            left = None if left is None else left - 1
            if left == 0:
                break
    if not as_json:
        console().print(rows if rows.row_count else "[dim]nothing yet[/dim]")


def _details(entry: AuditEntry) -> str:
    values = {name: "+".join(value) if isinstance(value, list) else value for name, value in entry.details.items()}
    return "".join(f" {name}={value}" for name, value in values.items())
