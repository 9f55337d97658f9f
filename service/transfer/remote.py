"""A running service as the way in and out: its REST API, with retries."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx

from service.gallery.enrolment import FacePolicy
from service.transfer.enrolling import Outcome
from service.transfer.errors import TransferError
from service.transfer.format import MEDIA_TYPE
from service.transfer.photos import ImportedPhoto, SubjectName, Unreadable

_BUSY: Final = (429, 503)
_OF_THE_PHOTO: Final = (400, 413, 415, 422)
_PATIENCE: Final = 120.0  # seconds of being busy or out of reach
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)


class RemoteEnrolment:
    """Enrols photos through a service. A photo that its subject has already (by SHA-256) is passed over."""

    def __init__(self, client: httpx.AsyncClient, collection_id: str, policy: FacePolicy) -> None:
        self._client = client
        self._subjects = f"/v1/collections/{quote(collection_id)}/subjects"
        self._policy = policy
        self._known: dict[str, set[str]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, photo: ImportedPhoto) -> Outcome:
        """Enrol one photo. Raises TransferError when the service refuses for good."""
        try:
            data = photo.read()
        except Unreadable as error:
            return Outcome(reason=str(error))
        digest = hashlib.sha256(data).hexdigest()
        known = await self._digests(photo.subject)
        if digest in known:
            return Outcome()
        known.add(digest)
        response = await self._send(
            "POST",
            f"{self._subjects}/{quote(photo.subject.id)}/faces",
            params={"face_policy": self._policy.value},
            files={"image": ("photo", data)},
            # The same for every try of this photo: an answer lost on the way then costs nothing.
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )
        if response.status_code == 201:
            return Outcome(faces=len(response.json()["indexed"]))
        if response.status_code in _OF_THE_PHOTO:
            return Outcome(reason=str(_problem(response).get("code", "refused")))
        raise refused(response)

    async def _digests(self, subject: SubjectName) -> set[str]:
        """What the subject has already; one that is missing is created if its name is not its id."""
        async with self._asking[subject.id]:
            if subject.id not in self._known:
                self._known[subject.id] = await self._ask(subject)
        return self._known[subject.id]

    async def _ask(self, subject: SubjectName) -> set[str]:
        found: set[str] = set()
        address = f"{self._subjects}/{quote(subject.id)}"
        parameters = {"limit": "1000"}
        while True:
            response = await self._send("GET", f"{address}/faces", params=parameters)
            if response.status_code == 404 and _problem(response).get("code") == "subject_not_found":
                if subject.name != subject.id:
                    await self._send("PUT", address, json={"name": subject.name})
                return found
            if response.status_code != 200:
                raise refused(response)
            page = response.json()
            found.update(face["source_digest"] for face in page["faces"])
            if page["next_cursor"] is None:
                return found
            parameters = {"limit": "1000", "cursor": page["next_cursor"]}

    async def _send(self, method: str, address: str, **arguments: Any) -> httpx.Response:
        deadline = time.monotonic() + _PATIENCE
        delay = 0.5
        while True:
            failure: Exception | None = None
            try:
                response = await self._client.request(method, address, **arguments)
                if response.status_code not in _BUSY:
                    return response
                delay = max(delay, float(response.headers.get("Retry-After", "0") or 0))
            except httpx.TransportError as error:
                failure = error
            if time.monotonic() + delay > deadline:
                raise out_of_reach(self._client.base_url, failure) if failure else refused(response)
            await asyncio.sleep(delay)
            delay = min(2 * delay, 10.0)


def send_faces(client: httpx.Client, collection_id: str, chunks: Iterable[bytes]) -> dict[str, Any]:
    """Import a portable file through a service; its report. Raises TransferError."""
    address = f"/v1/collections/{quote(collection_id)}/import"
    with _reaching(client):
        response = client.post(address, content=chunks, headers={"Content-Type": MEDIA_TYPE})
    if response.status_code != 200:
        raise refused(response)
    report: dict[str, Any] = response.json()
    return report


def fetch_faces(client: httpx.Client, collection_id: str) -> Iterator[bytes]:
    """A collection's portable file from a service. Raises TransferError."""
    with _reaching(client), client.stream("GET", f"/v1/collections/{quote(collection_id)}/export") as response:
        if response.status_code != 200:
            response.read()
            raise refused(response)
        yield from response.iter_bytes()


def remote_client(url: str, api_key: str | None) -> dict[str, Any]:
    """What an httpx client needs to reach a service."""
    headers = {"X-API-Key": api_key} if api_key else {}
    return {"base_url": url.rstrip("/"), "headers": headers, "timeout": _TIMEOUT}


def refused(response: httpx.Response) -> TransferError:
    """What the service said, as one line."""
    detail = str(_problem(response).get("detail", "")).splitlines()
    return TransferError(f"the service answered {response.status_code}: {detail[0] if detail else 'no reason given'}")


def out_of_reach(url: httpx.URL, error: Exception) -> TransferError:
    """The service does not answer."""
    return TransferError(f"the service at {url} cannot be reached: {error or type(error).__name__}")


@contextmanager
def _reaching(client: httpx.Client) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise out_of_reach(client.base_url, error) from error


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
