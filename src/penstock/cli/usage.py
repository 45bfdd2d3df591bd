"""`penstock usage` shows what tenants hold now and have used day by day."""

from datetime import date, datetime

import click

from penstock.cli.client import asks_a_server, reached, tenant_of_call


def day_of(_context: click.Context, _option: click.Parameter, value: datetime | None) -> date | None:
    """Returns the day of a moment."""
    return value.date() if value else None


DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--all", "of_all", is_flag=True, help="Every tenant, for a key with the scope operate.")
@click.option("--from", "first", type=DAY, callback=day_of, metavar="DAY", help="First day [the 1st of the month].")
@click.option("--to", "last", type=DAY, callback=day_of, metavar="DAY", help="Last day, in UTC [today].")
@click.option("--csv", "as_csv", is_flag=True, help="Print a row for each day of a tenant, for spreadsheets.")
@asks_a_server
async def usage(
    url: str | None,
    api_key: str | None,
    of_all: bool,
    first: date | None,
    last: date | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show what a tenant holds now, and what it has used on each day.

    With --json there is an object for each tenant.
    """
    from penstock.cli.usage_tables import usage as run

    if tenant_of_call() and of_all:
        raise click.UsageError("--tenant names one tenant, and --all means every one: give one of them")
    if as_csv and as_json:
        raise click.UsageError("give one of --csv and --json")
    async with reached(url, api_key) as client:
        report = await client.usage(tenant="*" if of_all else None, first=first, last=last)
    run(report, how="csv" if as_csv else "json" if as_json else "table")


COMMANDS = (usage,)
