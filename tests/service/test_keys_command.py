"""`facemargin keys`: on the database of a service that runs, which notices at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from service.commands.keys import keys as command
from service.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run(settings: Settings) -> Run:
    def called(*arguments: str) -> Result:
        return CliRunner().invoke(command, [*arguments, "--data-dir", str(settings.data_dir)])

    return called


def test_a_key_is_made_listed_used_and_revoked(run: Run, client: TestClient) -> None:
    made = run("create", "door camera", "--role", "read", "--collection", "staff", "--expires", "2099-01-01")
    assert made.exit_code == 0
    secret = made.output.strip()
    holder = TestClient(client.app, headers={"X-API-Key": secret})
    own = holder.get("/v1/keys/self").json()
    assert (own["name"], own["role"], own["collections"]) == ("door camera", "read", ["staff"])
    assert own["expires_at"].startswith("2099-01-01T00:00:00")
    assert holder.get("/v1/collections/default").json()["code"] == "forbidden_collection"
    (line,) = [line for line in run("list").output.splitlines() if own["id"] in line]
    assert secret not in line
    assert "staff" in line
    assert run("revoke", own["id"]).exit_code == 0
    assert holder.get("/v1/keys/self").status_code == 401
    entries = client.get("/v1/audit?limit=20").json()["entries"]
    by_command = [entry for entry in entries if entry["actor"] == "command line"]
    assert [(e["action"], e["key_id"], e["details"]["key_id"]) for e in by_command[:2]] == [
        ("key.revoke", None, own["id"]),
        ("key.create", None, own["id"]),
    ]
    assert client.get("/v1/audit/verify").json()["intact"] is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "x", "--role", "read", "--expires", "2001-01-01"], "past"),
        (["create", "x", "--role", "owner"], "owner"),
        (["create", "x", "--role", "read", "--collection", "a/b"], "a/b"),
        (["create", "", "--role", "read"], "name"),
        (["revoke", "absent"], "no key"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(run: Run, arguments: list[str], words: str) -> None:
    refused = run(*arguments)
    assert refused.exit_code == 2
    (line,) = [line for line in refused.output.splitlines() if line.startswith("Error: ")]
    assert words in line


def test_a_folder_without_a_gallery_is_named(tmp_path: Path) -> None:
    refused = CliRunner().invoke(command, ["list", "--data-dir", str(tmp_path)])
    assert refused.exit_code == 2
    assert str(tmp_path) in refused.output
    assert not list(tmp_path.iterdir())
