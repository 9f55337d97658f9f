"""No acknowledged face is lost, whatever kills the server and whenever: 20 kills on each database."""

from __future__ import annotations

from pathlib import Path

import durability
import pytest

KILLS = 20


@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_acknowledged_face_is_found_once_after_kills_at_random(
    request: pytest.FixtureRequest, database: str, compiled: Path, tmp_path: Path, demo: Path
) -> None:
    environment = {"FACEMARGIN_CACHE_DIR": str(compiled)}
    if database == "postgresql":
        environment["FACEMARGIN_DATABASE_URL"] = request.getfixturevalue("postgres")
    outcome = durability.survive(tmp_path, durability.small_photos(demo), KILLS, seed=5, **environment)
    assert outcome.kills == KILLS
    assert outcome.acknowledged_faces > KILLS, "hardly anything was enrolled, so nothing was proved"
    assert outcome.interrupted_requests > 0, "no kill hit a request"
