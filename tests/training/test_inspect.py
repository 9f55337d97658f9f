"""Inspection: planted faults are found, and nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from training.commands.inspect import inspect as command
from training.data.batches import FaceData
from training.data.inspection import HASH_THRESHOLD, class_map, images_per_identity, inspect
from training.data.packing import pack
from training.data.samples import BrokenImagesWarning, DataError
from training.data.shards import read_tar
from training.data.similar import perceptual_hash, resembling
from training.data.sources import SourceConfig


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("keep", [3, 10_000])
def test_resembling_pairs_are_those_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, keep: int) -> None:
    monkeypatch.setattr("training.data.similar._BLOCK", 7)
    vectors = unit(np.random.default_rng(0).normal(size=(40, 6)))
    whole = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    i, j = np.nonzero(np.triu(whole >= 0.5, 1))
    found = resembling(vectors, 0.5, keep)
    assert found.count == len(i)
    order = np.argsort(-whole[i, j])[:keep]
    assert list(zip(found.first, found.second, strict=True)) == list(zip(i[order], j[order], strict=True))
    np.testing.assert_allclose(found.cosine, whole[i, j][order], atol=1e-6)


def test_the_hash_survives_compression_and_tells_pictures_apart() -> None:
    random = np.random.default_rng(0)
    pictures = [
        np.asarray(Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((112, 112)))
        for _ in range(20)
    ]
    hashes = np.stack([perceptual_hash(picture) for picture in pictures])
    np.testing.assert_allclose(np.linalg.norm(hashes, axis=1), 1, atol=1e-6)
    darker = np.stack([perceptual_hash((picture * 0.8).astype(np.uint8)) for picture in pictures])
    cosines = hashes @ darker.T
    assert np.diag(cosines).min() > HASH_THRESHOLD
    assert (cosines - np.eye(20) * 2).max() < 1 - 40 / 128


def test_counts_per_identity() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2, -1, -1])
    assert images_per_identity(labels) == {
        "min": 1,
        "median": 2.0,
        "max": 3,
        "histogram": {"1": 1, "2": 1, "3": 1},
    }


@pytest.fixture
def planted(unpacked: Callable[[str], Path], tmp_path: Path) -> Path:
    """Real crops of 8 people, 4 of each, with a copy, a recompressed copy, a swapped one and a broken one."""
    folder = tmp_path / "faces"
    people = sorted(unpacked("cfp-dev").iterdir())[:8]
    for person in people:
        (folder / person.name).mkdir(parents=True)
        for image in sorted(person.glob("frontal_*"))[:4]:
            shutil.copy(image, folder / person.name)
    first, second, third, fourth = (folder / person.name for person in people[:4])
    shutil.copy(first / "frontal_01.webp", first / "copy.webp")
    with Image.open(second / "frontal_01.webp") as image:
        image.convert("RGB").save(third / "again.jpg", quality=85)
    strangers = sorted(people[4].glob("frontal_*"))
    shutil.copy(strangers[5], fourth / "stranger.webp")
    (fourth / "broken.webp").write_bytes((fourth / "frontal_01.webp").read_bytes()[:50])
    return folder


def check(report: dict[str, object], folder: Path) -> None:
    """What any way of inspecting the planted folder must say."""
    names = sorted(path.name for path in folder.iterdir())
    assert (report["images"], report["identities"], report["unlabelled"]) == (35, 8, 0)
    assert report["images_per_identity"] == {
        "min": 4,
        "median": 4.0,
        "max": 5,
        "histogram": {"4": 5, "5": 3},
    }
    assert report["broken"] == [str(folder / names[3] / "broken.webp")]
    exact = report["exact_duplicates"]
    assert isinstance(exact, dict)
    assert (exact["groups"], exact["superfluous"]) == (1, 1)
    assert exact["keys"] == [[f"{names[0]}/copy", f"{names[0]}/frontal_01"]]
    near = report["near_duplicates"]
    assert isinstance(near, dict)
    first = near["listed"][0]
    assert {first["first"], first["second"]} == {f"{names[1]}/frontal_01", f"{names[2]}/again"}
    assert first["same_identity"] is False


def test_planted_faults_are_found_by_the_shipped_recogniser(planted: Path, tmp_path: Path) -> None:
    arguments = [str(planted), "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "p.png"), "--threads", "1"]
    with pytest.warns(BrokenImagesWarning, match=r"broken\.webp"):
        result = CliRunner().invoke(command, [*arguments, "--classes", str(tmp_path / "c.json"), "--noise", "0.35"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    check(report, planted)
    names = sorted(path.name for path in planted.iterdir())
    suspects = {item["key"]: item for item in report["label_noise"]["listed"]}
    # Both the swapped image and the copy of another's are nearer to their real owner.
    assert set(suspects) >= {f"{names[3]}/stranger", f"{names[2]}/again"}
    assert suspects[f"{names[3]}/stranger"]["nearest"] == names[4]
    assert suspects[f"{names[2]}/again"]["nearest"] == names[1]
    assert report["label_noise"]["images"] <= 4
    assert report["label_noise"]["judged"] == 35
    with Image.open(tmp_path / "p.png") as plot:
        assert plot.width > 500
    classes = json.loads((tmp_path / "c.json").read_text())
    assert classes == {"format": 1, "classes": {name: number for number, name in enumerate(names)}, "shards": []}
    summary = json.loads(result.stdout)
    assert summary["broken"] == 1
    assert summary["exact_duplicates"] == {"groups": 1, "superfluous": 1, "across_identities": 0}


def test_the_hash_alone_finds_duplicates(planted: Path) -> None:
    data = FaceData([SourceConfig(folder=planted, max_broken=1)], 112)
    with pytest.warns(BrokenImagesWarning):
        report = inspect(data, None, near=0.9, noise=0.2)
    check(report, planted)
    assert report["label_noise"] is None
    assert report["near_duplicates"]["method"] == "perceptual hash"
    assert report["near_duplicates"]["pairs"] == 1


def test_noise_is_judged_without_an_images_own_vote() -> None:
    # Three people on three axes; the third image of person 0 is person 1, and person 2 has one image: not judged.
    vectors = unit(np.array([[1, 0, 0], [1, 0.1, 0], [0, 1, 0.1], [0, 1, 0], [0.1, 1, 0], [0, 0, 1]], float))
    data = _FakeData(["a/0", "a/1", "a/2", "b/0", "b/1", "c/0"], ["a", "b", "c"], [0, 0, 0, 1, 1, 2])
    report = inspect(data, lambda crops: vectors[crops[:, 0, 0, 0]], near=0.9999, noise=0.3)  # type: ignore[arg-type]
    noise = report["label_noise"]
    assert (noise["images"], noise["judged"]) == (1, 5)
    (suspect,) = noise["listed"]
    assert (suspect["key"], suspect["nearest"]) == ("a/2", "b")
    centre = unit((vectors[0] + vectors[1])[None].astype(np.float64))[0]
    assert suspect["cosine_to_own"] == pytest.approx(float(vectors[2] @ centre), abs=1e-3)


class _FakeData:
    """Images that say their own number, for embeddings made by hand."""

    sources = ()
    broken = ()

    def __init__(self, keys: list[str], identities: list[str], labels: list[int]) -> None:
        self.keys, self.identities, self.labels = keys, identities, np.array(labels)

    def decoded(self):  # type: ignore[no-untyped-def]
        for number in range(len(self.keys)):
            yield number, np.full((2, 2, 3), number, np.uint8)


def test_the_class_map_of_shards_is_their_listing(shared: Path) -> None:
    data = FaceData([SourceConfig(shards=str(shared / "data" / "cfp-dev.tar.gz"))], 112)
    document = class_map(data)
    assert list(document["classes"]) == data.identities
    assert list(document["classes"].values()) == list(range(203))
    (shard,) = document["shards"]
    assert shard["keys"] == list(data.keys)


def test_the_known_doubles_of_the_training_data_are_found(shared: Path, tmp_path: Path) -> None:
    # Ten CelebA photos carry two identities each upstream. By hash alone nothing else passes for another's face.
    for key, encoded in read_tar(str(shared / "data" / "faces-train-identified.tar.gz")):
        if key.startswith(("celeba_0731", "celeba_0732")):
            (tmp_path / key).parent.mkdir(exist_ok=True)
            (tmp_path / f"{key}.webp").write_bytes(encoded)
    data = FaceData([SourceConfig(folder=tmp_path)], 112)
    report = inspect(data, None, near=0.9, noise=0.2)
    assert report["exact_duplicates"]["across_identities"] == 10
    assert not [pair for pair in report["near_duplicates"]["listed"] if pair["same_identity"] is False]


def test_changed_packed_data_is_noticed(planted: Path, tmp_path: Path) -> None:
    with pytest.warns(BrokenImagesWarning):
        pack([SourceConfig(folder=planted, max_broken=1)], tmp_path / "packed", 112)
    with (tmp_path / "packed" / "images.u8").open("r+b") as file:
        file.write(b"\0\1\2")
    with pytest.raises(DataError, match="changed since it was packed"):
        inspect(FaceData([SourceConfig(packed=tmp_path / "packed")], 112), None, near=0.9, noise=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "nowhere: no such folder"), (["--max-broken", "0", "{}"], "not a readable image")],
)
def test_errors_are_one_line(planted: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    given = [argument.format(planted) for argument in arguments]
    result = CliRunner().invoke(command, [*given, "--hash-only", "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "r.json").exists()
