"""What a key allows."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Roles, each including those before it: read and compare; change subjects and faces; everything."""

    READ = "read"
    ENROL = "enrol"
    ADMIN = "admin"

    def includes(self, needed: Role) -> bool:
        """Whether a key of this role may do what `needed` allows."""
        order = list(Role)
        return order.index(self) >= order.index(needed)
