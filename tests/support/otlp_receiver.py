"""A receiver of OTLP over HTTP, as a collector, Jaeger or Tempo is one: it keeps the spans that it is sent."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

WITHIN_S = 60.0

KINDS = ("", "internal", "server", "client", "producer", "consumer")
"""The names of the numbers that OTLP has for kinds of spans."""

FAILED = 2
"""The number of the status of a span that failed."""


class ReceivedSpan(Struct, frozen=True, kw_only=True):
    """A span as it came; ids are hex digits, `links` pairs of the ids of trace and span, times ns since 1970."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]
    resource: dict[str, Any]
    is_failed: bool
    began: int
    ended: int

    @property
    def service(self) -> str:
        return str(self.resource["service.name"])


class OtlpReceiver:
    """What has come so far."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.spans: list[ReceivedSpan] = []
        self.headers: list[dict[str, str]] = []

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Keeps the spans of one request."""
        self.headers.append(headers)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _read(group.resource.attributes)
            self.spans += [_received(span, resource) for scope in group.scope_spans for span in scope.spans]

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        """Returns what has come of one trace."""
        return [span for span in tuple(self.spans) if span.trace == trace_id]

    def when(self, is_there: Callable[[Sequence[ReceivedSpan]], bool], trace_id: str = "") -> list[ReceivedSpan]:
        """Waits for spans, of this trace or of all, until they are there."""
        give_up = time.monotonic() + WITHIN_S
        while True:
            came = self.trace(trace_id) if trace_id else list(self.spans)
            if is_there(came):
                return came
            assert time.monotonic() < give_up, sorted(span.name for span in came)
            time.sleep(0.02)


@contextmanager
def receiving(port: int = 0) -> Iterator[OtlpReceiver]:
    """Runs a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.take(body, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Not on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def _received(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_read(span.attributes),
        resource=resource,
        is_failed=span.status.code == FAILED,
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
    )


def _read(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
