"""The webhooks: which endpoints are owed events, and how the latest deliveries to them went."""

from collections.abc import Iterator

import htpy as h
from litestar import Response, get

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_button
from penstock.api.console.page.panels import heading, live, panel
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, number, when
from penstock.api.console.reads import webhooks
from penstock.api.console.reads.webhooks import Owed
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OPERATE
from penstock.api.services import ServicesDep
from penstock.store import OwedEvent

COLUMNS = ("Event", "Of", "Tenant", Column("Tries", True), "Last try", "Answer", "Next try", "")


@get("/webhooks", opt=OPERATE)
async def show_webhooks(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show the endpoints of all tenants that are owed events; those that answer late or not at all come first."""
    viewer = viewer_of(request)
    panels = [_panel(one, viewer) for one in await webhooks.owed(services)]
    under = "Endpoints with events that wait, of all tenants. The page of a task or a batch shows all its events."
    shown = live("owed", viewer.page("/webhooks"), panels or h.div(".empty")["No event waits: all were delivered."])
    return page(request, "Webhooks", heading("Webhooks", under=under), shown, screen="webhooks")


def _panel(owed: Owed, viewer: Viewer) -> h.Element:
    endpoint = owed.endpoint
    state = badge("prompt", "good") if endpoint.is_prompt else badge("not prompt", "warn")
    rests = [" Nothing is sent to it: it rests, ", when(endpoint.rests_until), "."] if endpoint.rests_until else None
    rows = table(COLUMNS, _rows(owed, viewer), caption=f"Events for {owed.url or endpoint.name}")
    title = h.span[h.code[owed.url or endpoint.name], " ", state]
    return panel(title, h.p(".under")[f"{number(endpoint.total)} events wait.", rests], rows)


def _rows(owed: Owed, viewer: Viewer) -> Iterator[TableRow]:
    for one in owed.endpoint.events:
        last = one.event.log[-1] if one.event.log else None
        link = viewer.page(_path(one), tenant=one.tenant)
        yield TableRow(
            [
                h.code[f"{_kind(one)}.{one.event.type}"],
                h.a(".id", href=link)[one.subject],
                one.tenant,
                number(one.event.tries),
                when(last.at) if last else "–",
                f"{last.outcome}{f' {last.code}' if last.code else ''}" if last else "–",
                when(one.event.due),
                h.div(".acts")[_again(one, viewer)],
            ],
            link=link,
            id=f"{one.subject}-{one.event.seq}",
        )


def _again(one: OwedEvent, viewer: Viewer) -> h.Node:
    act = Act(
        link=viewer.api(f"{_path(one)}/webhook/redeliver", tenant=one.tenant),
        scope="submit",
        done="Its last event is delivered again",
    )
    return act_button(viewer, "Redeliver", act, look="quiet")


def _path(one: OwedEvent) -> str:
    return f"/{'batches' if _kind(one) == 'batch' else 'tasks'}/{one.subject}"


def _kind(one: OwedEvent) -> str:
    return "batch" if one.subject.startswith("bat_") else "task"
