"""The span of a delivery, whose context goes out with the message: what a receiver does is in the trace of the task."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from penstock.lazy_import import lazy_import
from penstock.telemetry import traces

spans = lazy_import("penstock.telemetry.spans")

P = TypeVar("P", bound=Callable[..., Awaitable[Any]])

HEADER = "traceparent"


def traced_post(post: P) -> P:
    """Give the POST of a message the span of a client, a child of what its header `traceparent` names. Without spans it
    stays as it is, and the header goes out unchanged."""
    if not traces.IS_ON:
        return post

    async def post_in_span(sender: Any, url: str, headers: Mapping[str, str], body: str) -> Any:
        with spans.span(
            "POST", kind="client", parent=headers.get(HEADER), attributes=_attributes(url, headers)
        ) as span:
            if span.traceparent:
                headers = {**headers, HEADER: span.traceparent}
            outcome = await post(sender, url, headers, body)
            span.note({"penstock.webhook.verdict": outcome.verdict})
            if outcome.code is not None:
                span.note({"http.response.status_code": outcome.code})
            if outcome.verdict != "delivered":
                span.fail(outcome.verdict)
            return outcome

    return cast(P, post_in_span)


def _attributes(url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Where it goes, without the path and the query: with many services these are the secret."""
    to = urlsplit(url)
    known = {"http.request.method": "POST", "url.scheme": to.scheme, "server.address": to.hostname or ""}
    known["penstock.webhook.id"] = headers.get("webhook-id", "")
    return known | ({"server.port": to.port} if to.port else {})
