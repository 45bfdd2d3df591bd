"""Small parts of text: states, moments, durations, sizes, ids, and what one may copy."""

from datetime import datetime

import htpy as h

from penstock.api.schemas.render import moment

SECOND_MS = 1000
UNITS = ((86_400.0, "d"), (3600.0, "h"), (60.0, "m"))
BYTES = ("B", "KB", "MB", "GB", "TB")
SHORT_ID = 12
"""Characters of an id that a list shows: `tsk_` and the millisecond down to four of its digits."""


def badge(word: str, tone: str = "") -> h.Element:
    """Return a word in a coloured field. The colour is that of `tone`, or of the word: see `console.css`."""
    return h.span(class_=f"badge tone-{(tone or word).lower()}")[word.capitalize()]


def when(at: str | int | None, *, absent: str = "–") -> h.Node:
    """Return a moment as the time that has passed since, which the page keeps up to date; its title is the moment.

    It is given in RFC 3339, or in ms since 1970.
    """
    if at is None:
        return absent
    text = moment(at) if isinstance(at, int) else at
    shown = text.replace("T", " ").partition(".")[0]
    return h.time({"datetime": text, "data-ago": True}, title=f"{shown} UTC")[shown]


def duration(seconds: float | None) -> str:
    """Return a duration in two units at most: `950 ms`, `2.4 s`, `3 m 20 s`, `2 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{round(seconds * SECOND_MS)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for unit_s, unit in UNITS:
        if seconds >= unit_s:
            whole, rest = divmod(seconds, unit_s)
            return f"{int(whole)} {unit} {_rest(rest, unit)}".strip()
    return ""


def brief(seconds: float | None) -> str:
    """Return a duration in its larger unit alone, where there is little room."""
    return " ".join(duration(seconds).split(" ")[:2])


def between(start: str | None, end: str | None) -> float | None:
    """Return the seconds between two moments in RFC 3339; None where one is not known."""
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def size(count: int | None) -> str:
    """Return a number of bytes in the unit that fits, in powers of 1000."""
    if count is None:
        return "–"
    value = float(count)
    for unit in BYTES[:-1]:
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} {BYTES[-1]}"


def number(value: float) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}".replace(",", "\u202f")


def prose(text: str) -> list[h.Node]:
    """Return a text whose words in backticks are code."""
    return [h.code[part] if n % 2 else part for n, part in enumerate(text.split("`"))]


def sentence(text: str) -> str:
    """Return a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def copyable(text: str, *, label: str = "Copy") -> h.Element:
    """Return a text on one line with a button that copies it."""
    return h.span(".copyable")[h.code[text], copy_button(text, label)]


def copy_button(text: str, label: str = "Copy") -> h.Element:
    """Return a button that copies a text; it works over plain HTTP, too."""
    return h.button({"data-copy": text}, type="button", class_="copy", aria_label=f"{label}: {text[:40]}")["Copy"]


def _rest(rest: float, unit: str) -> str:
    lower = {"d": (3600.0, "h"), "h": (60.0, "m"), "m": (1.0, "s")}[unit]
    count = int(rest // lower[0])
    return f"{count} {lower[1]}" if count else ""
