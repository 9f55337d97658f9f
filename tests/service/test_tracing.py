"""Traces to a collector that speaks OTLP, on loopback."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.gallery.database import open_engine
from service.security.keys import KeyStore
from service.settings import Settings
from service.telemetry.telemetry import Telemetry
from service.telemetry.tracing import NoTracing, TracingUnavailable, open_tracing

ADMIN_KEY = "an admin key for tests only"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")


class Collector(HTTPServer):
    """Keeps the spans that are sent to it."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        spans: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.spans = spans


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_is_a_span_and_its_stages_are_children(
    collector: Collector, settings: Settings, tmp_path: Path, demo: Path
) -> None:
    settings = Settings(data_dir=tmp_path, cache_dir=settings.cache_dir, threads=1)
    telemetry = Telemetry(open_tracing(f"http://127.0.0.1:{collector.server_port}/v1/traces"))
    engine = open_engine(settings.gallery_url)
    KeyStore(engine).bootstrap(ADMIN_KEY)
    app = create_app(settings, engine, lambda: None, telemetry)
    headers = {"X-API-Key": ADMIN_KEY, "traceparent": f"00-{TRACE}-{CALLER}-01"}
    with TestClient(app, headers=headers) as client:
        deadline = time.monotonic() + 120
        while client.get("/readyz", headers={"traceparent": ""}).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        somebody = {"image": (demo / "biden.jpg").read_bytes()}
        subject = "/v1/collections/default/subjects/a-particular-person"
        assert client.post(f"{subject}/faces", files=somebody, headers={"traceparent": ""}).status_code == 201
        began = time.time_ns()
        photo = {"image": (demo / "obama.jpg").read_bytes()}
        assert client.post("/v1/identify", files=photo).status_code == 200
        assert client.get(subject).status_code == 200
        ended = time.time_ns()
    telemetry.tracing.close()
    engine.dispose()

    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    (request,) = [span for span in ours if span.name == "POST /v1/identify"]
    assert request.parent_span_id.hex() == CALLER
    stages = {span.name: span for span in ours if span.parent_span_id == request.span_id}
    assert {"decode", "detect", "align", "embed", "search"} <= stages.keys()
    for span in stages.values():
        assert began <= span.start_time_unix_nano <= span.end_time_unix_nano <= ended
    attributes = {attribute.key: attribute.value for attribute in request.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert "a-particular-person" not in str(collector.spans)


def test_without_an_address_nothing_is_traced() -> None:
    assert isinstance(open_tracing(None), NoTracing)


def test_an_address_without_the_extra_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingUnavailable, match=r"facemargin\[tracing\]"):
        open_tracing("http://127.0.0.1:4318/v1/traces")
