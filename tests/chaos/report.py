"""The figures of a scenario, and whether they are within its bars."""

import operator
from collections.abc import Callable

from msgspec import Struct

from tests.chaos.checker import Rules, Verdict, Violation, judge
from tests.chaos.history import Event

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<=": operator.le,
    ">=": operator.ge,
}


class Bar(Struct, frozen=True):
    """A figure and its limit. The limit `tasks` stands for the number of tasks of the run."""

    figure: str
    op: str
    limit: float | str

    def missed(self, figures: dict[str, float]) -> str:
        """Returns what is wrong, or nothing."""
        limit = figures[self.limit] if isinstance(self.limit, str) else self.limit
        value = figures.get(self.figure)
        if value is not None and OPERATORS[self.op](value, limit):
            return ""
        return f"{self.figure} is {'not measured' if value is None else f'{value:g}'}, must be {self.op} {limit:g}"


SOUND = (Bar("lost", "==", 0), Bar("unsound", "==", 0), Bar("duplicated", "==", 0), Bar("http_500", "==", 0))
"""Bars of every scenario: no promise is broken, and no injected fault looks like a fault of Penstock."""


class Report(Struct, frozen=True, kw_only=True):
    """The figures and broken promises of one run."""

    figures: dict[str, float]
    violations: list[Violation] = []

    def missed(self, bars: tuple[Bar, ...]) -> list[str]:
        """Returns one line for each missed bar."""
        return [text for bar in bars if (text := bar.missed(self.figures))]


def report(events: list[Event], rules: Rules, **figures: float) -> Report:
    """Judges a history and adds the scenario's own figures."""
    verdict: Verdict = judge(events, rules)
    return Report(figures=verdict.figures | figures, violations=verdict.violations)


def text_of(report: Report) -> str:
    """Formats the figures in columns, then the broken promises."""
    cells = [f"{name} {value:.3f}" if value % 1 else f"{name} {value:g}" for name, value in report.figures.items()]
    rows = ["  " + "".join(cell.ljust(28) for cell in cells[at : at + 4]).rstrip() for at in range(0, len(cells), 4)]
    shown = [f"  {v.rule} {v.text}" for v in report.violations[:20]]
    more = len(report.violations) - len(shown)
    return "\n".join([*rows, *shown, *([f"  … and {more} more"] if more > 0 else [])])
