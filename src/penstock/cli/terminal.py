"""How commands show what servers and file systems say: as text, whatever it holds."""

import os
import shutil
import unicodedata
from collections.abc import Iterable
from pathlib import Path

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
}

FILE_COLUMNS = 200
"""Of output that goes to no terminal, such as into `grep`."""

STAND_INS = {"Cc": " ", "Cf": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}
"""What is shown for a control or format character, and for half of a surrogate pair, which no terminal can be sent."""


def console(*, stderr: bool = False) -> Console:
    """Of this terminal, or of the file that the output goes to, whose lines may be long."""
    found = Console(stderr=stderr, highlight=False)
    if not found.is_terminal:
        found.width = shutil.get_terminal_size((FILE_COLUMNS, 0)).columns  # or what COLUMNS says
    return found


def plain(text: object, style: str = "") -> Text:
    """Somebody else's words: no markup, and no control character that a terminal would obey."""
    return Text("".join(map(_printable, str(text))), style=style)


def readable(path: Path) -> str:
    """A path as text; where its bytes are no UTF-8, U+FFFD stands for them."""
    return os.fsencode(path).decode("utf-8", "replace")


def _printable(character: str) -> str:
    return STAND_INS.get(unicodedata.category(character), character)


def state(word: str) -> Text:
    """A status in its colour."""
    return plain(word, COLOURS.get(word, ""))


def table(*columns: str | Column) -> Table:
    """One without lines, as terminals like them."""
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def ids(name: str) -> Column:
    """A column of ids, each of them whole, however narrow the terminal: they are there to be used."""
    return Column(name, overflow="fold")


def failures_of(failed: Iterable[tuple[str, Failure, str | None]]) -> Table:
    """What went wrong, by file."""
    rows = table("file", "error", "why", ids("task"))
    for source, why, task_id in failed:
        rows.add_row(plain(source), plain(why.code, "red"), plain(why.message), plain(task_id or ""))
    return rows
