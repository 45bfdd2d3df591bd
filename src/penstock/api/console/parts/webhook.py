"""The webhook of a task or a batch: its events, and how their deliveries went."""

import htpy as h

from penstock.api.console.page.acts import Act, act_button
from penstock.api.console.page.panels import panel
from penstock.api.console.page.tables import Column, TableRow, table
from penstock.api.console.page.words import badge, when
from penstock.api.console.viewer import Viewer
from penstock.api.schemas.tasks import EventView, WebhookView

COLUMNS = ("Event", "Status", Column("Tries", True), "Last try", "Answer", "Next try")


def deliveries(viewer: Viewer, hook: WebhookView | None, path: str) -> h.Node:
    """Return the panel of a webhook, with the button that delivers the last event again; None where there is none.
    `path` is that of the task or batch in the API."""
    if hook is None:
        return None
    again = Act(link=viewer.api(f"{path}/webhook/redeliver"), scope="submit", done="Its last event is delivered again")
    button = act_button(viewer, "Redeliver", again) if hook.log else None
    rows = [_row(event) for event in sorted(hook.log, key=lambda event: -event.sequence)]
    events = table(COLUMNS, rows, caption="Events", empty=f"Nothing was sent yet. It wants: {', '.join(hook.events)}.")
    return panel("Webhook", h.p[h.code[hook.url]], events, acts=button)


def _row(event: EventView) -> TableRow:
    last = event.deliveries[-1] if event.deliveries else None
    said = f"{last.outcome}{f' {last.code}' if last.code else ''}, {last.ms} ms" if last else "–"
    return TableRow(
        [
            h.code[event.type],
            badge(event.status),
            str(len(event.deliveries)),
            when(last.at) if last else "–",
            said,
            when(event.next_delivery_at),
        ]
    )
