"""Logs, metrics and status: they tell what happened, and of nobody."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.security.roles import Role
from service.telemetry import logs
from service.telemetry.recent import RecentTimes

SUBJECTS = "/v1/collections/default/subjects"
SECRET_ID = "a-very-particular-person"


def samples(client: TestClient) -> dict[str, float]:
    """Every sample of /metrics by its name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def grown(before: dict[str, float], after: dict[str, float], name: str) -> float:
    return after.get(name, 0.0) - before.get(name, 0.0)


def test_metrics_count_what_happened(client: TestClient, demo: Path) -> None:
    enrolled = {"image": (demo / "obama.jpg").read_bytes()}
    assert client.post(f"{SUBJECTS}/somebody/faces", files=enrolled).status_code == 201
    before = samples(client)
    files = {"source": (demo / "006_A.jpg").read_bytes(), "target": (demo / "002_A.jpg").read_bytes()}
    assert client.post("/v1/verify", files=files).json()["match"] is True
    identified = client.post("/v1/identify", files={"image": (demo / "011_3.jpg").read_bytes()}).json()["faces"]
    assert client.get(f"{SUBJECTS}/{SECRET_ID}").status_code == 404
    after = samples(client)

    assert grown(before, after, "facemargin_requests_total{method=POST,route=/v1/verify,status=200}") == 1
    assert grown(before, after, "facemargin_request_seconds_count{method=POST,route=/v1/verify}") == 1
    assert grown(before, after, "facemargin_problems_total{code=subject_not_found}") == 1
    assert grown(before, after, "facemargin_photos_total") == 3
    assert grown(before, after, "facemargin_faces_total") >= 2 + len(identified)
    assert grown(before, after, "facemargin_batch_faces_sum") == grown(before, after, "facemargin_faces_total")
    assert grown(before, after, "facemargin_decisions_total{call=verify,decision=match}") == 1
    known = grown(before, after, "facemargin_decisions_total{call=identify,decision=known}")
    unknown = grown(before, after, "facemargin_decisions_total{call=identify,decision=unknown}")
    assert known + unknown == len(identified) == 3
    for stage in ("decode", "detect", "align", "embed", "search"):
        assert grown(before, after, f"facemargin_stage_seconds_count{{stage={stage}}}") >= 1, stage
    client.delete(f"{SUBJECTS}/somebody")


def test_metrics_show_the_gallery_and_the_build(client: TestClient, demo: Path) -> None:
    before = samples(client)
    photo = {"image": (demo / "obama.jpg").read_bytes()}
    assert client.post(f"{SUBJECTS}/metrics-subject/faces", files=photo).status_code == 201
    after = samples(client)
    assert grown(before, after, "facemargin_index_faces") == 1
    assert grown(before, after, "facemargin_stage_seconds_count{stage=store}") == 1
    assert after["facemargin_gallery_revision"] > before["facemargin_gallery_revision"]
    assert after["facemargin_replica_lag_revisions"] == 0
    assert after["facemargin_ready"] == 1
    assert after["facemargin_queue_length{queue=photos}"] == 0
    model = client.get("/v1/model").json()
    assert after[f"facemargin_model_info{{detector={model['detector']},model={model['model']}}}"] == 1
    assert client.delete(f"{SUBJECTS}/metrics-subject").status_code == 200
    assert grown(before, samples(client), "facemargin_index_faces") == 0


def test_metrics_name_nobody_and_invent_no_labels(client: TestClient) -> None:
    client.get(f"{SUBJECTS}/{SECRET_ID}")
    client.get(f"/nowhere/{SECRET_ID}")
    client.request("INVENTED", f"{SUBJECTS}/{SECRET_ID}")
    text = client.get("/metrics").text
    assert SECRET_ID not in text
    assert "INVENTED" not in text
    assert 'route="unmatched"' in text


def test_metrics_and_status_need_a_key(anonymous: TestClient, as_role: Callable[[Role], TestClient]) -> None:
    for path in ("/metrics", "/v1/status"):
        assert anonymous.get(path).status_code == 401
        assert as_role(Role.READ).get(path).status_code == 200


def test_status_tells_how_it_is(client: TestClient, demo: Path) -> None:
    photo = {"image": (demo / "obama.jpg").read_bytes()}
    client.post(f"{SUBJECTS}/status-subject/faces", files=photo)
    status = client.get("/v1/status").json()
    model = client.get("/v1/model").json()
    assert (status["model"], status["detector"]) == (model["model"], model["detector"])
    assert status["uptime_s"] > 0
    assert status["gallery_revision"] == status["index_revision"] == client.get("/readyz").json()["gallery_revision"]
    listed = client.get("/v1/collections").json()["collections"]
    assert status["collections"] == len(listed)
    assert status["faces"] == sum(collection["faces"] for collection in listed) >= 1
    of_default = next(index for index in status["index"] if index["collection"] == "default")
    assert of_default["faces"] == next(row["faces"] for row in listed if row["id"] == "default")
    assert of_default["kind"] == "flat"
    for stage in ("decode", "detect", "align", "embed"):
        assert 0 < status["latency_ms"][stage]["p50"] <= status["latency_ms"][stage]["p95"]
    assert status["queue"]["photos"] == 0
    client.delete(f"{SUBJECTS}/status-subject")


def test_the_dashboard_shows_every_metric_and_no_other(client: TestClient, repo_root: Path) -> None:
    dashboard = json.loads((repo_root / "docs" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [variable["query"] for variable in dashboard["templating"]["list"]]
    shown = {name for query in queries for name in re.findall(r"\b(?:facemargin|process)_[a-z_]+", query)}
    families = {
        family.name: {sample.name for sample in family.samples} | {family.name}
        for family in text_string_to_metric_families(client.get("/metrics").text)
    }
    assert shown <= set().union(*families.values())
    ours = {name: samples for name, samples in families.items() if name.startswith("facemargin_")}
    # When a counter began is sent as well, and is of no use to people.
    unseen = [name for name, samples in ours.items() if not samples & shown and not name.endswith("_created")]
    assert not unseen
    table = (repo_root / "docs" / "operations.md").read_text()
    assert not [name for name in shown if name.startswith("facemargin_") and not documented(name, table)]


def documented(name: str, table: str) -> bool:
    """Whether docs/operations.md names a metric, whole or by its ending in a list."""
    plain = re.sub(r"_(bucket|count|sum)$", "", name)
    return f"`{plain}`" in table or f"`_{plain.rpartition('_')[2]}`" in table


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the service writes to its log, as JSON."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("auto")
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_request_leaves_one_line_without_a_name(client: TestClient, demo: Path, log: io.StringIO) -> None:
    photo = {"image": (demo / "obama.jpg").read_bytes()}
    answer = client.post(f"{SUBJECTS}/{SECRET_ID}/faces", files=photo, headers={"X-Request-ID": "request-7"})
    assert answer.status_code == 201
    client.delete(f"{SUBJECTS}/{SECRET_ID}")
    first = next(line for line in lines(log) if line.get("request_id") == "request-7")
    own_key = client.get("/v1/keys/self").json()["id"]
    assert first["message"] == "request"
    assert first["method"] == "POST"
    assert first["route"] == "/v1/collections/{collection}/subjects/{subject}/faces"
    assert first["status"] == 201
    assert first["ms"] > 0
    assert first["key_id"] == own_key
    written = log.getvalue()
    assert SECRET_ID not in written
    assert answer.json()["indexed"][0]["face_id"] not in written
    assert "testclient" not in written, "the caller's address is in the log"


def test_a_refused_request_leaves_its_code(anonymous: TestClient, log: io.StringIO) -> None:
    anonymous.get(f"{SUBJECTS}/{SECRET_ID}")
    anonymous.get("/readyz")
    anonymous.get("/healthz")
    (line,) = lines(log)
    assert (line["status"], line["code"]) == (401, "unauthenticated")
    assert "key_id" not in line


def test_text_lines_are_for_people(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", log)
    logs.configure("text")
    logs.log_fields(logging.getLogger("somebody"), "request", {"status": 200, "code": None})
    assert re.fullmatch(r"\S+ \S+ INFO somebody: request status=200\n", log.getvalue())


def test_a_trace_stays_one_line(log: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("somebody").exception("it failed")
    (line,) = lines(log)
    assert line["message"] == "it failed"
    assert "ValueError: two" in line["exception"]


def test_recent_times_forget_the_old_ones() -> None:
    times = RecentTimes()
    for _ in range(1000):
        times.add("stage", 1.0)
    for _ in range(512):
        times.add("stage", 0.002)
    assert times.milliseconds() == {"stage": {"p50": 2.0, "p95": 2.0}}
