"""Prints a webhook and its deliveries as a table on a terminal, or as a JSON line."""

from penstock.cli.terminal import clock, console, filled_table, plain, say, state, whole
from penstock.client.views import Delivery, Event, Webhook


def show(webhook: Webhook, *, as_json: bool) -> None:
    """Prints the webhook, and a row for each try to deliver an event, the latest last."""
    if as_json:
        say(webhook)
        return
    tries: list[tuple[Event, Delivery | None]] = []
    for event in webhook.log:
        tries += [(event, delivery) for delivery in event.deliveries] or [(event, None)]
    rows = filled_table(
        (whole("event"), [plain(event.type) for event, _ in tries]),
        (whole("status"), [state(event.status) for event, _ in tries]),
        (whole("tried"), [plain(clock(one.at) if one else "") for _, one in tries]),
        (whole("took"), [plain(f"{one.ms} ms" if one else "") for _, one in tries]),
        ("answer", [plain(_answer(one)) for _, one in tries]),
        (whole("next try"), [plain(_next(event)) for event, _ in tries]),
    )
    console().print(plain(webhook.url), rows if tries else "[dim]no event yet[/dim]", sep="\n")


def _answer(delivery: Delivery | None) -> str:
    if delivery is None:
        return ""
    return f"{delivery.code or ''} {delivery.outcome}".strip()


def _next(event: Event) -> str:
    return clock(event.next_delivery_at) if event.next_delivery_at else ""
