"""A write with an Idempotency-Key is done once, whatever happens to its answer."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.gallery.tables import idempotency, revisions
from service.idempotency import TokenedRequest
from service.security.roles import Role
from service.settings import Settings

COLLECTION = "/v1/collections/once"
SUBJECTS = f"{COLLECTION}/subjects"


@pytest.fixture(autouse=True)
def _collection(client: TestClient) -> Iterator[None]:
    client.put(COLLECTION)
    yield
    client.delete(COLLECTION)


@pytest.fixture
def token() -> dict[str, str]:
    return {"Idempotency-Key": f"test-{uuid.uuid4()}"}


@pytest.fixture
def database(settings: Settings) -> Iterator[sa.Engine]:
    engine = sa.create_engine(settings.gallery_url)
    yield engine
    engine.dispose()


def changes(database: sa.Engine) -> int:
    with database.begin() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(revisions)) or 0


def test_the_same_request_is_answered_alike_and_done_once(
    client: TestClient, token: dict[str, str], database: sa.Engine
) -> None:
    first = client.post(SUBJECTS, json={"name": "Ada"}, headers=token)
    before = changes(database)
    again = client.post(SUBJECTS, json={"name": "Ada"}, headers=token)
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (201, first.json())
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert changes(database) == before
    assert len(client.get(SUBJECTS).json()["subjects"]) == 1


def test_an_enrolment_is_done_once_though_its_form_is_divided_anew(
    client: TestClient, token: dict[str, str], demo: Path
) -> None:
    photo = (demo / "004_A.jpg").read_bytes()
    answers = [client.post(f"{SUBJECTS}/ada/faces", files={"image": photo}, headers=token) for _ in range(2)]
    boundaries = {answer.request.headers["content-type"] for answer in answers}
    assert len(boundaries) == 2
    assert answers[0].json() == answers[1].json()
    assert len(client.get(f"{SUBJECTS}/ada/faces").json()["faces"]) == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda client, headers: client.post(SUBJECTS, json={"name": "Grace"}, headers=headers),
        lambda client, headers: client.put(f"{SUBJECTS}/ada", json={"name": "Ada"}, headers=headers),
        lambda client, headers: client.delete(f"{SUBJECTS}/ada", headers=headers),
    ],
)
def test_a_token_stands_for_one_request(
    client: TestClient, token: dict[str, str], other: Callable[[TestClient, dict[str, str]], httpx.Response]
) -> None:
    client.put(f"{SUBJECTS}/ada")
    client.post(SUBJECTS, json={"name": "Ada"}, headers=token)
    refused = other(client, token)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert client.get(f"{SUBJECTS}/ada").json()["name"] == "ada"


def test_tokens_of_two_keys_do_not_meet(
    client: TestClient, as_role: Callable[[Role], TestClient], token: dict[str, str]
) -> None:
    answers = [one.post(SUBJECTS, json={"name": "Ada"}, headers=token) for one in (client, as_role(Role.ENROL))]
    assert answers[0].json()["subject_id"] != answers[1].json()["subject_id"]


def test_a_refused_write_leaves_its_token_free(client: TestClient, token: dict[str, str]) -> None:
    path = f"{SUBJECTS}/ada"
    assert client.patch(path, json={"name": "Ada"}, headers=token).status_code == 404
    client.put(path)
    assert client.patch(path, json={"name": "Ada"}, headers=token).status_code == 200


def test_an_erasure_is_answered_again_though_its_subject_is_gone(client: TestClient, token: dict[str, str]) -> None:
    client.put(f"{SUBJECTS}/ada")
    receipts = [client.delete(f"{SUBJECTS}/ada", headers=token) for _ in range(2)]
    assert [receipt.status_code for receipt in receipts] == [200, 200]
    assert receipts[0].json() == receipts[1].json()


def test_what_is_kept_of_an_answer_names_nobody(client: TestClient, token: dict[str, str], database: sa.Engine) -> None:
    client.put(f"{SUBJECTS}/countess-of-lovelace", headers=token)
    with database.begin() as connection:
        rows = connection.execute(sa.select(idempotency)).all()
    assert rows
    kept = b"".join(bytes(row.answer) + row.token.encode() for row in rows)
    assert b"lovelace" not in kept
    assert token["Idempotency-Key"].encode() not in kept


def test_erasing_a_subject_forgets_the_answers_about_it(
    client: TestClient, token: dict[str, str], database: sa.Engine
) -> None:
    created = client.put(f"{SUBJECTS}/ada", headers=token)
    assert created.status_code == 201
    client.delete(f"{SUBJECTS}/ada")
    again = client.put(f"{SUBJECTS}/ada", headers=token)
    assert again.status_code == 201
    assert "idempotency-replayed" not in again.headers


def test_answers_are_kept_for_a_day(client: TestClient, token: dict[str, str], database: sa.Engine) -> None:
    client.post(SUBJECTS, headers=token)
    with database.begin() as connection:
        yesterday = datetime.now(UTC) - timedelta(hours=24, seconds=1)
        connection.execute(sa.update(idempotency).values(at=yesterday))
    assert "idempotency-replayed" not in client.post(SUBJECTS, headers=token).headers
    with database.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(idempotency)) == 1


@pytest.mark.parametrize("bad", ["", "a b", "é", "x" * 256])
def test_a_token_that_cannot_be_one_is_refused(client: TestClient, bad: str) -> None:
    answer = client.post(SUBJECTS, headers={"Idempotency-Key": bad.encode()})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "Idempotency-Key" in answer.json()["detail"]


def test_two_at_once_make_one_change(anonymous: TestClient, client: TestClient, token: dict[str, str]) -> None:
    """Sent together through the one running event loop, as a client would that gave up waiting too early."""
    together = threading.Barrier(4)
    headers = {**token, "X-API-Key": client.headers["X-API-Key"]}

    def send() -> httpx.Response:
        together.wait()
        return anonymous.post(SUBJECTS, json={"name": "Ada"}, headers=headers)

    with ThreadPoolExecutor(4) as pool:
        answers = [sent.result() for sent in [pool.submit(send) for _ in range(4)]]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["subject_id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 3
    assert len(client.get(SUBJECTS).json()["subjects"]) == 1


def test_the_answer_outlives_a_restart(
    client: TestClient,
    serve: Callable[[Settings], AbstractContextManager[TestClient]],
    settings: Settings,
    token: dict[str, str],
) -> None:
    """A second application over the same database stands for the restarted one: it shares no memory."""
    first = client.put(f"{SUBJECTS}/ada", json={"name": "Ada"}, headers=token)
    with serve(settings) as restarted:
        restarted.headers.update({"X-API-Key": client.headers["X-API-Key"]})
        again = restarted.put(f"{SUBJECTS}/ada", json={"name": "Ada"}, headers=token)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.json()) == (201, first.json())


REQUESTS = st.builds(TokenedRequest, st.text(max_size=40), st.text(max_size=40), st.binary(max_size=40))


@given(REQUESTS, REQUESTS, st.binary(max_size=200))
def test_only_the_same_request_opens_its_answer(one: TokenedRequest, other: TokenedRequest, answer: bytes) -> None:
    assert one.open(one.seal(answer)) == answer
    assert (one.name == other.name) == ((one.key_id, one.token) == (other.key_id, other.token))
    assert (one.fingerprint == other.fingerprint) == (one == other)
    if one != other:
        with pytest.raises(InvalidTag):
            other.open(one.seal(answer))
