"""`penstock top`: what a server does now, live."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from penstock.cli.client import asks_a_server, reached

if TYPE_CHECKING:
    from penstock.cli.top.overview import Observer


@click.command()
@click.option("--once", is_flag=True, help="Print it once, and end. It is what a pipe or a file gets, too.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between reads.",
)
@asks_a_server
async def top(url: str | None, api_key: str | None, once: bool, every_s: float, as_json: bool) -> None:
    """Show what the server does now: pace, queues, workers, failures, and what is wrong. Ctrl-C ends it.

    With --json there is an object for each read.
    """
    from penstock.cli.terminal import console
    from penstock.cli.top.overview import Observer
    from penstock.cli.top.screen import screen

    async with reached(url, api_key) as client:
        observer = Observer(client)
        if as_json:
            await _each(observer, every_s, once=once)
        elif once or not console().is_terminal:
            console().print(screen(await observer.look()))
        else:
            await _live(observer, every_s)


async def _each(observer: "Observer", every_s: float, *, once: bool) -> None:
    from penstock.cli.terminal import say

    with suppress(asyncio.CancelledError):  # Ctrl-C
        while True:
            say(await observer.look())
            if once:
                return
            await asyncio.sleep(every_s)


async def _live(observer: "Observer", every_s: float) -> None:
    """Shows each read in place of the one before. A server that goes away is waited for; one that was never there is an
    error."""
    from rich.live import Live

    from penstock.cli.terminal import console, plain
    from penstock.cli.top.screen import screen
    from penstock.client import PenstockApiError

    shown = screen(await observer.look())
    with suppress(asyncio.CancelledError), Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(shown, refresh=True)
            await asyncio.sleep(every_s)
            try:
                shown = screen(await observer.look())
            except PenstockApiError as error:
                shown = plain(f"{error}; trying again", "red")


COMMANDS = (top,)
