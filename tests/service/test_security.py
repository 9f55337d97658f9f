"""API keys: nothing usable is stored, and a role allows what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from service.gallery.database import open_engine
from service.gallery.tables import api_keys
from service.security.keys import KeyStore
from service.security.roles import Role


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_engine(f"sqlite:///{tmp_path / 'keys.db'}")


def test_the_first_key_is_made_once(engine: sa.Engine) -> None:
    keys = KeyStore(engine)
    first = keys.bootstrap(None)
    assert first is not None
    assert first.key.role is Role.ADMIN
    assert keys.bootstrap(None) is None
    assert keys.bootstrap("another-key-of-some-length") is None
    assert keys.authenticate("another-key-of-some-length") is None


def test_the_first_key_may_be_chosen(engine: sa.Engine) -> None:
    keys = KeyStore(engine)
    issued = keys.bootstrap("chosen by the operator")
    assert issued is not None
    assert keys.authenticate("chosen by the operator") == issued.key
    assert issued.key.prefix == ""  # a chosen key may be short, and its beginning would tell too much


def test_only_a_known_key_is_let_in(engine: sa.Engine) -> None:
    keys = KeyStore(engine)
    issued = keys.create("scanner", Role.ENROL)
    assert keys.authenticate(issued.secret) == issued.key
    for wrong in (
        "",
        "x",
        issued.secret[:-1],
        issued.secret + "x",
        issued.secret.upper(),
        "\ud800",
        "é" * 50,
    ):
        assert keys.authenticate(wrong) is None


def test_no_file_holds_the_key(engine: sa.Engine, tmp_path: Path) -> None:
    issued = KeyStore(engine).create("scanner", Role.READ)
    assert all(issued.secret.encode() not in path.read_bytes() for path in tmp_path.iterdir())


def test_its_use_is_noted(engine: sa.Engine) -> None:
    keys = KeyStore(engine)
    issued = keys.create("scanner", Role.READ)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(api_keys.c.last_used_at)) is None
    keys.authenticate(issued.secret)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(api_keys.c.last_used_at)) is not None


@pytest.mark.parametrize(
    ("held", "allowed"),
    [
        (Role.READ, {Role.READ}),
        (Role.ENROL, {Role.READ, Role.ENROL}),
        (Role.ADMIN, {Role.READ, Role.ENROL, Role.ADMIN}),
    ],
)
def test_each_role_includes_those_before_it(held: Role, allowed: set[Role]) -> None:
    assert {needed for needed in Role if held.includes(needed)} == allowed
