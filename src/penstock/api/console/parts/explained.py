"""Why a task is not done yet, in words; and why it failed, with what to do."""

import htpy as h

from penstock.api.console.advice import ADVICE
from penstock.api.console.answers import error_link
from penstock.api.console.page.panels import bar, notice
from penstock.api.console.page.words import duration, number, prose, sentence, when
from penstock.api.console.viewer import Viewer
from penstock.api.schemas.operators import BlockerView, ExplainView
from penstock.api.schemas.tasks import ErrorView, TaskView

RETRY = {True: "a retry may succeed", False: "a retry ends the same way"}


def why_it_waits(viewer: Viewer, task: TaskView, known: ExplainView) -> h.Element:
    """Return where a task stands, what holds it up, and when it should be done."""
    tone = "warn" if known.blockers else "info"
    eta = "" if known.eta_s is None else f" It should be done in {duration(known.eta_s)}."
    return notice(
        tone,
        _where(task, known) + eta,
        [h.p[_blocker(viewer, one)] for one in known.blockers],
        bar(task.progress.ratio, f"{task.progress.done} of {task.progress.total} {task.progress.unit}")
        if task.progress
        else None,
    )


def why_it_failed(viewer: Viewer, error: ErrorView) -> h.Element:
    """Return the error of a task, and what to do about it."""
    advice = ADVICE.get(error.code)
    return notice(
        "bad",
        prose(sentence(error.message)),
        h.p[
            error_link(viewer, error.code),
            " – ",
            RETRY[error.retryable],
        ],
        h.p[prose(advice)] if advice else None,
    )


def _where(task: TaskView, known: ExplainView) -> str:
    if task.status == "RUNNING":
        of = f", {task.progress.done} of {task.progress.total} {task.progress.unit}" if task.progress else ""
        return f"It runs on {task.execution.get('worker', 'a worker')}: {known.stage}{of}."
    if not known.ahead.tasks:
        return "It waits, and is the next of its model."
    ahead = "1 task is" if known.ahead.tasks == 1 else f"{number(known.ahead.tasks)} tasks are"
    device = f", with {duration(known.ahead.device_s)} of device time" if known.ahead.device_s else ""
    able = "1 worker serves" if len(known.workers) == 1 else f"{len(known.workers)} workers serve"
    return f"It waits: {ahead} ahead of it{device}, and {able} its model."


def _blocker(viewer: Viewer, blocker: BlockerView) -> list[h.Node]:
    said: list[h.Node] = [sentence(blocker.detail), "."]
    if blocker.task_id:
        said += [" ", h.a(href=viewer.page(f"/tasks/{blocker.task_id}"))["That task"], "."]
    if blocker.until:
        said += [" It goes on ", when(blocker.until), "."]
    return said
