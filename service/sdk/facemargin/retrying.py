"""When to ask again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, auto

from facemargin.errors import ClientError, Problem, Unreachable


class Repeat(Enum):
    """When the same request may be sent again."""

    ALWAYS = auto()
    """Also when it may have been done: it changes nothing, or carries a token."""
    IF_UNDONE = auto()
    """Only when it was certainly not done."""
    NEVER = auto()


@dataclass(frozen=True)
class Retrying:
    """How stubborn a client is.

    attempts: most times that a request is sent. first_delay: seconds before the second, doubled each time, less
    a random part. longest_delay: most seconds to wait; a service that asks for more is not asked again.
    """

    attempts: int = 5
    first_delay: float = 0.25
    longest_delay: float = 30.0

    def delay(self, attempt: int, error: ClientError, repeat: Repeat) -> float | None:
        """Seconds to wait after attempt number `attempt` (from 1) failed; None to give up."""
        if attempt >= self.attempts or not _may_repeat(error, repeat):
            return None
        backoff = min(self.longest_delay, self.first_delay * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
        asked = error.retry_after if isinstance(error, Problem) and error.retry_after is not None else 0.0
        return None if asked > self.longest_delay else max(asked, backoff)


def _may_repeat(error: ClientError, repeat: Repeat) -> bool:
    if repeat is Repeat.NEVER:
        return False
    if isinstance(error, Unreachable):
        return repeat is Repeat.ALWAYS or not error.sent
    if isinstance(error, Problem):
        # 503 may follow a commit whose outcome is not known; 502 and 504 come from proxies that know no more.
        return error.status == 429 or (error.status in (502, 503, 504) and repeat is Repeat.ALWAYS)
    return False
