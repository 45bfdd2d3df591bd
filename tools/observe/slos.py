"""The service levels: what counts as bad, how much of it is allowed, and the rules that follow for Prometheus.

The windows and factors are those of Google's Site Reliability Workbook, chapter 5 ("Alerting on SLOs"), for a budget of
30 days: a page where 2 % of it are used up in an hour or 5 % in six, a ticket where 10 % are in a day or in three. The
second, shorter window of each pair lets an alert end soon after its cause.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

FEWEST_BAD = 10
"""Fewer bad events in the longer window raise nothing: one of three submits at night is no 33 % of anything."""


class Slo(NamedTuple):
    """One promise to clients. `all` and `bad` are PromQL for the growth of two counts, in which W stands for a window;
    `budget` is the share that may be bad."""

    name: str
    alert: str
    budget: float
    all: str
    bad: str
    summary: str


class Burn(NamedTuple):
    """A severity, and pairs of a longer and a shorter window with the factor by which both burn the budget too fast."""

    severity: str
    pairs: tuple[tuple[float, str, str], ...]


BURNS = (
    Burn("page", ((14.4, "1h", "5m"), (6.0, "6h", "30m"))),
    Burn("ticket", ((3.0, "1d", "2h"), (1.0, "3d", "6h"))),
)

GROUPS = {"penstock-slo": ("15s", ("5m", "30m", "1h")), "penstock-slo-long": ("2m", ("2h", "6h", "1d", "3d"))}
"""The groups of the recording rules: how often each is evaluated, and its windows."""

IN_TIME = {"high": "10.0", "normal": "60.0", "low": "300.0"}
"""Seconds after its submit by which a task of this priority should have started; each is a bound of the histogram."""

OURS = (
    "device_out_of_memory",
    "insufficient_memory",
    "internal",
    "invalid_output",
    "model_error",
    "model_result_invalid",
    "model_unavailable",
    "poison_input",
    "record_unreadable",
    "storage_unavailable",
    "worker_lost",
)
"""Codes of failures that no client can do anything about. All others are of the input, or of limits that it has set."""

_SUBMITS = 'method="POST", route=~"/v1/tasks|/v1/batches|/replicate/v1/.*predictions"'
_REQUESTS = "penstock_http_requests_seconds_count"
_WAITS = "penstock_task_wait_seconds"
_FINISHED = "penstock_tasks_finished_total"
_EXPIRED = f'increase({_FINISHED}{{status="EXPIRED"}}[W])'
_FAILED = f'increase({_FINISHED}{{status="FAILED", code=~"{"|".join(OURS)}"}}[W])'


def _late(priority: str, bound: str) -> str:
    started = f'increase({_WAITS}_count{{priority="{priority}"}}[W])'
    return f'({started} - ignoring (le) increase({_WAITS}_bucket{{priority="{priority}", le="{bound}"}}[W]))'


SLOS = (
    Slo(
        "accepted",
        "PenstockSubmitsRefused",
        0.001,
        f"sum(increase({_REQUESTS}{{{_SUBMITS}}}[W]))",
        f'sum(increase({_REQUESTS}{{{_SUBMITS}, status=~"500|503"}}[W]))',
        "Submits are refused by a fault of the server (500, 503), so many that the error budget is used up too soon: "
        "see what of Redis, the storage, the queue or the models /readyz complains about.",
    ),
    Slo(
        "started",
        "PenstockStartsLate",
        0.01,
        f"sum by (model) (increase({_WAITS}_count[W]) or {_EXPIRED})",
        f"sum by (model) ({' or '.join(_late(*each) for each in IN_TIME.items())} or {_EXPIRED})",
        "Too many tasks for {{ $labels.model }} start later than they should (high 10 s, normal 1 min, low 5 min after "
        "the submit): add workers, or find what has made them slow.",
    ),
    Slo(
        "ended",
        "PenstockTasksFail",
        0.005,
        f'sum by (model) (increase({_FINISHED}{{status="SUCCESS"}}[W]) or {_FAILED})',
        f"sum by (model) ({_FAILED})",
        'Too many tasks for {{ $labels.model }} fail by no fault of their input: the panel "Failures by code" says '
        "with what, the workers' log why.",
    ),
)


def groups() -> list[dict[str, Any]]:
    """Return the groups of rules, as Prometheus reads them."""
    recorded = [
        {"name": name, "interval": interval, "rules": [rule for window in windows for rule in _recorded(window)]}
        for name, (interval, windows) in GROUPS.items()
    ]
    return [*recorded, {"name": "penstock-slo-alerts", "rules": [_alert(slo, burn) for slo in SLOS for burn in BURNS]}]


def _recorded(window: str) -> Iterator[dict[str, Any]]:
    for slo in SLOS:
        for part, expression in (("all", slo.all), ("bad", slo.bad)):
            yield {
                "record": f"penstock:slo_{part}:increase{window}",
                "labels": {"slo": slo.name},
                "expr": expression.replace("[W]", f"[{window}]"),
            }


def _alert(slo: Slo, burn: Burn) -> dict[str, Any]:
    return {
        "alert": slo.alert,
        "expr": "\nor\n".join(_burning(slo, *pair) for pair in burn.pairs),
        "labels": {"severity": burn.severity},
        "annotations": {
            "summary": slo.summary,
            "runbook": f"docs/how-to/runbooks.md#{slo.alert.lower()}",
        },
    }


def _burning(slo: Slo, factor: float, *windows: str) -> str:
    most, chosen = round(factor * slo.budget, 6), f'{{slo="{slo.name}"}}'
    burning = [
        f"penstock:slo_bad:increase{window}{chosen} / penstock:slo_all:increase{window}{chosen} > {most}"
        for window in windows
    ]
    return "\nand ".join([*burning, f"penstock:slo_bad:increase{windows[0]}{chosen} >= {FEWEST_BAD}"])
