"""Log lines for a person at a terminal: one short row for each event, without the reprs of Python."""

import json
from enum import Enum
from string import Formatter
from typing import Any

TEMPLATE = (
    "<dim>{time:HH:mm:ss} {extra[_process]: <4}</dim> "
    "<level>{extra[_level]}</level>{extra[_event]}<dim>{extra[_rest]}</dim>\n{exception}"
)

ROWS = {
    "request": "{method} {route} {status} {ms} ms",
    "attempt ended": "{task_id} {outcome} {model} {seconds} s",
}
"""Events that come with every task, and how they fit into a row of 80 characters."""

NEVER = {"trace_id"}
"""Shown in the JSON form alone."""

IF_WRONG = {"request_id"}
"""Shown with what went wrong, which one may want to follow."""

REFUSED, WARNING = 400, 30
"""The first HTTP status, and the number of the first level, that say that something went wrong."""

FIRST_TRY = "1"

SHOWN = 5
"""Items of a list that are shown."""


def terminal_line(record: Any) -> str:
    """Returns the format of a record for loguru, and adds what it refers to. Control characters, which what users send
    may have, are escaped."""
    said = {name: written(value) for name, value in record["extra"].items() if value is not None}
    process = said.pop("process", "").removeprefix("worker-")
    event = printable(record["message"])
    if row := _row(event, said):
        event = row
    hidden = NEVER if _went_wrong(record) else NEVER | IF_WRONG
    hidden = hidden | {"attempt"} if said.get("attempt") == FIRST_TRY else hidden
    level = "" if record["level"].name == "INFO" else f"{record['level'].name} "
    rest = "".join(f" {name}={value}" for name, value in said.items() if name not in hidden)
    record["extra"] |= {"_process": process, "_level": level, "_event": event, "_rest": rest}
    return TEMPLATE


def written(value: Any) -> str:
    """Returns a value as a person would write it; a text with blanks in quotes."""
    if isinstance(value, Enum):
        return written(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return written([f"{name}:{written(inner)}" for name, inner in value.items()])
    if isinstance(value, list | tuple | set | frozenset | type({}.keys())):
        items = [written(item) for item in value]
        return ",".join(items[:SHOWN]) + (f",… ({len(items)})" if len(items) > SHOWN else "")
    text = printable(str(value))
    return text if text and " " not in text else json.dumps(text, ensure_ascii=False)


def printable(text: str) -> str:
    """Returns a text in which control characters are escaped."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _row(event: str, said: dict[str, str]) -> str:
    """Returns the row of an event in `ROWS`, and takes what it shows out of `said`; empty for another one."""
    row = ROWS.get(event, "")
    shown = {name for _, name, _, _ in Formatter().parse(row) if name}
    return row.format(**{name: said.pop(name) for name in shown}) if shown <= said.keys() else ""


def _went_wrong(record: Any) -> bool:
    status = record["extra"].get("status")  # a number in the line of a request; others have states of tasks there
    return bool(record["level"].no >= WARNING or (isinstance(status, int) and status >= REFUSED))
