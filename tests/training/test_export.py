"""Exported graphs: equal to torch on real faces at every batch size, int8 close to it, and nothing left on failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from models import checkpoint as checkpoints
from models.embedding import embed, normalise
from models.network import instantiate, torch_forward
from models.pretrained import DETECTOR, RECOGNISER
from training import export as exporting
from training.commands.export import export as command
from training.evaluation.pairs import COLUMNS
from training.export import ExportError, Format, ParityError, check_parity, export

PEOPLE, PHOTOS = 16, 4


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def faces(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 aligned crops of 16 people, as few as int8 takes."""
    folder = tmp_path_factory.mktemp("faces")
    for person in sorted(unpacked("cfp-dev").iterdir())[:PEOPLE]:
        (folder / person.name).mkdir()
        for image in sorted(person.glob("frontal_*"))[:PHOTOS]:
            shutil.copy(image, folder / person.name)
    return folder


@pytest.fixture(scope="module")
def pairs(faces: Path) -> Path:
    """Two folds: for each person a pair of their own, and one with the person after next."""
    names = sorted(path.name for path in faces.iterdir())
    rows = [",".join(COLUMNS)]
    for number, name in enumerate(names):
        other = names[(number + 2) % len(names)]
        rows.append(f"{number % 2},{name},frontal_01,{name},frontal_02,1")
        rows.append(f"{number % 2},{name},frontal_01,{other},frontal_01,0")
    file = faces.parent / "pairs.csv"
    file.write_text("\n".join(rows))
    return file


@pytest.fixture(scope="module")
def exported(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The shipped recogniser as ONNX, and what the export said of it."""
    path = tmp_path_factory.mktemp("onnx") / "new folder" / "recogniser.onnx"
    return path, export(RECOGNISER, path, Format.ONNX, images=faces)


def planes_of(folder: Path, count: int) -> np.ndarray:
    files = sorted(folder.rglob("*.webp"))[:count]
    return normalise(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))


def run_onnx(path: Path, planes: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": planes})


def run_openvino(path: Path, planes: np.ndarray) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled([planes])
    return [results[output] for output in compiled.outputs]


def reference(path: Path, planes: np.ndarray) -> list[np.ndarray]:
    return torch_forward(instantiate(checkpoints.read(path)))(planes)


def test_an_onnx_graph_is_the_network_at_every_batch_size(
    exported: tuple[Path, dict[str, object]], faces: Path
) -> None:
    path, report = exported
    planes = planes_of(faces, 8)
    (expected,) = reference(RECOGNISER, planes)
    for size in (1, 3, 8):
        (given,) = run_onnx(path, planes[:size])
        assert given.shape == (size, expected.shape[1])
        np.testing.assert_allclose(given, expected[:size], atol=1e-4)
    assert [entry.name for entry in path.parent.iterdir()] == ["recogniser.onnx"]
    assert report["parity"]["minimum_cosine"] > 0.99999
    assert report["parity"]["max_abs_difference"] < 1e-4
    assert report["bytes"] == path.stat().st_size
    json.dumps(report)


def test_a_graph_says_how_its_input_is_made(exported: tuple[Path, dict[str, object]]) -> None:
    path, _ = exported
    (entry,) = onnx.load(str(path)).metadata_props
    assert entry.key == "facemargin"
    assert checkpoints.Metadata.model_validate_json(entry.value) == checkpoints.read(RECOGNISER).metadata


def test_an_openvino_graph_is_the_network_without_any_photo(tmp_path: Path, faces: Path) -> None:
    path = tmp_path / "recogniser.xml"
    report = export(RECOGNISER, path, Format.OPENVINO)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["recogniser.bin", "recogniser.xml"]
    assert report["checked_on"] == "invented images"
    planes = planes_of(faces, 3)
    np.testing.assert_allclose(run_openvino(path, planes)[0], reference(RECOGNISER, planes)[0], atol=1e-4)
    graph = openvino.Core().read_model(path)
    metadata = checkpoints.Metadata.model_validate_json(graph.get_rt_info("facemargin").astype(str))
    assert checkpoints.model_id(metadata) == report["model"]
    assert [output.get_any_name() for output in graph.outputs] == ["embeddings"]


def test_a_detector_takes_photos_of_every_shape(tmp_path: Path, demo: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("007_B.jpg", "010_2.jpg"):
        shutil.copy(demo / name, photos)
    path = tmp_path / "detector.onnx"
    report = export(DETECTOR, path, Format.ONNX, images=photos)
    assert report["parity"]["minimum_cosine"] > 0.99999
    for shape in ((1, 3, 96, 320), (2, 3, 192, 64)):
        planes = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        for given, expected in zip(run_onnx(path, planes), reference(DETECTOR, planes), strict=True):
            np.testing.assert_allclose(given, expected, atol=1e-3)


def test_int8_keeps_the_embeddings(tmp_path: Path, faces: Path, pairs: Path) -> None:
    path = tmp_path / "int8.onnx"
    report = export(RECOGNISER, path, Format.ONNX, images=faces, int8=True, pairs=pairs)
    figures = report["int8"]
    assert (figures["calibrated_on"], figures["measured_on"]) == (48, 16)
    assert figures["cosine_mean"] > 0.99
    held_out = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in sorted(faces.rglob("*.webp"))[3::4]])
    float32, int8 = (
        embed(held_out, forward, flip_average=True)
        for forward in (lambda planes: reference(RECOGNISER, planes), lambda planes: run_onnx(path, planes))
    )
    cosines = (float32.astype(np.float64) * int8).sum(axis=1)
    assert figures["cosine_mean"] == pytest.approx(cosines.mean(), abs=1e-3)
    assert cosines.max() < 0.99999  # or it were no int8
    assert figures["time_ratio"] == pytest.approx(figures["milliseconds"]["int8"] / figures["milliseconds"]["float32"])
    verified = figures["verification"]
    assert verified["pairs"] == 2 * PEOPLE
    assert verified["images_calibrated_on"] == 2 * PEOPLE  # photos 1 and 2 of each; every fourth is held out
    assert abs(verified["accuracy_difference"]) <= 0.05
    assert path.stat().st_size < 0.4 * RECOGNISER.stat().st_size * 2  # of float32; the checkpoint is float16


def test_a_graph_that_deviates_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = exporting.write_graph

    def wrong(loaded: checkpoints.Checkpoint, path: Path, kind: Format) -> None:
        weights = dict(loaded.weights)
        name = next(key for key in sorted(weights) if key.endswith("weight") and weights[key].ndim == 4)
        weights[name] = weights[name] * np.float16(1.1)
        right(checkpoints.Checkpoint(loaded.metadata, weights), path, kind)

    monkeypatch.setattr(exporting, "write_graph", wrong)
    earlier = tmp_path / "earlier.onnx"
    earlier.write_bytes(b"of before")
    for name in ("new.onnx", "earlier.onnx"):
        with pytest.raises(ParityError, match="deviates"):
            export(RECOGNISER, tmp_path / name, Format.ONNX)
    assert [entry.name for entry in tmp_path.iterdir()] == ["earlier.onnx"]
    assert earlier.read_bytes() == b"of before"


def test_int8_that_loses_too_much_leaves_nothing(tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "INT8_COSINE", 1.01)
    monkeypatch.setattr(exporting, "quantise", lambda source, target, _: shutil.copy(source, target))
    with pytest.raises(ExportError, match="int8 loses too much"):
        export(RECOGNISER, tmp_path / "int8.onnx", Format.ONNX, images=faces, int8=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.array([[1.0, 2.0], [3.0, 4.1]]), "deviates"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), "deviates"),
        (np.array([[1.0, 2.0]]), "shape|gives"),
    ],
)
def test_parity_is_strict(given: np.ndarray, words: str) -> None:
    expected = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    planes = np.zeros((2, 3, 1, 1), np.float32)
    assert check_parity(lambda _: [expected], lambda _: [expected], [planes]).max_abs_difference == 0
    with pytest.raises(ParityError, match=words):
        check_parity(lambda _: [expected], lambda _: [given.astype(np.float32)], [planes])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2
    for word in words:
        assert word in result.stderr


def test_the_command_prints_the_report(tmp_path: Path) -> None:
    result = run(DETECTOR, "--format", "onnx", "--output", tmp_path / "d.onnx", "--json", tmp_path / "report.json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "report.json").read_text())
    assert "Example: facemargin" in run("--help").output


def test_what_cannot_be_exported_is_refused_by_name(tmp_path: Path, faces: Path, pairs: Path) -> None:
    onnx_file = ("--output", tmp_path / "r.onnx")
    refused(run(RECOGNISER, "--format", "tflite", *onnx_file), "tflite", "onnx", "openvino")
    refused(run(RECOGNISER, "--format", "openvino", *onnx_file), "r.onnx", "*.xml")
    refused(run(RECOGNISER, "--format", "onnx", *onnx_file, "--int8"), "images")
    refused(run(RECOGNISER, "--format", "onnx", *onnx_file, "--images", faces, "--pairs", pairs), "int8")
    few = tmp_path / "few"
    shutil.copytree(sorted(faces.iterdir())[0], few / "person")
    refused(run(RECOGNISER, "--format", "onnx", *onnx_file, "--int8", "--images", few), "4 images", "64")
    Image.new("RGB", (200, 150)).save(few / "photo.jpg")
    refused(run(RECOGNISER, "--format", "onnx", *onnx_file, "--images", few), "photo.jpg", "112x112")
    tampered = tmp_path / "tampered.safetensors"
    data = bytearray(RECOGNISER.read_bytes())
    data[-1] ^= 1
    tampered.write_bytes(data)
    refused(run(tampered, "--format", "onnx", *onnx_file), "tampered.safetensors", "digest")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["few", "tampered.safetensors"]
