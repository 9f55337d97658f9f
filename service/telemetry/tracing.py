"""Traces over OpenTelemetry, for operators who collect them: one span a request, one a stage of its work.

Nothing of OpenTelemetry is imported unless an address to send to is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from service.recognition.timeline import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OpenSpan
    from opentelemetry.trace import Tracer


class TracingUnavailable(Exception):
    """An address for traces is set, but what sends them is not installed."""


class RequestSpan(Protocol):
    """The span of a request that is being served."""

    def end(self, method: str, route: str, status: int) -> None:
        """Name it, once the route is known."""


class Tracing(Protocol):
    """Where spans go."""

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """The span of a request, within the caller's trace if its headers name one."""

    def stages(self, spans: list[Span]) -> None:
        """Stages of the request that is being served."""

    def close(self) -> None:
        """Send what waits."""


class NoTracing:
    """Spans go nowhere."""

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """No span."""
        yield _NoSpan()

    def stages(self, spans: list[Span]) -> None:
        """Passed over."""

    def close(self) -> None:
        """Nothing waits."""


class _NoSpan:
    def end(self, method: str, route: str, status: int) -> None:
        """Passed over."""


def open_tracing(endpoint: str | None) -> Tracing:
    """Tracing to an OTLP/HTTP address, or none. Raises TracingUnavailable."""
    if endpoint is None:
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise TracingUnavailable(
            "FACEMARGIN_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: pip install 'facemargin[tracing]'"
        ) from error
    return OpenTelemetryTracing(OTLPSpanExporter(endpoint=endpoint))


class OpenTelemetryTracing:
    """Spans through a provider of our own: the process-wide one belongs to nobody in particular."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider = TracerProvider(resource=Resource.create({"service.name": "facemargin"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer: Tracer = self._provider.get_tracer("facemargin")

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[RequestSpan]:
        """The span of a request, within the trace of `traceparent` if the caller sent one."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(dict(headers))
        with self._tracer.start_as_current_span(
            "request",
            parent,
            SpanKind.SERVER,
            record_exception=False,  # its message may name people
        ) as span:
            yield _Named(span)

    def stages(self, spans: list[Span]) -> None:
        """Children of the request's span, which is that of this thread or task."""
        for span in spans:
            self._tracer.start_span(span.stage, start_time=span.began).end(span.ended)

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


class _Named:
    def __init__(self, span: OpenSpan) -> None:
        self._span = span

    def end(self, method: str, route: str, status: int) -> None:
        """The route's template, never the path: it may hold the ids of people."""
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
