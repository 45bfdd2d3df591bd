"""Safe and readable output: consoles, tables, and text of other origin without control characters."""

import os
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from penstock.client.views import Failure

COLOURS = {
    "SUCCESS": "green",
    "RUNNING": "cyan",
    "PENDING": "yellow",
    "FAILED": "red",
    "CANCELED": "magenta",
    "EXPIRED": "magenta",
    "READY": "green",
    "DRAINING": "yellow",
    "DOWN": "red",
    "ready": "green",
    "loading": "yellow",
    "failed": "red",
    "active": "green",
    "expired": "magenta",
    "revoked": "red",
}

FILE_COLUMNS = 200
"""Width of output that goes to no terminal, such as into `grep`."""

STAND_INS = {"Cc": " ", "Cf": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
"""Unicode category -> what is shown for such a character: controls would act on the terminal, and a lone surrogate
cannot be encoded."""


def console(*, stderr: bool = False) -> Console:
    """Returns a console for stdout or stderr; output that goes to no terminal gets long lines instead of wrapped
    ones."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal:
        found.width = shutil.get_terminal_size((FILE_COLUMNS, 0)).columns  # or what COLUMNS says
    return found


def plain(text: object, style: str = "") -> Text:
    """Returns text of other origin: markup in it has no effect, and control characters are replaced."""
    return Text("".join(map(_printable, str(text))), style=style)


def plain_lines(text: str) -> str:
    """Returns text of other origin with its line breaks and tabs, and without other control characters."""
    return "".join(sign if sign in "\n\t" else _printable(sign) for sign in text.replace("\r\n", "\n"))


def readable(path: Path) -> str:
    """Returns a path as text, with U+FFFD for bytes that are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def _printable(character: str) -> str:
    return STAND_INS.get(unicodedata.category(character), character)


def state(word: str) -> Text:
    return plain(word, COLOURS.get(word, ""))


def table(*columns: str | Column) -> Table:
    """Returns a table without lines around its cells."""
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def ids(name: str) -> Column:
    """Returns a column that wraps and never cuts: ids are there to be copied."""
    return Column(name, overflow="fold")


def whole(name: str) -> Column:
    """Returns a column that neither wraps nor is made smaller."""
    return Column(name, no_wrap=True)


def failures_of(failed: Iterable[tuple[str, Failure, str | None]]) -> Table:
    """Returns a table of the files that failed, with the reasons."""
    rows = table("file", "error", "why", ids("task"))
    for source, why, task_id in failed:
        rows.add_row(plain(source), plain(why.code, "red"), plain(why.message), plain(task_id or ""))
    return rows


def pairs() -> Table:
    """Returns a table of names and values."""
    rows = table(ids(""), ids(""))
    rows.show_header = False
    return rows


def add_pairs(rows: Table, name: str, value: Any) -> None:
    """Adds a row for the value, or one for each of its members. None and an empty list get no row."""
    members = value.items() if isinstance(value, dict) else [("", value)]
    for member, inner in members:
        if inner not in (None, [], ()):
            text = ", ".join(map(str, inner)) if isinstance(inner, list) else inner
            rows.add_row(plain(f"{name}.{member}" if member else name), plain(text))


def say(answer: Any) -> None:
    """Prints a value as a line of JSON."""
    click.echo(msgspec.json.encode(answer))


def short(moment: str) -> str:
    """Shortens an RFC 3339 time to the second; it stays in UTC."""
    return moment[:19].replace("T", " ")


def minute(moment: str) -> str:
    """Shortens an RFC 3339 time to the minute; it stays in UTC."""
    return moment[:16].replace("T", " ")
