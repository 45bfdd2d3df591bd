"""What one may do with tasks: with one, with those that are chosen, and with all that match."""

import htpy as h
from msgspec import Struct

from penstock.api.console.page.acts import Act, Look, act_button
from penstock.api.console.task_query import TaskQuery
from penstock.api.console.viewer import Viewer
from penstock.api.schemas.tasks import TaskView
from penstock.core.task import State


class TaskAct(Struct, frozen=True):
    """An act on tasks: its word, the states in which a task can be hit, the member of the answer that counts them, and
    what it means."""

    word: str
    states: tuple[State, ...]
    counts: str
    means: str
    look: Look = ""


LIVE = (State.PENDING, State.RUNNING)
FAILED = (State.FAILED, State.CANCELED, State.EXPIRED)
ACTS = (
    TaskAct("cancel", LIVE, "canceled", "They end as canceled; what they have computed is lost."),
    TaskAct("retry", FAILED, "retried", "They are queued again; their attempts stay in their history."),
    TaskAct(
        "delete", (State.SUCCESS, *FAILED), "deleted", "Their records, inputs and results are gone for good.", "danger"
    ),
)


def acts_on_all(viewer: Viewer, query: TaskQuery) -> list[h.Node]:
    """Return a button for each act that may hit a task which matches."""
    return [_on_all(viewer, query, act) for act in ACTS]


def acts_on_chosen(viewer: Viewer) -> h.Node:
    """Return the bar that shows when rows are chosen."""
    if not viewer.can("submit"):
        return None
    links = {act.word: viewer.api(f"/tasks/ID/{act.word}") for act in ACTS[:2]} | {"delete": viewer.api("/tasks/ID")}
    return h.div(".chosen", data_chosen=True, hidden=True)[
        h.label(".chip")[h.input(type="checkbox", data_choose_all=True), h.span["All on this page"]],
        h.strong(data_chosen_count=True),
        [
            h.button(
                {"data-each": links[act.word], "data-word": act.counts, "data-means": act.means},
                type="button",
                class_=f"button {act.look}".strip(),
            )[act.word.capitalize()]
            for act in ACTS
        ],
    ]


def acts_on_one(viewer: Viewer, task: TaskView) -> list[h.Node]:
    """Return the buttons for a task as it is now."""
    state, path = State(task.status), f"/tasks/{task.task_id}"
    buttons: list[h.Node] = []
    if state in LIVE:
        act = Act(link=viewer.api(f"{path}/cancel"), scope="submit", done="Canceled", confirm="Cancel this task?")
        buttons.append(act_button(viewer, "Cancel", act))
    if state in FAILED:
        act = Act(link=viewer.api(f"{path}/retry"), scope="submit", done="Queued again")
        buttons.append(act_button(viewer, "Retry", act, look="primary"))
    if state.is_final:
        act = Act(
            link=viewer.api(path),
            scope="submit",
            method="DELETE",
            confirm="Delete this task?",
            confirm_text="Its record, its input and its result are gone for good.",
            then=viewer.page("/tasks"),
        )
        buttons.append(act_button(viewer, "Delete", act, look="danger"))
    return buttons


def _on_all(viewer: Viewer, query: TaskQuery, act: TaskAct) -> h.Node:
    states = [state for state in act.states if not query.status or state in query.status]
    if not states:
        return None
    needs_all = None if query.task_filter.leaves_out else "true"
    link = viewer.api(f"/tasks/{act.word}", status=[state.value for state in states], all=needs_all, **query.api())
    sent = Act(
        link=link,
        scope="submit",
        counted=True,
        confirm=f"{act.word.capitalize()} all that match?",
        confirm_text=f"Of the status {', '.join(state.capitalize() for state in states)}. {act.means}",
        done=f"{{{act.counts}}} {act.counts}",
    )
    return act_button(viewer, f"{act.word.capitalize()} all", sent, look=act.look)
