"""Judges the figures of a check by what is expected of them."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from msgspec import Struct

Figures = Mapping[str, Any]
"""What a check has measured, by names that end with their unit."""

State = Literal["ok", "warn", "fail", "skipped"]
ORDER: tuple[State, ...] = ("skipped", "ok", "warn", "fail")
"""From the least to the worst."""

ERROR, SKIPPED, WARNINGS = "error", "skipped", "warnings"
"""Names of figures that are no measurements: why a check ended early, why there was nothing to check, and what
Penstock has warned of."""

ENDED = (
    "mend what that names, or look for the cause in `nvidia-smi -q` and `dmesg | grep -i xid`; then run this check "
    "again by its name"
)
WARNED = "docs/how-to/tune-a-gpu.md explains it"


class Expectation(Struct, frozen=True, kw_only=True):
    """A bound for all figures of one check whose name fits the pattern `figure`, and where the bound comes from.

    A figure must be at least, at most, or equal to what is given here. `found` says what it is otherwise, and may name
    `{name}`, `{value}` and every figure of the check; `advice` says what to change then. Where one that `says_all` is
    missed, the following ones of its check are not judged: they would be missed for the same cause.
    """

    check: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    equal: str | int | None = None
    otherwise: Literal["warn", "fail"] = "warn"
    says_all: bool = False
    found: str
    advice: str
    source: str

    @property
    def bound(self) -> str:
        """What a figure must be, in words."""
        if self.equal is not None:
            return f"{self.equal}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def is_met(self, value: Any) -> bool:
        """Whether a value is within the bound. A value of another kind, such as a missing one, is not judged."""
        if self.equal is not None:
            return bool(value == self.equal)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        # Written so that NaN misses every bound.
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


class Miss(Struct, frozen=True, kw_only=True):
    """One figure that is not as expected, and what to change."""

    state: Literal["warn", "fail"]
    found: str
    advice: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What a check says: its state, what was found, and what is not as expected."""

    state: State
    found: tuple[str, ...]
    misses: tuple[Miss, ...]


def judge(check: str, sentences: Iterable[str], figures: Figures, expectations: Iterable[Expectation]) -> Verdict:
    """The verdict about the figures of a check. A sentence is left out where one of its figures is missing."""
    if SKIPPED in figures:
        return Verdict(state="skipped", found=(str(figures[SKIPPED]),), misses=())
    misses = [*_misses(check, figures, expectations)]
    misses += [Miss(state="warn", found=str(warning), advice=WARNED) for warning in figures.get(WARNINGS, ())]
    if ERROR in figures:
        misses.append(Miss(state="fail", found=str(figures[ERROR]), advice=ENDED))
    found = tuple(sentence for template in sentences if (sentence := _filled(template, figures)))
    return Verdict(state=worst(miss.state for miss in misses), found=found, misses=tuple(misses))


def worst(states: Iterable[State]) -> State:
    """The worst of these states; `ok` where there are none."""
    return max(states, key=ORDER.index, default="ok")


def _misses(check: str, figures: Figures, expectations: Iterable[Expectation]) -> Iterator[Miss]:
    for expected in expectations:
        if expected.check == check and (beyond := _beyond(expected, figures)):
            yield _miss(expected, beyond, figures)
            if expected.says_all:
                return


def _beyond(expected: Expectation, figures: Figures) -> dict[str, Any]:
    """The figures that this expectation is about and that do not meet it."""
    about = {name: value for name, value in figures.items() if fnmatchcase(name, expected.figure)}
    return {name: value for name, value in about.items() if not expected.is_met(value)}


def _miss(expected: Expectation, beyond: Figures, figures: Figures) -> Miss:
    (first, value), *others = beyond.items()
    found = _filled(expected.found, {**figures, "name": _in_words(first), "value": value}) or f"{first} is {value}"
    alike = f"; also {', '.join(_in_words(name) for name, _ in others)}" if others else ""
    advice = _filled(expected.advice, figures) or expected.advice
    return Miss(state=expected.otherwise, found=found + alike, advice=advice)


def _filled(template: str, figures: Figures) -> str:
    """The template with its figures; empty where one is missing or of another kind."""
    try:
        return template.format_map(figures)
    except (KeyError, ValueError, TypeError):
        return ""


def _in_words(name: str) -> str:
    """The name of a figure without its unit: `clean_photo_levels` becomes "clean photo"."""
    return " ".join(name.split("_")[:-1])
