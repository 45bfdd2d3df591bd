"""The tables of a comparison, in Markdown, and the ratios that Penstock is held to."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

SAQ, LITSERVE, LOOP = "FastAPI + SAQ", "LitServe", "bare loop"

NONE = "–"


class Medians:
    """The figures of one load by row, each the median of its rounds; NaN where something was not measured."""

    def __init__(self, figures: Mapping[str, Mapping[str, list[float]]]) -> None:
        self.rows = figures

    def of(self, row: str, key: str) -> float:
        """Returns one figure."""
        found = self.rows.get(row, {}).get(key)
        return statistics.median(found) if found else math.nan

    def ratio(self, key: str, row: str, other: str) -> float:
        """Returns what a row has for each that the other one has."""
        return self.of(row, key) / self.of(other, key)


Cell = Callable[[Medians, str], str]


def _number(key: str, digits: int) -> Cell:
    return lambda found, row: written(found.of(row, key), digits)


def _both(name: str) -> Cell:
    """The 50th and the 99th percentile."""
    return lambda found, row: f"{written(found.of(row, f'{name}_p50'), 1)} / {written(found.of(row, f'{name}_p99'), 1)}"


def _per(key: str, other: str) -> Cell:
    return lambda found, row: written(found.ratio(key, row, other), 2)


def written(value: float, digits: int) -> str:
    """Returns a figure as a table has it."""
    return NONE if math.isnan(value) else f"{value:,.{digits}f}"


COLUMNS: dict[str, dict[str, Cell]] = {
    "noop": {
        "submits/s": _number("submits_per_s", 0),
        "tasks/s": _number("tasks_per_s", 0),
        "÷ SAQ": _per("tasks_per_s", SAQ),
        "CPU ms": _number("cpu_ms", 2),
        "÷ SAQ ": _per("cpu_ms", SAQ),
        "one p50 / p99": _both("alone"),
        "÷ LitServe": _per("alone_p50", LITSERVE),
    },
    "photo": {
        "tasks/s": _number("tasks_per_s", 1),
        "÷ bare": _per("tasks_per_s", LOOP),
        "CPU ms": _number("cpu_ms", 1),
        "one p50 / p99": _both("alone"),
        "÷ LitServe": _per("alone_p50", LITSERVE),
        "32 p50 / p99": _both("crowd"),
    },
}
"""By load: what its table has of each row. Times are in milliseconds."""


class Bar(NamedTuple):
    """A ratio, of two figures of Penstock or of one of its figures and another server's, and what it should be."""

    text: str
    value: Callable[[Mapping[str, Medians]], float]
    wanted: str


def _ratio(load: str, key: str, row: str, other: str) -> Callable[[Mapping[str, Medians]], float]:
    return lambda found: found[load].ratio(key, row, other)


def _spread(load: str, row: str, name: str) -> Callable[[Mapping[str, Medians]], float]:
    return lambda found: found[load].of(row, f"{name}_p99") / found[load].of(row, f"{name}_p50")


BARS = (
    Bar("no-op, CPU of a task ÷ SAQ's", _ratio("noop", "cpu_ms", "Penstock", SAQ), "≤ 1.0"),
    Bar("no-op, tasks/s ÷ SAQ's", _ratio("noop", "tasks_per_s", "Penstock", SAQ), "≥ 1.0"),
    Bar("no-op, submits/s ÷ SAQ's", _ratio("noop", "submits_per_s", "Penstock", SAQ), "≥ 0.9"),
    Bar("no-op, wait, one client, p50 ÷ LitServe's", _ratio("noop", "alone_p50", "Penstock, wait", LITSERVE), "≤ 1.0"),
    Bar("photo, wait, one client, p50 ÷ LitServe's", _ratio("photo", "alone_p50", "Penstock, wait", LITSERVE), "≤ 1.0"),
    Bar("photo, poll, tasks/s ÷ bare loop's", _ratio("photo", "tasks_per_s", "Penstock", LOOP), "≥ 1.1"),
    Bar("photo, wait, tasks/s ÷ bare loop's", _ratio("photo", "tasks_per_s", "Penstock, wait", LOOP), "≥ 1.1"),
    Bar("photo, batch, tasks/s ÷ bare loop's", _ratio("photo", "tasks_per_s", "Penstock, batch", LOOP), "≥ 1.1"),
    Bar("photo, wait, one client, p99 ÷ p50", _spread("photo", "Penstock, wait", "alone"), "≤ 1.6"),
    Bar("photo, wait, 32 clients, p99 ÷ p50", _spread("photo", "Penstock, wait", "crowd"), "≤ 2.0"),
    Bar("no-op, memory at rest, PSS in MB", lambda found: found["noop"].of("Penstock", "pss_mb"), "≤ 100"),
    Bar("start to first result ÷ before", _ratio("noop", "start_s", "Penstock", "before"), "≤ 0.6"),
)
"""What Penstock is held to beside the others, in one run on a machine that does nothing else."""


def of_load(name: str, title: str, found: Medians) -> str:
    """Returns the table of one load."""
    columns = COLUMNS[name]
    return markdown([title, *columns], ([row, *(cell(found, row) for cell in columns.values())] for row in found.rows))


def of_rest(title: str, found: Medians, memory: Mapping[str, Mapping[str, int]]) -> str:
    """Returns the table of what a server takes while it has no work."""
    head = [title, "first result", "CPU at rest", "PSS MB", "of these"]
    rows = (
        [
            row,
            f"{written(found.of(row, 'start_s'), 2)} s",
            f"{written(found.of(row, 'rest_cpu') * 100, 1)} %",
            written(found.of(row, "pss_mb"), 0),
            ", ".join(f"{name} {size / 1e6:.0f}" for name, size in memory[row].items()),
        ]
        for row in memory
    )
    return markdown(head, rows)


def of_bars(found: Mapping[str, Medians]) -> str:
    """Returns the table of the ratios that were measured."""
    loads = {"noop": Medians({}), "photo": Medians({}), **found}
    values = [(bar, bar.value(loads)) for bar in BARS]
    rows = ([bar.text, written(value, 2), bar.wanted] for bar, value in values if not math.isnan(value))
    return markdown(["Penstock beside them", "is", "should be"], rows)


def markdown(head: list[str], rows: Iterable[list[str]]) -> str:
    """Returns a table whose first column is text and whose others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) + " |" for line in lines
    )
