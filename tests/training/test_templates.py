"""Template pooling and its figures against loops; a whole run on photos laid out as IJB-C is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from models.alignment import TEMPLATE
from training.cli import main
from training.evaluation.embeddings import EvaluationError
from training.evaluation.template_lists import (
    read_landmarks,
    read_media,
    read_template_pairs,
    read_template_subjects,
)
from training.evaluation.template_report import read_loose
from training.evaluation.templates import Templates, pool, template_cosines, template_verification
from training.evaluation.verification import ProtocolError


@pytest.mark.parametrize("weighted", [False, True])
def test_pooling_equals_a_loop_over_templates_and_media(weighted: bool) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(200, 16)).astype(np.float32)
    templates, media = generator.integers(0, 30, 200) * 7, generator.integers(0, 6, 200)
    found = (generator.random(200) > 0.2) & (templates != 14)
    weights = generator.uniform(0.1, 1, 200).astype(np.float32) if weighted else None
    pooled = pool(vectors, found, templates, media, weights)
    assert pooled.ids.tolist() == sorted(set(templates.tolist()))
    for number, template in enumerate(pooled.ids):
        averages = []
        for medium in sorted(set(media[templates == template].tolist())):
            frames = [
                vectors[i].astype(np.float64) * (1 if weights is None else weights[i])
                for i in range(200)
                if templates[i] == template and media[i] == medium and found[i]
            ]
            if frames:
                averages.append(np.mean(frames, axis=0))
        assert pooled.found[number] == bool(averages)
        expected = np.mean(averages, axis=0) if averages else np.zeros(16)
        np.testing.assert_allclose(pooled.vectors[number], expected / max(np.linalg.norm(expected), 1e-12), atol=1e-5)


def test_a_long_video_does_not_outvote_a_still() -> None:
    vectors = np.float32([[1, 0], *[[0, 1]] * 99])
    template = pool(vectors, np.ones(100, bool), np.zeros(100, np.int64), np.array([1] + [2] * 99))
    np.testing.assert_allclose(template.vectors, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)


def test_pairs_of_templates_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluation.templates._BLOCK", 2)
    vectors = np.float32([[1, 0], [0, 1], [0.6, 0.8], [0, 0]])
    templates = Templates(np.array([2, 3, 5, 8]), vectors, np.array([True, True, True, False]))
    rows = templates.positions(np.array([5, 2, 8, 3]))
    assert rows.tolist() == [2, 0, 3, 1]
    scores = template_cosines(templates, rows, np.array([0, 1, 0, 2]))
    np.testing.assert_allclose(scores, [0.6, 0, np.nan, 0.8], rtol=1e-6)
    report = template_verification(scores, np.array([True, False, True, True]))
    assert report["tar_at_far"] == dict.fromkeys(("1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1"), pytest.approx(2 / 3))
    assert (report["genuine_pairs"], report["impostor_pairs"], report["failed_pairs"]) == (3, 1, 1)
    with pytest.raises(KeyError, match="4"):
        templates.positions(np.array([2, 4]))
    with pytest.raises(ProtocolError):
        template_verification(scores, np.ones(4, bool))


def test_lists_name_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    for text, read, words in (
        ("1.jpg 1 2\n2.jpg x 3\n", read_media, ":2"),
        ("", read_media, "no image"),
        ("1 2 1\n1 2 7\n", read_template_pairs, "0 or 1"),
        ("1 2\n", read_template_pairs, "TEMPLATE"),
        ("a,b\n", read_template_subjects, "TEMPLATE_ID"),
        ("TEMPLATE_ID,SUBJECT_ID\n1,2\n1,3\n", read_template_subjects, ":3.*two subjects"),
        ("1.jpg 1 2 3\n", read_landmarks, ":1"),
    ):
        file.write_text(text)
        with pytest.raises(EvaluationError, match=words):
            read(file)


def test_loose_crops_are_aligned_by_their_landmarks(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (112, 112, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "1.png")
    read = read_loose(tmp_path, {"a/1.png": (TEMPLATE, 0.9)})
    crop = read(tmp_path / "a" / "1.png")
    np.testing.assert_allclose(crop.astype(int), pixels, atol=1)  # landmarks at the template: nothing moves
    assert read_loose(tmp_path, {"a/1.png": (np.zeros((5, 2), np.float32), 0.9)})(tmp_path / "a" / "1.png") is None


@pytest.fixture(scope="module")
def ijb(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight people of cfp-dev: an enrolled and a searched template each, half of them in either gallery."""
    folder = tmp_path_factory.mktemp("ijb")
    media, galleries, probes, landmarks = [], {"G1": [], "G2": []}, [], []
    for person, subject in enumerate(sorted(unpacked("cfp-dev").iterdir())[:8]):
        for number, image in enumerate(sorted(subject.glob("frontal_*"))[:4]):
            name = f"{person}_{number}.webp"
            shutil.copy(image, folder / name)
            template = 2 * person + number // 2
            media.append(f"{name} {template} {number}")
            points = " ".join(f"{value:.4f}" for value in TEMPLATE.ravel())
            landmarks.append(f"{name} {points} 0.99")
            row = f"{template},{person + 100},{name}"
            (galleries["G1" if person < 4 else "G2"] if number < 2 else probes).append(row)
    (folder / "media.txt").write_text("\n".join(media))
    (folder / "landmarks.txt").write_text("\n".join(landmarks))
    pairs = [f"{2 * a} {2 * b + 1} {int(a == b)}" for a in range(8) for b in range(8)]
    (folder / "pairs.txt").write_text("\n".join(pairs))
    for name, rows in (*galleries.items(), ("probes", probes)):
        (folder / f"{name}.csv").write_text("\n".join(["TEMPLATE_ID,SUBJECT_ID,FILENAME", *rows]))
    return folder


def test_a_whole_run_from_the_published_files(ijb: Path, tmp_path: Path) -> None:
    command = ["evaluate", "templates", "--images", ijb, "--media", ijb / "media.txt", "--json", tmp_path / "out.json"]
    lists = ["--pairs", ijb / "pairs.txt", "--gallery", ijb / "G1.csv", "--gallery", ijb / "G2.csv"]
    extra = ["--probes", ijb / "probes.csv", "--landmarks", ijb / "landmarks.txt", "--weighting", "norm-score"]
    report = ["--report", tmp_path / "out.html", "--plot", tmp_path / "out.png"]
    result = CliRunner().invoke(main, [str(part) for part in [*command, *lists, *extra, *report]])
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out.json").read_text())
    assert (document["templates"], document["images"], document["failed_detections"]) == (16, 32, 0)
    assert document["verification"]["tar_at_far"]["1e-2"] > 0.9  # the shipped recogniser knows frontal faces
    assert document["verification"]["impostor_pairs"] == 56
    identification = document["identification"]
    assert identification["rank"]["1"] > 0.9
    assert set(identification["open"]) == {"G1", "G2"}
    assert 0 <= identification["tpir_at_fpir"]["1e-1"] <= 1
    assert (tmp_path / "out.html").read_text().count("data:image/png;base64,") == 2

    refused = CliRunner().invoke(main, [str(part) for part in [*command, *lists, "--weighting", "score"]])
    assert refused.exit_code == 2  # the gallery without probes is named first
    assert "probes" in refused.stderr
    (ijb / "probes_of_others.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n999,100\n")
    others = [*command, "--gallery", ijb / "G1.csv", "--probes", ijb / "probes_of_others.csv"]
    refused = CliRunner().invoke(main, [str(part) for part in others])
    assert (refused.exit_code, "999" in refused.stderr) == (2, True)
