"""`facemargin evaluate verification` and `calibrate` from the command line, on real faces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from models import checkpoint as checkpoints
from models.faces import Face
from models.network import weights_of
from models.pretrained import DETECTOR
from models.registry import build
from training.cli import main
from training.evaluation.embeddings import central_face
from training.evaluation.pairs import COLUMNS

SUBJECTS = 20
PHOTOS = 4


def write_checkpoint(path: Path, task: str, architecture: str, **arguments: int) -> Path:
    """A checkpoint of random weights."""
    torch.manual_seed(0)
    metadata = checkpoints.Metadata(
        task=task,
        name=f"random-{task}",
        architecture=architecture,
        arguments=arguments,
        embedding_size=arguments.get("embedding_size"),
        flip_average=task == "recognition",
    )
    checkpoints.write(path, weights_of(build(architecture, **arguments)), metadata)
    return path


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "recogniser.safetensors"
    return write_checkpoint(path, "recognition", "mobilefacenet", embedding_size=64)


@pytest.fixture(scope="module")
def faces(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few photos of a few people of cfp-dev."""
    folder = tmp_path_factory.mktemp("faces")
    for subject in sorted(unpacked("cfp-dev").iterdir())[:SUBJECTS]:
        (folder / subject.name).mkdir()
        for image in sorted(subject.glob("frontal_*"))[:PHOTOS]:
            shutil.copy(image, folder / subject.name)
    return folder


@pytest.fixture(scope="module")
def pairs(faces: Path) -> Path:
    """Two folds of ten people: one pair of each person, and each with the next one."""
    names = sorted(path.name for path in faces.iterdir())
    lines = [",".join(COLUMNS)]
    for number, name in enumerate(names):
        fold, other = number % 2, names[(number + 2) % len(names)]
        lines.append(f"{fold},{name},frontal_01,{name},frontal_02,1")
        lines.append(f"{fold},{name},frontal_01,{other},frontal_01,0")
    file = faces.parent / f"{faces.name}.csv"
    file.write_text("\n".join(lines))
    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    """The contract of user errors: exit status 2 and one line that names the culprit."""
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


def test_verification_writes_the_fixed_interface(faces: Path, pairs: Path, recogniser: Path, tmp_path: Path) -> None:
    output, plot = tmp_path / "deep" / "out.json", tmp_path / "roc.png"
    checkpoint = shutil.copy(recogniser, tmp_path)
    result = run(
        *("evaluate", "verification", "--images", faces, "--pairs", pairs, "--checkpoint", checkpoint),
        *("--json", output, "--plot", plot, "--record", "few"),
    )
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    fixed = {"accuracy_mean", "accuracy_std", "auc", "eer", "tar_at_fmr", "failed_detections", "pairs"}
    assert fixed <= report.keys()
    assert set(report["tar_at_fmr"]) == {"1e-2", "1e-3"}
    assert report["pairs"] == 2 * SUBJECTS
    assert report["failed_detections"] == 0
    assert report["auc"] > 0.5  # even random weights know a person by background and light
    assert report["model"].startswith("random-recognition@")
    with Image.open(plot) as image:
        assert image.format == "PNG"
    recorded = checkpoints.read(checkpoint)
    assert recorded.metadata.metrics["few"]["auc"] == report["auc"]
    assert recorded.model_id == report["model"]


def test_a_peer_is_measured_in_the_same_run(
    shared: Path, faces: Path, pairs: Path, recogniser: Path, tmp_path: Path
) -> None:
    result = run(
        *("evaluate", "verification", "--images", faces, "--pairs", pairs, "--checkpoint", recogniser),
        *("--peer", shared / "peers" / "mobilefacenet_128.onnx", "--json", tmp_path / "out.json"),
    )
    assert result.exit_code == 0, result.output
    peer = json.loads((tmp_path / "out.json").read_text())["peer"]["mobilefacenet_128"]
    assert peer["accuracy_mean"] >= 0.95  # it takes its right normalisation to get there


def test_pipeline_finds_faces_in_whole_photos(shared: Path, demo: Path, recogniser: Path, tmp_path: Path) -> None:
    named = {"a": ("002_A", "004_A", "005_A", "006_A"), "b": ("007_B", "008_B"), "none": ("017_0",)}
    for subject, photos in named.items():
        (tmp_path / subject).mkdir()
        for photo in photos:
            with Image.open(demo / f"{photo}.jpg") as image:
                image.thumbnail((640, 640))
                image.save(tmp_path / subject / f"{photo}.png")
    rows = ["0,a,002_A,a,004_A,1", "0,a,002_A,b,007_B,0", "1,b,007_B,b,008_B,1", "1,a,005_A,b,008_B,0"]
    rows += ["1,a,006_A,none,017_0,0", "0,a,006_A,a,005_A,1"]
    (tmp_path / "pairs.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    peers = [shared / "peers" / name for name in ("mobilefacenet_128.onnx", "yunet_n_dynamic.onnx")]
    result = run(
        *("evaluate", "verification", "--pipeline", "--images", tmp_path, "--pairs", tmp_path / "pairs.csv"),
        *("--checkpoint", recogniser, "--json", tmp_path / "out.json"),
        *("--peer", peers[0], "--peer", peers[1]),
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["detector"] == checkpoints.read(DETECTOR).model_id
    assert (report["failed_detections"], report["failed_pairs"]) == (1, 1)  # 017_0 shows nobody
    peer = report["peer"]["mobilefacenet_128"]
    assert (peer["detector"], peer["failed_detections"], peer["failed_pairs"]) == ("yunet_n_dynamic", 1, 1)
    assert peer["tar_at_fmr"]["1e-3"] == 1.0


def test_detection_writes_the_fixed_interface(shared: Path, unpacked: Callable[[str], Path], tmp_path: Path) -> None:
    photos = unpacked("photos")
    rows = json.loads((photos / "wider-dev.json").read_text())
    few = sorted({row["image"] for row in rows if min(row["box"][2:]) >= 32})[:4]
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([row for row in rows if row["image"] in few]))
    detector = write_checkpoint(tmp_path / "detector.safetensors", "detection", "centreface-fpn")
    command = ("evaluate", "detection", "--images", photos, "--json", tmp_path / "out.json")
    peer = shared / "peers" / "yunet_n_dynamic.onnx"
    result = run(*command, "--labels", labels, "--checkpoint", detector, "--peer", peer)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert {"ap50", "landmark_error", "faces", "false_positives_per_image"} <= report.keys()
    assert set(report["ap50"]) == {"16", "32"}
    assert report["peer"]["yunet_n_dynamic"]["ap50"]["32"] > 0.5

    labels.write_text('{"no": "list"}')
    refused(run(*command, "--labels", labels, "--checkpoint", detector), "labels.json")


def test_wrong_input_is_one_line_and_status_2(
    demo: Path, faces: Path, pairs: Path, recogniser: Path, tmp_path: Path
) -> None:
    command = ("evaluate", "verification", "--images", faces, "--json", tmp_path / "out.json")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(pairs.read_text().replace("frontal_02", "frontal_99", 1))
    refused(run(*command, "--pairs", wrong, "--checkpoint", recogniser), "wrong.csv", "frontal_99")
    detector = write_checkpoint(tmp_path / "detector.safetensors", "detection", "centreface-fpn")
    refused(run(*command, "--pairs", pairs, "--checkpoint", detector), "not a recogniser")
    refused(run(*command, "--pairs", pairs, "--checkpoint", pairs), "safetensors")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    bad_peer = ("--checkpoint", recogniser, "--peer", tmp_path / "bad.onnx")
    refused(run(*command, "--pairs", pairs, *bad_peer), "bad.onnx")
    refused(run(*command, "--pairs", pairs, "--detector", detector), "--pipeline")
    photo = tmp_path / "large"
    photo.mkdir()
    shutil.copy(demo / "007_B.jpg", photo / "1.jpg")
    shutil.copy(demo / "008_B.jpg", photo / "2.jpg")
    large = tmp_path / "large.csv"
    large.write_text(f"{','.join(COLUMNS)}\n0,large,1,large,2,1\n1,large,1,large,2,1\n")
    command = ("evaluate", "verification", "--images", tmp_path, "--json", tmp_path / "out.json")
    refused(run(*command, "--pairs", large, "--checkpoint", recogniser), "112x112", "--pipeline")
    assert not (tmp_path / "out.json").exists()


def test_calibrate_stores_the_table_and_keeps_the_model_id(faces: Path, recogniser: Path, tmp_path: Path) -> None:
    calibrated = shutil.copy(recogniser, tmp_path / "calibrated.safetensors")
    result = run("calibrate", calibrated, "--images", faces)
    assert result.exit_code == 0, result.output
    before, after = checkpoints.read(recogniser), checkpoints.read(calibrated)
    assert before.metadata.calibration is None
    table = after.metadata.calibration
    assert table is not None
    assert json.loads(result.stdout) == table.model_dump()
    assert after.model_id == before.model_id
    images = SUBJECTS * PHOTOS
    genuine = SUBJECTS * PHOTOS * (PHOTOS - 1) // 2
    assert (table.genuine_pairs, table.impostor_pairs) == (genuine, images * (images - 1) // 2 - genuine)
    assert [row.fmr for row in table.rows] == [0.1, 0.01]


def test_calibrate_refuses_too_few_people(faces: Path, recogniser: Path, tmp_path: Path) -> None:
    for subject in sorted(faces.iterdir())[:3]:
        shutil.copytree(subject, tmp_path / subject.name)
    refused(run("calibrate", recogniser, "--images", tmp_path), "too few", "at least")


@pytest.mark.parametrize(
    "command",
    [
        ("train",),
        ("calibrate",),
        *(("evaluate", name) for name in ("verification", "identification", "templates", "detection")),
    ],
)
def test_help_gives_an_example(command: tuple[str, ...]) -> None:
    assert "Example: facemargin" in run(*command, "--help").output


def test_the_subject_is_the_central_face() -> None:
    def face(x: float, y: float, size: float) -> Face:
        return Face((x, y, size, size), np.zeros((5, 2), np.float32), 0.9)

    subject, large_neighbour, speck = face(80, 70, 90), face(0, 0, 120), face(124, 124, 4)
    assert central_face([large_neighbour, subject, speck], width=250, height=250) is subject
    assert central_face([], width=250, height=250) is None
