"""Where spans go: to the OTLP endpoint of the environment, in batches, from a thread of its own.

OpenTelemetry's SDK reads its variables itself: endpoint, headers, protocol, certificate, sampler, limits, queue. What a
receiver does that is away, slow or wrong costs spans, and nothing else.
"""

import logging
from collections.abc import Sequence
from importlib import import_module
from threading import Thread

from loguru import logger
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from penstock import __version__
from penstock.settings import traces_protocol
from penstock.telemetry import metrics, spans

EXPORTERS = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
"""The module that has the exporter of each protocol. The second is not installed with Penstock."""

END_S = 2.0
"""The longest that a process which ends waits for its last spans to be sent: a supervisor gives it 5 s to stop."""

SHOWN_CHARACTERS = 300
"""How much is logged of why spans could not be sent."""


class _Sending:
    """What this process sends spans with, while it does."""

    provider: TracerProvider | None = None
    exporter: "ReportingExporter | None" = None


def begin(service: str, process: str) -> None:
    """Send spans from now on. Where that cannot be, it is logged, and the process goes on without."""
    try:
        exporter = ReportingExporter(_exporter())
    except (ImportError, KeyError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        logger.bind(protocol=traces_protocol(), reason=why).warning("spans are not sent: there is no exporter for them")
        return
    named = {"service.name": service, "service.version": __version__, "penstock.process": process}
    resource = Resource.create(named).merge(OTELResourceDetector().detect())  # the environment has the last word
    provider = TracerProvider(resource=resource, id_generator=spans.SpanIds(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    spans.use(provider.get_tracer("penstock", __version__))
    _Sending.provider, _Sending.exporter = provider, exporter


def end() -> None:
    """Send what is left, and return within END_S."""
    if _Sending.provider is None or _Sending.exporter is None:
        return
    # The SDK waits for up to 30 s, and its exporter goes on trying for as long, if nobody ends it.
    sending = Thread(target=_Sending.provider.shutdown, name="last spans", daemon=True)
    sending.start()
    sending.join(END_S)
    if sending.is_alive():
        _Sending.exporter.shutdown()
    _Sending.provider = _Sending.exporter = None


def _exporter() -> SpanExporter:
    exporter: SpanExporter = import_module(EXPORTERS[traces_protocol()]).OTLPSpanExporter()
    return exporter


class ReportingExporter(SpanExporter):
    """An exporter that counts what it sends, and logs once when spans cannot be sent, and once when they can again.

    Those of OpenTelemetry log every try, and each traceback, for as long as the receiver is away.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._said = _LastWords()
        self._is_well = True
        log = logging.getLogger("opentelemetry.exporter")
        log.addHandler(self._said)
        log.propagate = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send these spans. Never raises."""
        self._said.first = ""
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001  whatever a receiver answers, the thread goes on
            self._said.first, result = self._said.first or repr(error), SpanExportResult.FAILURE
        is_sent = result is SpanExportResult.SUCCESS
        metrics.report("spans", len(spans), outcome="sent" if is_sent else "lost")
        if is_sent and not self._is_well:
            logger.info("spans are sent again")
        if not is_sent and self._is_well:
            logger.bind(reason=self._said.first[:SHOWN_CHARACTERS]).warning("spans cannot be sent, and are dropped")
        self._is_well = is_sent
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._inner.shutdown()


class _LastWords(logging.Handler):
    """Keeps the first message of an export: it says what went wrong, and those that follow that it is tried again."""

    first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()
