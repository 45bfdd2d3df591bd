"""The workers: what each runs, tile by tile, its memory and models, and what operators do to it."""

from collections import Counter
from collections.abc import Iterator

import htpy as h
from litestar import Response, get

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_button
from penstock.api.console.page.panels import all_tenants, bar, heading, live, notice, panel
from penstock.api.console.page.tables import Column, TableRow, facts, table
from penstock.api.console.page.words import badge, number, size, when
from penstock.api.console.reads import operations
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ALL_TENANTS, READ
from penstock.api.schemas.operators import MemoryView, RunningView, WorkerStatusView
from penstock.api.services import ServicesDep
from penstock.core.task import PRIORITIES, Stage

COLUMNS = ("Task", "Model", "Priority", "Stage", "Device work", Column("Claimed", True))
LOOK_S = 2
STAGES: tuple[Stage, ...] = ("fetch", "load", "prepare", "infer", "postprocess", "upload")
NO_WORKER = "No worker is there. Start one with penstock worker, on any host that reaches this Redis."


@get("/workers", opt=READ | OF_ALL_TENANTS)
async def show_workers(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show a panel for each worker."""
    viewer = viewer_of(request)
    workers = (await operations.workers(request, services)).data
    shown = [_panel(worker, viewer) for worker in workers] or notice("warn", NO_WORKER)
    under = "One worker is one device. The strip shows in which stage its tasks were while you looked."
    return page(
        request,
        "Workers",
        heading("Workers", all_tenants(viewer, "/workers"), under=under),
        live("workers", viewer.page("/workers"), shown, every_s=LOOK_S),
        screen="workers",
    )


def _panel(worker: WorkerStatusView, viewer: Viewer) -> h.Element:
    title = [worker.device, " ", badge(worker.state), badge("spool full", "bad") if worker.spool_full else None]
    return panel(
        title,
        notice("bad", "This worker cannot run.", worker.reason) if worker.reason else None,
        h.div(".columns")[facts(_facts(worker)), facts(_use(worker))],
        _stages(worker),
        table(COLUMNS, _tasks(worker, viewer), caption=f"Tasks of {worker.id}", empty="It runs nothing now."),
        acts=_acts(worker, viewer),
    )


def _tasks(worker: WorkerStatusView, viewer: Viewer) -> Iterator[TableRow]:
    for task in sorted(worker.tasks, key=lambda one: (PRIORITIES.index(one.priority), one.claimed_at)):
        link = viewer.page(f"/tasks/{task.task_id}")
        yield TableRow(
            [
                h.a(".id", href=link)[task.task_id],
                task.model,
                task.priority.capitalize(),
                task.stage,
                _progress(task),
                when(task.claimed_at),
            ],
            link=link,
            id=f"running-{task.task_id}",
        )


def _progress(task: RunningView) -> h.Node:
    done = task.progress
    if done is None:
        return "–"
    return [bar(done.ratio, f"device work of {task.task_id}"), f" {done.done} of {done.total} {done.unit}"]


def _facts(worker: WorkerStatusView) -> Iterator[tuple[str, h.Node]]:
    yield "Worker", h.code[worker.id]
    yield "Host", worker.host
    yield "Tasks", f"{worker.running} of {number(worker.slots)} slots"
    yield "Started", when(worker.started_at)


def _use(worker: WorkerStatusView) -> Iterator[tuple[str, h.Node]]:
    yield "Models loaded", ", ".join(worker.models)
    if worker.memory:
        yield from _memory(worker.memory)


def _memory(memory: MemoryView) -> Iterator[tuple[str, h.Node]]:
    yield "Memory", size(memory.process)
    ratio = memory.tasks / memory.tasks_limit if memory.tasks_limit else 0
    yield "Images in it", [bar(ratio, "memory of images"), f" {size(memory.tasks)} of {size(memory.tasks_limit)}"]
    yield "Models' limit", size(memory.device_limit) if memory.device_limit else ""
    yield "Page-locked", size(memory.pinned) if memory.pinned else ""


def _stages(worker: WorkerStatusView) -> h.Element:
    """Return the strip that `stages.js` draws: it adds the stages of now at its right end each time it is loaded."""
    counts = Counter(task.stage for task in worker.tasks)
    now = " ".join(f"{stage}:{counts[stage]}" for stage in STAGES)
    return h.figure({"data-stages": now, "data-worker": worker.id, "data-slots": str(worker.slots)}, class_="stages")


def _acts(worker: WorkerStatusView, viewer: Viewer) -> h.Node:
    if worker.state == "DRAINING":
        resume = Act(link=viewer.api(f"/workers/{worker.id}/resume"), scope="operate", done="It looks for tasks again")
        return act_button(viewer, "Resume", resume, look="primary")
    drain = Act(
        link=viewer.api(f"/workers/{worker.id}/drain"),
        scope="operate",
        confirm=f"Drain {worker.device} on {worker.host}?",
        confirm_text="It finishes what it runs and claims nothing more until it is resumed or started anew.",
        done="It finishes what it runs and claims nothing more",
    )
    return act_button(viewer, "Drain", drain) if worker.state == "READY" else None
