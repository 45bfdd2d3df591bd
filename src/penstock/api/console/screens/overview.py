"""The overview: what is wrong, what the server does now, and what it did in the last hour."""

from collections.abc import Iterator, Sequence

import htpy as h
from litestar import Response, get

from penstock.api.console.answers import error_link, page
from penstock.api.console.page.icons import icon
from penstock.api.console.page.panels import bar, heading, live, notice, panel, tile
from penstock.api.console.page.sparks import chart, spark
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, brief, duration, number, prose
from penstock.api.console.reads.overview import Now, now
from penstock.api.console.viewer import PLACES, Viewer, viewer_of
from penstock.api.console.wrong import wrong_now
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import READ
from penstock.api.services import ServicesDep
from penstock.core.task import PRIORITIES

MOST_QUEUES = 12
CHARTS = ("vendor/uPlot.iife.min.js",)
STYLES = ("vendor/uPlot.min.css",)


@get("/", opt=READ)
async def show_overview(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show the overview: of all tenants to operators, else of the caller's own."""
    viewer, found = viewer_of(request), await now(request, services)
    link = viewer.page("/")
    return page(
        request,
        "Overview",
        heading("Overview", under="of all tenants" if viewer.can("operate") else None),
        live(
            "now",
            link,
            _wrong(viewer, found, services.settings.queue.max_depth),
            _tiles(viewer, found),
            h.div(".columns")[panel("Queues", _queues(found)), panel("Workers", _workers(found))],
        ),
        h.div(".columns.wide-first")[
            live("hour", link, panel("The last hour", _hour(viewer, found)), every_s=60),
            live("errors", link, panel("Errors of the last hour", _errors(viewer, found)), every_s=30),
        ],
        screen="overview",
        scripts=CHARTS,
        styles=STYLES,
    )


def _wrong(viewer: Viewer, found: Now, max_depth: int) -> h.Node:
    conditions = wrong_now(found, max_depth=max_depth)
    if not conditions:
        return notice("good", [icon("good"), " Nothing is wrong."])
    return h.section(aria_label="What is wrong now")[
        [notice(one.tone, one.what, prose(one.do), " ", _more(viewer, one.path)) for one in conditions]
    ]


def _more(viewer: Viewer, path: str) -> h.Node:
    """The link to the screen that shows more, where there is one that the viewer may see."""
    plain = path.partition("?")[0]
    is_there = any(place.path == plain and viewer.can(place.scope) for place in PLACES)
    return h.a(href=viewer.own_page(path))["Show"] if is_there and plain != "/" else None


def _tiles(viewer: Viewer, found: Now) -> h.Element:
    waiting = sum(queue.depth for queue in found.stats.queues)
    last = found.rates[-1] if found.rates else None
    oldest = max((queue.oldest_s for queue in found.stats.queues if queue.depth), default=None)
    samples = found.samples
    rates = [
        tile(
            "Done a minute",
            f"{last.done:.1f}" if last else "–",
            spark([one.done for one in found.rates], "tasks done a minute"),
            link=viewer.page("/tasks", status="SUCCESS"),
        ),
        tile(
            "Failed a minute",
            f"{last.failed:.1f}" if last else "–",
            spark([one.failed for one in found.rates], "tasks failed a minute", tone="bad"),
            link=viewer.page("/tasks", status="FAILED"),
        ),
        tile(
            "Devices busy",
            f"{last.busy:.0%}" if last else "–",
            spark([one.busy for one in found.rates], "share of the devices' time"),
        ),
    ]
    return h.div(".tiles")[
        tile(
            "Waiting",
            number(waiting),
            spark([float(sum(one.waiting.values())) for one in samples], "tasks waiting"),
            link=viewer.page("/tasks", status="PENDING"),
        ),
        tile(
            "Running",
            number(found.stats.tasks.get("RUNNING", 0)),
            spark([float(one.running) for one in samples], "tasks running"),
            link=viewer.page("/tasks", status="RUNNING"),
        ),
        tile("Oldest waits", brief(oldest), spark([one.oldest_s for one in samples], "seconds of the oldest")),
        rates if viewer.can("operate") else [_count(viewer, found, "SUCCESS"), _count(viewer, found, "FAILED")],
    ]


def _count(viewer: Viewer, found: Now, state: str) -> h.Element:
    link = viewer.page("/tasks", status=state)
    return tile(state.capitalize(), number(found.stats.tasks.get(state, 0)), "kept now", link=link)


def _queues(found: Now) -> h.Node:
    models = sorted({queue.model for queue in found.stats.queues if queue.depth or queue.paused})
    rows = [TableRow([model, *_depths(found, model), _state(found, model)]) for model in models[:MOST_QUEUES]]
    heads: list[Column | str] = [
        "Model",
        *(Column(one.capitalize(), True) for one in PRIORITIES),
        Column("Oldest", True),
        "",
    ]
    return table(heads, rows, caption="Waiting tasks by model and priority", empty="No task waits.")


def _depths(found: Now, model: str) -> Sequence[h.Node]:
    queues = {queue.priority: queue for queue in found.stats.queues if queue.model == model}
    oldest = max((queue.oldest_s for queue in queues.values() if queue.depth), default=None)
    return [*(number(queues[one].depth) if one in queues else "" for one in PRIORITIES), duration(oldest)]


def _state(found: Now, model: str) -> h.Node:
    is_paused = any(queue.paused for queue in found.stats.queues if queue.model == model)
    return badge("paused") if is_paused else ""


def _workers(found: Now) -> h.Node:
    rows = [
        TableRow(
            [
                worker.id,
                badge(worker.state),
                [bar(worker.running / max(1, worker.slots), f"{worker.running} of {worker.slots} slots")],
                f"{worker.running} / {worker.slots}",
            ]
        )
        for worker in sorted(found.workers, key=lambda one: one.id)
    ]
    heads: list[Column | str] = ["Worker", "State", "Slots in use", Column("", True)]
    return table(heads, rows, caption="Workers", empty="No worker has reported.")


def _hour(viewer: Viewer, found: Now) -> h.Node:
    if len(found.samples) < 2:
        return h.p(".under")["A sample is taken each minute; the curves begin with the second."]
    seconds = [60 * one.minute for one in found.samples]
    waiting = {str(one): [float(sample.waiting.get(one, 0)) for sample in found.samples] for one in PRIORITIES}
    charts = [chart("Tasks waiting by priority", seconds, **waiting)]
    if viewer.can("operate") and found.rates:
        done = {
            "done": [one.done for one in found.rates],
            "failed": [one.failed for one in found.rates],
        }
        charts.insert(0, chart("Tasks done and failed a minute", [60 * one.minute for one in found.rates], **done))
    return charts


def _errors(viewer: Viewer, found: Now) -> h.Node:
    return table(
        ["Error", Column("Tasks", True)],
        _error_rows(viewer, found),
        caption="Errors by code",
        empty="No task has failed.",
    )


def _error_rows(viewer: Viewer, found: Now) -> Iterator[TableRow]:
    for code, count in found.errors.items():
        link = viewer.page("/tasks", error_code=code, within="1h")
        yield TableRow([error_link(viewer, code), h.a(href=link)[number(count)]], link=link)
