"""The examples of docs/api.md and docs/client.md work as written, and there is one of every call."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
from launching.server import ADMIN_KEY, Server

from facemargin.client import Client

PHOTOS = {"ada.jpg": "004_A.jpg", "ada-later.jpg": "006_A.jpg", "ada-again.jpg": "005_A.jpg"}
IDS = {"FACE": "face_id", "JOB": "job_id", "KEY_ID": "id"}


@pytest.fixture
def workplace(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the photos that the examples name."""
    for name, original in PHOTOS.items():
        shutil.copy(demo / original, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "people.zip", "w") as archive:
        archive.write(tmp_path / "ada.jpg", "ada/ada.jpg")
    (tmp_path / "landscape.jpg").write_bytes(b"no photo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def api(repo_root: Path) -> str:
    """The examples of docs/api.md."""
    return (repo_root / "docs" / "api.md").read_text().partition("## An example of every call")[2]


def test_every_call_has_an_example(api: str, server: Server) -> None:
    paths = httpx.get(f"{server.address}/openapi.json").json()["paths"]
    calls = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if not path.startswith("/api/v1/")  # told in docs/compreface.md
    }
    assert set(re.findall(r"^### `(.+)`$", api, re.MULTILINE)) == calls


def test_the_curl_examples_work(api: str, server: Server, workplace: Path, client: Client) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl")
    environment = {**os.environ, "URL": server.address, "KEY": ADMIN_KEY}
    commands = [line for block in blocks(api, "sh") for line in block.splitlines()]
    for command in commands:
        line = command.replace("curl", "curl --silent --show-error --fail-with-body", 1)
        result = subprocess.run(["bash", "-c", line], cwd=workplace, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        if " -o " not in command and "/metrics" not in command:
            environment |= ids_of(json.loads(result.stdout))
        if "people.zip" in command:
            client.wait_for_job(environment["JOB"], timeout=60, interval=0.1)
    assert len(commands) > 35


def test_the_python_examples_work(api: str, server: Server, workplace: Path) -> None:
    names: dict[str, Any] = {"URL": server.address, "KEY": ADMIN_KEY}
    for example in blocks(api, "python"):
        exec(example, names)
    assert (workplace / "crop.webp").read_bytes()[8:12] == b"WEBP"
    names["client"].close()


def test_the_guide_works(
    repo_root: Path, server: Server, workplace: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (repo_root / "docs" / "client.md").read_text().replace("http://127.0.0.1:8000", server.address)
    for example in blocks(
        guide.replace("http://127.0.0.1:8000", server.address).replace("fm_...", ADMIN_KEY), "python"
    ):
        exec(example, {})
    printed = capsys.readouterr().out
    assert "known ['ada']" in printed
    assert "400 malformed_image" in printed or "415 unsupported_format" in printed
    client.delete_subject("ada")


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def ids_of(answer: Any) -> dict[str, str]:
    """The ids of an answer by the variables that stand for them: of its first face, its job, its key."""
    first = answer["indexed"][0] if "indexed" in answer else answer
    found = {name: str(first[member]) for name, member in IDS.items() if member in first}
    return found if "secret" in answer or "id" not in answer else {}
