"""The shape of the project: who imports whom, what each installation needs, and what the repository holds."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
import tarfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

TOP_LEVEL = {
    *("models", "service", "training", "tests", "bench", "docs", ".ci"),
    *("pyproject.toml", "Makefile", "Dockerfile", "docker-compose.yml"),
    *("README.md", "LICENSE", "CONTRIBUTING.md", "CHANGELOG.md"),
}
TOOL_CONFIGURATION = {".gitignore", ".dockerignore"}
VAGUE = {"utils", "common", "helpers", "misc", "manager"}


@pytest.fixture(scope="module")
def tracked(repo_root: Path) -> list[Path]:
    """Every file that git holds, relative to the root."""
    if not (repo_root / ".git").exists():
        pytest.skip("needs a git checkout to tell what the project holds")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=repo_root, capture_output=True, check=True)
    return [Path(name) for name in listing.stdout.decode().split("\0") if name]


def test_import_contracts_hold(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo_root)
    assert lint_imports() == 0


@pytest.mark.parametrize(("package", "extra"), [("service", "serve"), ("training", "train")])
def test_a_package_imports_with_its_own_extra_alone(repo_root: Path, package: str, extra: str) -> None:
    """What only other extras install is made unimportable; every module must still import."""
    declared = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    own = distributions(declared["dependencies"] + extras[extra])
    absent = distributions([line for lines in extras.values() for line in lines]) - own
    owners = importlib.metadata.packages_distributions()
    # Of a name that several share (`opentelemetry`) one may be there, so it cannot be blocked as a whole.
    blocked = {name for name, found in owners.items() if absent >= {canonical(one) for one in found}}
    modules = [
        module.name
        for module in pkgutil.walk_packages([str(repo_root / package)], f"{package}.")
        if not module.name.endswith("__main__")
        and ".migrations" not in module.name  # these run, not import
        and not module.name.endswith("_triton")  # comes with CUDA builds of torch, and is imported for them alone
    ]
    assert blocked
    assert modules
    program = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(blocked)!r}))\n"
        f"for name in {modules!r}: importlib.import_module(name)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=repo_root, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_nothing_reports_to_others(repo_root: Path, tmp_path: Path) -> None:
    """OpenVINO reports its use to its maker, and keeps an id for that at home, unless it is kept from it."""
    program = "import service.recognition.engines, models.export"
    environment = {**os.environ, "HOME": str(tmp_path), "CI": "false"}
    subprocess.run([sys.executable, "-c", program], cwd=repo_root, env=environment, check=True)
    assert not list(tmp_path.rglob("*telemetry*")) + list(tmp_path.rglob("*_cid"))


def test_top_level_is_the_agreed_one(tracked: list[Path]) -> None:
    found = {path.parts[0] for path in tracked}
    assert found - TOOL_CONFIGURATION == TOP_LEVEL


def test_no_module_has_a_vague_name(tracked: list[Path]) -> None:
    assert not [path for path in tracked if VAGUE & {part.removesuffix(".py") for part in path.parts}]


def test_no_research_photo_or_foreign_weight_is_in_the_repository(
    tracked: list[Path], repo_root: Path, shared: Path
) -> None:
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in tracked:
        by_size[(repo_root / path).stat().st_size].append(path)
    copies = [
        (path, origin)
        for size, digest, origin in files_of(shared, set(by_size))
        for path in by_size[size]
        if size and hashlib.sha256((repo_root / path).read_bytes()).hexdigest() == digest
    ]
    assert not copies


def test_readme_is_short(repo_root: Path) -> None:
    assert len((repo_root / "README.md").read_text().splitlines()) <= 200


def distributions(requirements: list[str]) -> set[str]:
    """The canonical names in a list of requirements."""
    return {canonical(re.split(r"[<>=~!\[; ]", line)[0]) for line in requirements}


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def files_of(shared: Path, sizes: set[int]) -> Iterator[tuple[int, str, str]]:
    """(bytes, SHA-256, name) of every file of one of these sizes, those in tars too."""
    for path in [*(shared / "data").rglob("*"), *(shared / "peers").rglob("*")]:
        if path.name.endswith((".tar", ".tar.gz")):
            with tarfile.open(path) as tar:
                for member in tar:
                    content = tar.extractfile(member) if member.size in sizes else None
                    if content is not None:
                        yield (
                            member.size,
                            hashlib.sha256(content.read()).hexdigest(),
                            f"{path.name}:{member.name}",
                        )
        elif path.is_file() and path.stat().st_size in sizes:
            yield path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), path.name
