"""Who may come in: guessing is slowed down, keys that are right are not, and refusals are noted within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from service.gallery.database import open_engine
from service.security.audit import Actor, AuditLog, Filters
from service.security.gate import ExpiredKey, Gate, TooOften, UnknownKey
from service.security.keys import KeyStore
from service.security.roles import Role
from service.settings import Settings

HERE, THERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'facemargin.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def gate(engine: sa.Engine) -> Gate:
    return Gate(Settings(rate_limit=1, rate_burst=40), engine)


def guess(gate: Gate, address: str, times: int) -> list[type[Exception]]:
    seen = []
    for number in range(times):
        with pytest.raises((UnknownKey, TooOften)) as refusal:
            gate.admit(f"guess {number}", address)
        seen.append(refusal.type)
    return seen


def test_who_guesses_is_told_to_wait_and_others_are_not(gate: Gate) -> None:
    before, fresh = (gate.keys.create(name, Role.READ) for name in ("before", "fresh"))
    assert gate.admit(before.secret, HERE) == before.key
    seen = guess(gate, HERE, 60)
    assert seen[:30] == 30 * [UnknownKey]
    assert seen[40:] == 20 * [TooOften]
    # Even the right key is no longer looked at, unless it was right before: else guessing would go on.
    with pytest.raises(TooOften):
        gate.admit(fresh.secret, HERE)
    assert gate.admit(before.secret, HERE) == before.key
    assert gate.admit(fresh.secret, THERE) == fresh.key


def test_an_ipv6_network_is_one_guesser(gate: Gate) -> None:
    seen = [guess(gate, f"2001:db8::{number:x}", 1)[0] for number in range(1, 50)]
    assert seen[-1] is TooOften
    assert guess(gate, "2001:db8:0:1::1", 1) == [UnknownKey]


def test_a_key_that_is_right_is_no_guess(gate: Gate) -> None:
    for number in range(40):
        assert gate.admit(gate.keys.create(str(number), Role.READ).secret, HERE)
    assert guess(gate, HERE, 1) == [UnknownKey]


def test_a_key_has_its_rate(gate: Gate) -> None:
    busy, idle = (gate.keys.create(name, Role.READ).secret for name in ("busy", "idle"))

    def call_often() -> None:
        for _ in range(80):
            gate.admit(busy, HERE)

    with pytest.raises(TooOften) as refusal:
        call_often()
    assert refusal.value.seconds == 1
    assert gate.admit(idle, HERE)


def test_a_key_ends_at_once_when_it_expires_or_is_revoked(gate: Gate, engine: sa.Engine) -> None:
    old = gate.keys.create("old", Role.ADMIN, None, datetime.now(UTC) - timedelta(seconds=1))
    with pytest.raises(ExpiredKey):
        gate.admit(old.secret, HERE)
    key = gate.keys.create("revoked elsewhere", Role.READ)
    gate.admit(key.secret, HERE)
    KeyStore(engine).revoke(key.key.id)
    with pytest.raises(UnknownKey):
        gate.admit(key.secret, HERE)


def test_refusals_are_noted_within_bounds_and_the_rest_are_counted(gate: Gate) -> None:
    for _ in range(100):
        gate.note_refusal(Actor(None, "nobody", "r"), HERE, {"code": "unauthenticated"}, 401)
    gate.note_refusal(Actor(None, "nobody", "r"), THERE, {"code": "unauthenticated"}, 401)
    entries = gate.audit.entries(None, 1000, Filters(action="denied")).items
    assert 31 <= len(entries) <= 40
    noted = sum(1 + entry.details.get("left_out_before", 0) for entry in entries)
    assert noted == 101


def denied(client: TestClient, audit: AuditLog) -> tuple[str | None, str, int, dict[str, object]]:
    entry = audit.entries(None, 1, Filters(action="denied")).items[0]
    return entry.key_id, entry.actor, entry.outcome, dict(entry.details)


def test_every_kind_of_refusal_is_in_the_audit_log(anonymous: TestClient) -> None:
    store: KeyStore = anonymous.app.state.keys  # type: ignore[attr-defined]
    audit: AuditLog = anonymous.app.state.audit  # type: ignore[attr-defined]
    reader = store.create("reader of one", Role.READ, ["one"])
    own = TestClient(anonymous.app, headers={"X-API-Key": reader.secret}, client=("198.51.100.7", 1))
    other = TestClient(anonymous.app, client=("198.51.100.8", 1))
    person = "/v1/collections/one/subjects/ada.lovelace"
    assert own.delete(person).status_code == 403
    call = {"code": "forbidden", "call": "DELETE /v1/collections/{collection}/subjects/{subject}"}
    assert denied(own, audit) == (reader.key.id, "reader of one", 403, call)
    assert own.get("/v1/collections/two").json()["code"] == "forbidden_collection"
    assert denied(own, audit)[3]["call"] == "GET /v1/collections/{collection}"
    assert own.post("/v1/identify?collection=two", files={"image": b"x"}).json()["code"] == "forbidden_collection"
    assert denied(own, audit)[3]["call"] == "POST /v1/identify"
    assert other.get("/v1/model").status_code == 401
    assert denied(other, audit) == (None, "nobody", 401, {"code": "unauthenticated", "call": "GET /v1/model"})
    assert other.get("/api/v1/recognition/subjects").status_code == 401
    assert str(denied(other, audit)[3]["call"]).endswith("/recognition/subjects")


def test_a_keys_secret_is_in_no_file_whatever_the_request_carries(client: TestClient, settings: Settings) -> None:
    headers = {"Idempotency-Key": "make me a key"}
    answer = client.post("/v1/keys", json={"name": "gate", "role": "read", "collections": ["one"]}, headers=headers)
    assert answer.status_code == 201
    secret, key_id = answer.json()["secret"], answer.json()["id"]
    files = [path for path in settings.data_dir.glob("facemargin.db*") if path.is_file()]
    assert files
    assert all(secret.encode() not in file.read_bytes() for file in files)
    made = client.get("/v1/audit?action=key.create&limit=1").json()["entries"][0]
    assert made["details"] == {"key_id": key_id, "role": "read", "collections": 1}
    assert client.delete(f"/v1/keys/{key_id}").status_code == 200
    revoked = client.get("/v1/audit?action=key.revoke&limit=1").json()["entries"][0]
    assert revoked["details"]["key_id"] == key_id


def test_the_last_admin_key_and_ones_own_stay(client: TestClient, engine: sa.Engine) -> None:
    own = client.get("/v1/keys/self").json()["id"]
    assert client.delete(f"/v1/keys/{own}").json()["code"] == "own_key"
    assert client.delete("/v1/keys/absent").json()["code"] == "key_not_found"
    keys = KeyStore(engine)
    first = keys.bootstrap(None)
    assert first is not None
    keys.create("of one", Role.ADMIN, ["one"])
    keys.create("over", Role.ADMIN, None, datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(Exception, match="last admin key"):
        keys.revoke(first.key.id)
    keys.create("second", Role.ADMIN)
    keys.revoke(first.key.id)


def test_without_keys_only_this_machines_own_page_may_call(
    serve: Callable[[Settings], AbstractContextManager[TestClient]], settings: Settings, tmp_path: Path
) -> None:
    with serve(Settings(auth="off", data_dir=tmp_path, cache_dir=settings.cache_dir, threads=1)) as client:
        own, put = "http://localhost:8000", "/v1/collections/x"
        assert client.put(f"{own}{put}").status_code == 201
        assert client.put(f"{own}{put}", headers={"Origin": own}).status_code == 200
        assert client.get(f"http://127.0.0.1:8000{put}").status_code == 200
        for base, origin in ((own, "https://evil.example"), (own, "null"), ("http://evil.example:8000", None)):
            answer = client.put(f"{base}{put}", headers={} if origin is None else {"Origin": origin})
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden_origin")
