"""`facemargin align`: whole photos become crops by person, and what is left out is counted by reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from models.alignment import TEMPLATE, align
from models.faces import Face
from models.pretrained import DETECTOR
from training.commands.align import align as command
from training.data.align import Faces, align_folder
from training.data.samples import UNLABELLED, DataError
from training.data.synthetic import synthetic_face
from training.evaluation.embeddings import detector


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def face(x: float) -> Face:
    return Face((x, 0.0, 112.0, 112.0), TEMPLATE + np.float32([x, 0]), 0.9)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photos whose width tells the finder below what to find."""
    folder = tmp_path / "photos"
    for name, width in (("ada/one.png", 112), ("ada/two.png", 336), ("grace/none.png", 50), ("stranger.png", 112)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        people = np.concatenate([synthetic_face(0, number, 0) for number in range(3)], axis=1)
        Image.fromarray(people[:, :width]).save(folder / name)
    (folder / "ada" / "broken.jpg").write_bytes(b"no image")
    Image.new("RGB", (112, 112)).save(folder / "ada" / "one.webp")
    return folder


def find(photo: np.ndarray) -> list[Face]:
    """Nothing in 50 pixels, one face in 112, three in 336."""
    return [face(float(x)) for x in range(0, photo.shape[1] - 111, 112)]


def crops(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_photo_becomes_a_crop_or_a_reason(photos: Path, tmp_path: Path) -> None:
    result = align_folder(photos, tmp_path / "out", find, Faces.SINGLE)
    assert crops(tmp_path / "out") == [f"{UNLABELLED}/stranger.webp", "ada/one.webp"]
    assert (result.written, result.identities) == (2, 1)
    assert result.counts() == {"no_face": 1, "same_name": 1, "several_faces": 1, "unreadable": 1}
    assert result.skipped["several_faces"] == ["ada/two.png"]
    assert result.skipped["same_name"] == ["ada/one.webp"]
    with Image.open(tmp_path / "out" / "ada" / "one.webp") as crop, Image.open(photos / "ada" / "one.png") as photo:
        expected = align(np.asarray(photo), TEMPLATE).astype(float)
        assert crop.size == (112, 112)
        assert np.corrcoef(np.asarray(crop, float).ravel(), expected.ravel())[0, 1] > 0.99


def test_the_central_face_may_be_taken(photos: Path, tmp_path: Path) -> None:
    result = align_folder(photos, tmp_path / "out", find, Faces.CENTRAL)
    assert "ada/two.webp" in crops(tmp_path / "out")
    with Image.open(tmp_path / "out/ada/two.webp") as crop, Image.open(photos / "ada/two.png") as photo:
        thirds = np.split(np.asarray(photo, float), 3, axis=1)
        alike = [np.corrcoef(np.asarray(crop, float).ravel(), third.ravel())[0, 1] for third in thirds]
    assert alike[1] > 0.95
    assert np.argmax(alike) == 1
    assert "several_faces" not in result.counts()


def test_a_second_run_goes_on_where_the_first_was(photos: Path, tmp_path: Path) -> None:
    align_folder(photos, tmp_path / "out", find, Faces.SINGLE)
    seen: list[int] = []

    def watched(photo: np.ndarray) -> list[Face]:
        seen.append(photo.shape[1])
        return find(photo)

    again = align_folder(photos, tmp_path / "out", watched, Faces.SINGLE)
    assert sorted(seen) == [50, 336]  # those without a crop alone
    assert again.written == 2


def test_folders_that_cannot_be_meant_are_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photos"):
        align_folder(tmp_path / "empty", tmp_path / "out", find, Faces.SINGLE)
    with pytest.raises(DataError, match="within"):
        align_folder(photos, photos / "crops", find, Faces.SINGLE)


def test_real_photos_through_the_command(demo: Path, tmp_path: Path, unpacked: Callable[[str], Path]) -> None:
    people = tmp_path / "people"
    for name, person in (("obama.jpg", "obama"), ("obama2.jpg", "obama"), ("biden.jpg", "biden"), ("011_3.jpg", "x")):
        (people / person).mkdir(parents=True, exist_ok=True)
        shutil.copy(demo / name, people / person)
    result = run(people, "--output", tmp_path / "crops", "--list-skipped", "--threads", 1)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == {"crops": 3, "identities": 2, "skipped": {"several_faces": 1}}
    assert result.stderr.strip().splitlines()[-1] == "several_faces: x/011_3.jpg"
    # In a crop, the detector finds the eyes where the template has them.
    with Image.open(tmp_path / "crops" / "obama" / "obama.webp") as crop:
        (found,) = detector(DETECTOR)(np.asarray(crop))
    assert np.abs(found.landmarks - TEMPLATE).max() < 6
    refused = run(people, "--output", people / "crops")
    assert refused.exit_code == 2
    assert "within" in refused.stderr
