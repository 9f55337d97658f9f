"""Who may come in, and how often. No HTTP: the routes' dependencies turn its refusals into answers."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from typing import Final

import sqlalchemy as sa

from service.security.audit import Actor, AuditLog, Event
from service.security.keys import ApiKey, KeyStore, digest_of
from service.security.limits import RateLimit
from service.security.roles import Role
from service.settings import Settings

ANYBODY: Final = ApiKey("anybody", "anybody (authentication is off)", "", Role.ADMIN)
_GUESSES_A_SECOND, _GUESSES_AT_ONCE = 1.0, 30
_NOTES_A_SECOND, _NOTES_AT_ONCE = 1.0, 30
_ALL_NOTES_A_SECOND, _ALL_NOTES_AT_ONCE = 20.0, 200
_REMEMBERED: Final = 10_000


class NotAdmitted(Exception):
    """The caller may not come in; the message says why."""


class UnknownKey(NotAdmitted):
    """There is no key, or none with this secret."""


class ExpiredKey(NotAdmitted):
    """The key's time is over."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__("this API key has expired")
        self.key = key


class TooOften(NotAdmitted):
    """The caller has to wait. seconds: for how long, rounded up."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Gate:
    """Lets keys in, slows down who guesses, and notes refusals in the audit log. Safe to use from many threads."""

    def __init__(self, settings: Settings, engine: sa.Engine) -> None:
        self.keys = KeyStore(engine)
        self.audit = AuditLog(engine)
        self.open_to_all = settings.auth == "off"
        self._calls = RateLimit(settings.rate_limit, settings.rate_burst)
        self._guesses = RateLimit(_GUESSES_A_SECOND, _GUESSES_AT_ONCE)
        self._proven = _Proven()
        self._notes = _Notes(self.audit)

    def admit(self, secret: str | None, address: str) -> ApiKey:
        """The key with this secret, whose call then counts. address: of the client. Raises NotAdmitted."""
        if self.open_to_all:
            return ANYBODY
        if not secret:
            raise UnknownKey("send an API key as X-API-Key or as a bearer token")
        key = self._authenticated(secret, address)
        if key.expired:
            raise ExpiredKey(key)
        if wait := self._calls.wait(key.id):
            raise TooOften("this key has sent too many requests", wait)
        return key

    def note_refusal(self, actor: Actor, address: str, details: dict[str, str], outcome: int) -> None:
        """Put a refused call in the audit log, unless there are too many: those are counted in the next entry."""
        self._notes.add(actor, actor.key_id or _network(address), details, outcome)

    def _authenticated(self, secret: str, address: str) -> ApiKey:
        digest, network = digest_of(secret), _network(address)
        # A key that was right before is no guess: one who guesses must not shut out others behind the same
        # address. Anything else is not even looked up once the address has guessed too often.
        guess = not self._proven.holds(digest)
        if guess and (wait := self._guesses.wait(network)):
            raise TooOften("too many wrong API keys from this address", wait)
        key = self.keys.authenticate(secret)
        if key is None:
            self._proven.drop(digest)
            raise UnknownKey("this API key is not known")
        if guess:
            self._guesses.take_back(network)
            self._proven.add(digest)
        return key


class _Proven:
    """Digests of keys that were right; of more than it remembers, the oldest are forgotten."""

    def __init__(self) -> None:
        self._digests: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def holds(self, digest: str) -> bool:
        with self._lock:
            return digest in self._digests

    def add(self, digest: str) -> None:
        with self._lock:
            self._digests[digest] = None
            if len(self._digests) > _REMEMBERED:
                self._digests.popitem(last=False)

    def drop(self, digest: str) -> None:
        with self._lock:
            self._digests.pop(digest, None)


class _Notes:
    """Entries about refusals. Each is a durable write, and who may not come in must not fill the disk."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._each = RateLimit(_NOTES_A_SECOND, _NOTES_AT_ONCE)
        self._all = RateLimit(_ALL_NOTES_A_SECOND, _ALL_NOTES_AT_ONCE)
        self._left_out = 0
        self._lock = threading.Lock()

    def add(self, actor: Actor, who: str, details: dict[str, str], outcome: int) -> None:
        if self._each.wait(who) or self._all.wait(""):
            with self._lock:
                self._left_out += 1
            return
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        counted = {"left_out_before": left_out} if left_out else {}
        self._audit.record(actor, Event("denied", details={**details, **counted}), outcome)


def _network(address: str) -> str:
    """An address as one party's: of IPv6, whoever has one address has 2^64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
