"""The sub-commands on real photos, as a shell would call them."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from service import cli

Call = Callable[..., Result]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this file: the networks are compiled once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def call(data_dir: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a sub-command in the folder of demonstration photos."""
    monkeypatch.chdir(demo)

    def run(command: click.Command, *arguments: object) -> Result:
        words = [str(argument) for argument in arguments]
        return CliRunner().invoke(command, [*words, "--data-dir", str(data_dir), "--threads", "2"])

    return run


def answer(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_command_helps_with_examples() -> None:
    for command in (cli.detect, cli.embed, cli.verify, cli.identify, cli.doctor, cli.serve):
        shown = CliRunner().invoke(command, ["--help"])
        assert shown.exit_code == 0
        assert "Examples:" in shown.stdout


def test_detect_lists_the_faces_of_each_photo(call: Call) -> None:
    result = call(cli.detect, "011_3.jpg", "017_0.jpg")

    assert result.exit_code == 0, result.output
    assert "011_3.jpg: 800x534, 3 face(s)" in result.stdout
    assert "017_0.jpg: 565x339, 0 face(s)" in result.stdout


def test_detect_prints_the_fields_of_the_api(call: Call) -> None:
    document = answer(call(cli.detect, "007_B.jpg", "--json"))
    (face,) = document["photos"][0]["faces"]

    assert face.keys() == {"box", "landmarks", "detection_score", "quality", "reasons"}
    assert face["box"].keys() == {"x", "y", "width", "height"}
    assert len(face["landmarks"]) == 5
    assert document["detector"]


def test_embed_prints_unit_embeddings(call: Call) -> None:
    document = answer(call(cli.embed, "007_B.jpg", "--json"))
    embedding = document["photos"][0]["faces"][0]["embedding"]

    assert len(embedding) == document["embedding_size"]
    assert sum(number * number for number in embedding) == pytest.approx(1, abs=1e-4)


def test_verify_tells_the_same_person_from_another(call: Call) -> None:
    same = answer(call(cli.verify, "006_A.jpg", "002_A.jpg", "--json"))
    other = answer(call(cli.verify, "006_A.jpg", "007_B.jpg", "--json"))

    assert same["match"] is True
    assert other["match"] is False
    assert same["similarity"] > same["threshold"] > other["similarity"]
    assert 0 <= other["probability"] < same["probability"] <= 1


def test_verify_promises_the_rate_it_was_asked_for(call: Call) -> None:
    loose = answer(call(cli.verify, "006_A.jpg", "002_A.jpg", "--far", "0.01", "--json"))
    strict = answer(call(cli.verify, "006_A.jpg", "002_A.jpg", "--far", "0.0001", "--json"))

    assert loose["threshold"] < strict["threshold"]
    assert strict["threshold_policy"]["far"] == 0.0001
    own = call(cli.verify, "006_A.jpg", "002_A.jpg", "--threshold", "-1")
    assert own.stdout.startswith("match: similarity")
    assert "(yours)" in own.stdout


@pytest.fixture
def people(demo: Path, tmp_path: Path) -> Path:
    """Three people in folders of their own, beside a file that is no photo."""
    for person, names in {"a": ["004_A", "006_A"], "b": ["007_B"], "obama": ["obama"]}.items():
        (tmp_path / "people" / person).mkdir(parents=True)
        for name in names:
            shutil.copy(demo / f"{name}.jpg", tmp_path / "people" / person)
    (tmp_path / "people" / "a" / "notes.txt").write_text("not a photo")
    return tmp_path / "people"


def test_identify_finds_who_was_enrolled(call: Call, people: Path) -> None:
    for photo, person in (("002_A.jpg", "a"), ("obama3.jpg", "obama")):
        result = call(cli.identify, photo, "--gallery", people, "--json")
        document = answer(result)
        assert document["faces"][0]["decision"] == "known"
        assert document["faces"][0]["candidates"][0]["subject_id"] == person
        assert document["subjects"] == 3
        assert "notes.txt" in result.stderr


def test_identify_does_not_know_a_stranger(call: Call, people: Path) -> None:
    document = answer(call(cli.identify, "009_C.jpg", "--gallery", people, "--json"))

    assert [face["decision"] for face in document["faces"]] == ["unknown"]


@pytest.mark.parametrize(
    ("command", "arguments", "culprit"),
    [
        (cli.detect, ["absent.jpg"], "absent.jpg"),
        (cli.verify, ["017_0.jpg", "006_A.jpg"], "017_0.jpg: no face"),
        (cli.verify, ["006_A.jpg", __file__], "supported"),
        (cli.identify, ["006_A.jpg", "--gallery", "nobody"], "nobody"),
        (cli.detect, ["006_A.jpg", "--recogniser", "absent.safetensors"], "absent.safetensors"),
    ],
)
def test_a_user_error_is_one_line_and_exit_code_2(
    call: Call, command: click.Command, arguments: list[str], culprit: str
) -> None:
    result = call(command, *arguments)

    assert result.exit_code == 2
    assert culprit in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_pickle_is_refused_with_its_remedy(call: Call, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"\x80\x04\x95" + bytes(32))
    result = call(cli.detect, "006_A.jpg", "--recogniser", tmp_path / "model.pth")

    assert result.exit_code == 2
    assert "pickle" in result.stderr


def test_the_doctor_finds_a_sound_installation_healthy(call: Call) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    document = answer(call(cli.doctor, "--json", "--port", port))

    assert document["healthy"] is True
    assert {check["name"] for check in document["checks"]} >= {
        *("packages", "processor", "data folder", "recogniser", "detector"),
        *("recogniser engine", "detector engine", "detector engine, further looks", "port"),
    }


def test_the_doctor_names_what_is_wrong_and_how_to_put_it_right(call: Call, tmp_path: Path) -> None:
    (tmp_path / "truncated.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = call(cli.doctor, "--port", port, "--recogniser", tmp_path / "truncated.safetensors")

    assert result.exit_code == 1
    failed = [line for line in result.stdout.splitlines() if line.startswith("FAIL")]
    assert any("truncated.safetensors" in line and "--recogniser" in line for line in failed)
    assert any(str(port) in line and "--port" in line for line in failed)
