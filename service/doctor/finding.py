"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, whether it is in order, what was seen, and what to do if it is not."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""

    @property
    def line(self) -> str:
        """For people."""
        remedy = f"; {self.remedy}" if self.remedy and not self.ok else ""
        return f"{'ok  ' if self.ok else 'FAIL'}  {self.name}: {self.detail}{remedy}"

    @property
    def document(self) -> dict[str, Any]:
        """For programs."""
        remedy = {} if self.ok else {"remedy": self.remedy}
        return {"name": self.name, "ok": self.ok, "detail": self.detail, **remedy}
