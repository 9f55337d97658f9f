"""README.md tells the truth: its commands run as written, and their output has the shape that it shows.

Commands are the `$ ` lines of its `console` blocks; what follows one is its output, where `...` stands for
anything and where numbers, identifiers and white space may differ. `make run` is the server that the others
talk to (on a free port), the photos that they name are demonstration photos, and training is cut short.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_WITHIN_SECONDS = 240  # `make run` installs first, where nobody has
PHOTOS = {
    "alice.jpg": "004_A.jpg",
    "alice-later.jpg": "006_A.jpg",
    "bob.jpg": "007_B.jpg",
    "bob-later.jpg": "008_B.jpg",
    "stranger.jpg": "009_C.jpg",
}
CALLS_MAKE_TEST = "make test"  # the command that runs this test
TRAINING = "facemargin train"
CUT_SHORT = "epochs=1 batch_size=8"
IDENTITIES = 4  # of the training crops


@dataclass(frozen=True)
class Command:
    """One shell command of the README and the output that the README shows for it."""

    line: str
    output: str


@dataclass(frozen=True)
class Server:
    """A server that `make run` started: its address, the key that it printed, and all that it printed."""

    url: str
    key: str
    log: str


def test_commands_give_what_the_readme_shows(commands: list[Command], server: Server, workplace: Path) -> None:
    environment = {**os.environ, "KEY": server.key}
    for command in commands:
        if command.line in ("make run", CALLS_MAKE_TEST) or command.line.startswith("KEY="):
            continue
        line = command.line.replace("http://127.0.0.1:8000", server.url)
        line = f"{line} {CUT_SHORT}" if TRAINING in line else line
        result = subprocess.run(["bash", "-c", line], cwd=workplace, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{command.line}\n{result.stderr}"
        assert matches(command.output, result.stdout), f"{command.line}\ngave: {result.stdout}\n{result.stderr}"


def test_the_two_commands_are_there(commands: list[Command], server: Server) -> None:
    shown = {command.line: command.output for command in commands}
    assert CALLS_MAKE_TEST in shown
    assert matches(f"...{shown['make run']}\n...", server.log)


@pytest.mark.parametrize(
    ("shown", "found", "same"),
    [
        ('{"similarity": 0.71, ...}', '{"similarity":0.69,"model":"x"}', True),
        ('{"similarity": 0.71}', '{"similarity":0.69,"model":"x"}', False),
        ('{"decision": "known"}', '{"decision":"unknown"}', False),
    ],
)
def test_output_is_compared_by_shape(shown: str, found: str, same: bool) -> None:
    assert matches(shown, found) is same


@pytest.fixture(scope="module")
def commands(repo_root: Path) -> list[Command]:
    """Every command of README.md, in order."""
    text = (repo_root / "README.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = re.sub(r"\\\n\s*", "", part).partition("\n")
            found.append(Command(line.strip(), output.strip()))
    return found


@pytest.fixture(scope="module")
def workplace(repo_root: Path, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the checkout, beside `shared`, with the photos that the README names."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl, which the README's examples use")
    folder = tmp_path_factory.mktemp("readme") / "checkout"
    folder.mkdir()
    (folder.parent / "shared").symlink_to(shared)
    (folder / "training").symlink_to(repo_root / "training")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for name, original in PHOTOS.items():
        shutil.copy(shared / "data" / "demo" / original, folder / name)
    extract_identities(shared / "data" / "faces-train-identified.tar.gz", folder / "crops")
    return folder


@pytest.fixture(scope="module")
def server(repo_root: Path, workplace: Path) -> Iterator[Server]:
    """The README's `make run`, on a free port and with an empty gallery."""
    port, log = free_port(), workplace / "server.log"
    environment = {**os.environ, "PORT": str(port), "DATA_DIR": str(workplace / "data")}
    environment.pop("FACEMARGIN_ADMIN_KEY", None)
    with log.open("w") as output:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=repo_root,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_ready(f"{url}/readyz", process, log)
        yield Server(url, printed_key(log.read_text()), log.read_text())
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def extract_identities(archive: Path, folder: Path) -> None:
    """Unpack the first IDENTITIES people of a tar of IDENTITY/NAME crops."""
    seen: set[str] = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            seen.add(member.name.split("/")[0])
            if len(seen) > IDENTITIES:
                return
            tar.extract(member, folder, filter="data")


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server says that it is ready; fail with its log when it ends or never does."""
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.URLError:
            time.sleep(0.3)
    pytest.fail(f"`make run` did not become ready:\n{log.read_text()}")


def printed_key(log: str) -> str:
    """The API key that a first start prints."""
    found = re.search(r"^\s*API key\s+(\S+)", log, re.MULTILINE)
    assert found, f"no API key was printed:\n{log}"
    return found.group(1)


def matches(shown: str, found: str) -> bool:
    """Whether an output has the shape that the README shows."""
    pattern = ".*?".join(re.escape(normal(part)) for part in shown.split("..."))
    return re.fullmatch(pattern, normal(found), re.DOTALL) is not None


def normal(text: str) -> str:
    """Text without white space, every number 0 and every identifier ID."""
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?<=@)[0-9a-f]{12}|\b[0-9a-f]{32}\b", "ID", text)
    return re.sub(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", "0", text)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
