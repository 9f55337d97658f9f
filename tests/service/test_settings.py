"""Options: each is documented, secrets may lie in files, and what contradicts itself is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from service.serve import serve
from service.settings import Settings


def test_every_option_is_in_the_operations_table(repo_root: Path) -> None:
    table = (repo_root / "docs" / "operations.md").read_text()
    missing = [name for name in Settings.model_fields if f"`FACEMARGIN_{name.upper()}`" not in table]
    assert not missing


def test_secrets_may_lie_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("a key of some length\n")
    (tmp_path / "url").write_text("postgresql+psycopg://user:password@host/database\n")
    monkeypatch.setenv("FACEMARGIN_ADMIN_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("FACEMARGIN_DATABASE_URL_FILE", str(tmp_path / "url"))
    settings = Settings()
    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == "a key of some length"
    assert settings.gallery_url == "postgresql+psycopg://user:password@host/database"
    assert "a key of some length" not in repr(settings)


def test_an_empty_variable_counts_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ADMIN_KEY", "ADMIN_KEY_FILE", "DATABASE_URL", "KEEP_CROPS", "THREADS", "ENCRYPTION_KEY_FILE"):
        monkeypatch.setenv(f"FACEMARGIN_{name}", "")
    settings = Settings()
    assert settings.admin_key is None
    assert settings.encryption_key_file is None
    assert settings.keep_crops is False


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), (b"", "is empty"), (b"\xff\xfe\xff", "not text")]
)
def test_a_secret_that_is_not_there_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValidationError, match=said):
        Settings(admin_key_file=tmp_path / "key")


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one key")
    with pytest.raises(ValidationError, match="not both"):
        Settings(admin_key="another key", admin_key_file=tmp_path / "key")


def test_the_command_tells_it_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEMARGIN_ADMIN_KEY_FILE", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(serve, ["--data-dir", str(tmp_path)])
    assert result.exit_code == 2
    assert (
        result.output.strip()
        == f"Error: admin_key_file {tmp_path / 'nowhere'} cannot be read: No such file or directory"
    )
