"""Sealing: what is sealed opens with its key and its context alone."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from service.security.sealing import Sealer, SealError, add_key, read_keys
from service.settings import Settings

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


@given(data=st.binary(max_size=4096), context=st.binary(max_size=64))
def test_what_is_sealed_opens_again_and_looks_like_nothing(data: bytes, context: bytes) -> None:
    sealer = Sealer([NEW, OLD])
    assert sealer.current is not None
    sealed = sealer.seal(data, context)
    assert sealer.open(sealed, context, sealer.current) == data
    assert len(sealed) == len(data) + 28
    assert sealer.seal(data, context) != sealed
    assert len(data) < 8 or data not in sealed


def test_nothing_else_opens_it() -> None:
    sealer = Sealer([NEW])
    assert sealer.current is not None
    sealed = sealer.seal(b"an embedding", b"embedding:1")
    for data, context in ((sealed, b"embedding:2"), (sealed[:-1], b"embedding:1"), (b"", b""), (sealed[::-1], b"")):
        with pytest.raises(SealError, match="altered"):
            sealer.open(data, context, sealer.current)
    with pytest.raises(SealError, match=f"encryption key {sealer.current}, and the keys given are: none"):
        Sealer.none().open(sealed, b"embedding:1", sealer.current)


def test_an_older_key_still_opens_and_the_newest_seals() -> None:
    old, both = Sealer([OLD]), Sealer([NEW, OLD])
    assert old.current is not None
    assert both.open(old.seal(b"x", b""), b"", old.current) == b"x"
    assert both.current != old.current


def test_a_key_file_grows_at_its_head_and_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = add_key(file)
    second = add_key(file)
    keys = read_keys(file)
    assert (Sealer(keys).current, Sealer(keys[1:]).current) == (second, first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Sealer.from_settings(Settings(encryption_key_file=file)).current == second


def test_keys_may_stand_in_the_environment() -> None:
    texts = ",".join(base64.b64encode(key).decode() for key in (NEW, OLD))
    assert Sealer.from_settings(Settings(encryption_key=SecretStr(texts))).current == Sealer([NEW]).current
    assert Sealer.from_settings(Settings()).current is None


@pytest.mark.parametrize(
    ("content", "words"),
    [("", "holds no encryption key"), ("# nothing\n", "holds no"), ("!!", "not an encryption key"), ("YQ==", "not 1")],
)
def test_a_file_without_keys_is_named(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(SealError, match=words) as refusal:
        read_keys(file)
    assert str(file) in str(refusal.value)
    with pytest.raises(SealError, match="cannot be read"):
        read_keys(tmp_path / "none")
