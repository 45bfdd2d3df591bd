"""The form that filters tasks."""

from collections.abc import Iterable, Mapping

import htpy as h

from penstock.api.console.page.fields import choice, filter_form, moment_field, text_field
from penstock.api.console.page.words import number
from penstock.api.console.task_query import PERIODS, TaskQuery
from penstock.api.console.viewer import Viewer
from penstock.core.task import PRIORITIES, State
from penstock.errors import of_input, of_run
from penstock.errors.base import PenstockError

ANY = ("", "Any")
SINCE = {"15m": "last 15 minutes", "1h": "last hour", "24h": "last 24 hours", "7d": "last 7 days"}
ERRORS = sorted(
    error.code
    for module in (of_input, of_run)
    for error in vars(module).values()
    if isinstance(error, type) and issubclass(error, PenstockError) and error is not PenstockError
)
"""The codes with which a task may end."""


def filters(viewer: Viewer, query: TaskQuery, counts: Mapping[State, int], models: Iterable[str]) -> h.Element:
    """Return the form, with how many tasks of the tenant are in each state."""
    wanted = query.task_filter
    names = sorted({*models, *([wanted.model] if wanted.model else [])})
    return filter_form(
        viewer,
        "/tasks",
        _states(query, counts),
        choice("Model", "model", [ANY, *((name, name) for name in names)], wanted.model or ""),
        choice(
            "Created", "within", [("", "any time"), *((one, SINCE[one]) for one in PERIODS)], _said(query, "within")
        ),
        more=[
            text_field("Key", "key", wanted.key or "", hint="the name of the API key that submitted it"),
            choice("Error", "error_code", [ANY, *((code, code) for code in ERRORS)], wanted.error_code or ""),
            choice(
                "Priority", "priority", [ANY, *((one.value, one.value) for one in PRIORITIES)], wanted.priority or ""
            ),
            text_field("Metadata", "entry", _said(query, "entry"), hint="an entry, as name=value"),
            text_field("Id begins with", "id_prefix", wanted.id_prefix or ""),
            text_field("Batch", "batch_id", wanted.batch or ""),
            moment_field("Created after", "created_after", _said(query, "created_after")),
            moment_field("Created before", "created_before", _said(query, "created_before")),
            text_field("Tenant", "tenant", _tenant(viewer)) if viewer.can("operate") else None,
        ],
        in_use=query.more_in_use + bool(_tenant(viewer)),
    )


def _states(query: TaskQuery, counts: Mapping[State, int]) -> h.Element:
    return h.fieldset(".chips")[
        h.legend(".unseen")["Status"],
        [
            h.label(".chip")[
                h.input(type="checkbox", name="status", value=state.value, checked=state in query.status),
                h.span[state.capitalize(), " ", h.small[number(counts.get(state, 0))]],
            ]
            for state in State
        ],
    ]


def _said(query: TaskQuery, name: str) -> str:
    return str(next(iter(query.given.get(name, ())), ""))


def _tenant(viewer: Viewer) -> str:
    return viewer.caller.tenant if viewer.caller and viewer.caller.home is not None else ""
