"""Safe and readable output: consoles, tables, and text of other origin without control characters."""

import math
import os
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.cells import cell_len
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

UNITS_S = (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800), ("d", 86_400, math.inf))
"""Unit of a time, its seconds, and the seconds from which on the next one is used."""

ONE_DECIMAL_S = 10

GAP = 2
"""Columns of the terminal between two of a table."""

WIDE = 130
"""Columns of a terminal that has room for whole ids."""

SHORT_ID = len("tsk_01a226a93bdd96")
"""Characters of an id with its prefix, the 12 digits of its millisecond, and two that are random."""

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


def filled_table(*columns: tuple[str | Column, Sequence[Text]]) -> Table:
    """Returns a table of columns with their cells. A column without any text is left out."""
    filled = [(head, cells) for head, cells in columns if any(cell.plain for cell in cells)]
    rows = table(*(head for head, _ in filled))
    for row in zip(*(cells for _, cells in filled), strict=True):
        rows.add_row(*row)
    return rows


def without_spare(
    columns: Sequence[tuple[str | Column, Sequence[Text]]], spare: Sequence[str], out: Console
) -> list[tuple[str | Column, Sequence[Text]]]:
    """Returns the columns without as many of the spare ones, the first first, as must go for the others to fit the
    terminal unbroken."""
    left = [(head, cells) for head, cells in columns if any(cell.plain for cell in cells)]
    for name in spare:
        if sum(_width(head, cells) + GAP for head, cells in left) - GAP <= out.width:
            break
        left = [(head, cells) for head, cells in left if _name(head) != name]
    return left


def _width(head: str | Column, cells: Sequence[Text]) -> int:
    return max(cell_len(_name(head)), *(cell.cell_len for cell in cells))


def _name(head: str | Column) -> str:
    return str(head.header) if isinstance(head, Column) else head


def ids(name: str) -> Column:
    """Returns a column that wraps and never cuts: ids are there to be copied."""
    return Column(name, overflow="fold")


def shown_ids(found: Sequence[str], out: Console) -> list[str]:
    """Returns ids as a table shows them: whole off a terminal and on a wide one, else beginnings that differ, which all
    commands take."""
    if not out.is_terminal or out.width >= WIDE:
        return list(found)
    length = SHORT_ID
    while len({one[:length] for one in found}) < len(set(found)):
        length += 1
    return [one[:length] for one in found]


def whole(name: str) -> Column:
    """Returns a column that neither wraps nor is made smaller."""
    return Column(name, no_wrap=True)


def failures_of(failed: Iterable[tuple[str, Failure, str | None]], out: Console) -> Table:
    """Returns a table of the files that failed, with the reasons."""
    listed = list(failed)
    tasks = shown_ids([task_id or "" for _, _, task_id in listed], out)
    return filled_table(
        (ids("file"), [plain(source) for source, _, _ in listed]),
        (whole("error"), [plain(why.code, "red") for _, why, _ in listed]),
        ("why", [plain(why.message) for _, why, _ in listed]),
        (whole("task"), [plain(task) for task in tasks]),
    )


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
            text = ", ".join(map(written, inner)) if isinstance(inner, list) else inner
            rows.add_row(plain(f"{name}.{member}" if member else name), plain(text))


def written(value: Any) -> str:
    """Returns a value as a person would write it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def say(answer: Any) -> None:
    """Prints a value as a line of JSON."""
    click.echo(msgspec.json.encode(answer))


def short(moment: str) -> str:
    """Shortens an RFC 3339 time to the second; it stays in UTC."""
    return moment[:19].replace("T", " ")


def clock(moment: str) -> str:
    """Returns an RFC 3339 time of today as hours, minutes and seconds, and another one to the minute; both in UTC."""
    is_of_today = moment[:10] == datetime.now(UTC).date().isoformat()
    return moment[11:19] if is_of_today else minute(moment)


def age(moment: str) -> str:
    """Returns for how long an RFC 3339 time is over, by the clock of this machine."""
    return seconds(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))


def seconds(amount: float) -> str:
    """Returns a time for a person: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    unit, size = next((unit, size) for unit, size, most in UNITS_S if amount < most)
    return f"{amount / size:.1f} {unit}" if amount < ONE_DECIMAL_S else f"{amount / size:.0f} {unit}"


def minute(moment: str) -> str:
    """Shortens an RFC 3339 time to the minute; it stays in UTC."""
    return moment[:16].replace("T", " ")
