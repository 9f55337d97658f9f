"""Quality: what the score foretells, and what rejecting by it does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from pydantic import ValidationError

from models import checkpoint as checkpoints
from models.embedding import unit
from models.network import weights_of
from models.quality import QualityModel, encode_weights
from models.registry import build
from training.cli import main
from training.evaluation.calibration import CalibrationError
from training.evaluation.quality import REJECTED, describe, error_versus_reject, fit_quality, likeness

Faces = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]


@pytest.fixture(scope="module")
def faces() -> Faces:
    """120 people with 10 images each; the noise of an image pulls it from its person and along one axis."""
    random = np.random.default_rng(0)
    people = random.normal(size=(120, 32))
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    identities = np.repeat(np.arange(120), 10)
    noise = random.uniform(0.2, 2.5, len(identities))
    raw = people[identities] + noise[:, None] * random.normal(size=(len(identities), 32)) / np.sqrt(32)
    raw[:, 0] -= noise
    return raw.astype(np.float32), identities, noise


def test_likeness_is_the_mean_cosine_with_the_others_of_the_person(faces: Faces) -> None:
    raw, identities, _ = faces
    units = unit(raw).astype(np.float64)
    expected = [
        np.mean([units[i] @ units[j] for j in np.flatnonzero(identities == identities[i]) if j != i])
        for i in range(0, len(raw), 97)
    ]
    assert likeness(raw.astype(np.float64), identities)[::97] == pytest.approx(expected, abs=1e-6)


def test_the_fitted_score_follows_what_makes_faces_unlike_their_person(faces: Faces) -> None:
    raw, identities, noise = faces
    half = identities < 60
    model = fit_quality(raw[half], identities[half], "half of them")
    score = model.score(raw[~half])
    assert model.dimension == 32
    assert ((score >= 0) & (score <= 1)).all()
    assert np.corrcoef(score, -noise[~half])[0, 1] > 0.6


def test_rejecting_the_worst_is_what_a_plain_count_says(faces: Faces) -> None:
    raw, identities, noise = faces
    raw, identities, score = raw[:300], identities[:300], -noise[:300].astype(np.float32)
    points = error_versus_reject(unit(raw), identities, score, 0.01, (0.0, 0.2))
    first, second = np.triu_indices(len(raw), 1)
    cosine = (unit(raw) @ unit(raw).T)[first, second]
    same = identities[first] == identities[second]
    edge = np.sort(cosine[~same])[::-1][int(0.01 * (~same).sum())]
    assert points[0].fnmr == pytest.approx((cosine[same] < edge).mean(), abs=2e-3)
    kept = score >= np.sort(score)[60]
    left = kept[first] & kept[second]
    assert points[1].genuine_pairs == (same & left).sum()
    assert points[1].fnmr_fixed == pytest.approx((cosine[same & left] < edge).mean(), abs=2e-3)
    assert points[1].fnmr < points[0].fnmr
    assert describe(points)[1]["of_all"] == pytest.approx(points[1].fnmr / points[0].fnmr)


def test_too_few_faces_fit_nothing(faces: Faces) -> None:
    raw, identities, _ = faces
    with pytest.raises(CalibrationError, match="30 images with another of their person"):
        fit_quality(raw[:30], identities[:30], "a few")
    alone = np.arange(len(raw))
    with pytest.raises(CalibrationError, match="0 images"):
        fit_quality(raw, alone, "all strangers")
    with pytest.raises(CalibrationError, match="no pair of one person"):
        error_versus_reject(unit(raw), alone, raw[:, 0], 0.01)


@pytest.mark.parametrize("change", [{"weights": "?"}, {"weights": ""}, {"best": 0.0, "worst": 0.5}])
def test_a_broken_model_is_refused(change: dict[str, object]) -> None:
    good = {"weights": encode_weights(np.ones(4)), "bias": 0.0, "worst": 0.1, "best": 0.9, "data": "nothing"}
    assert QualityModel.model_validate(good).score(np.ones((1, 4), np.float32)) == pytest.approx([1.0])
    with pytest.raises(ValidationError):
        QualityModel.model_validate(good | change)


def test_from_faces_to_a_curve(few_faces: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("mobilefacenet", embedding_size=8)
    checkpoint, output = tmp_path / "random.safetensors", tmp_path / "quality.json"
    metadata = checkpoints.Metadata(
        task="recognition",
        name="random",
        architecture="mobilefacenet",
        arguments={"embedding_size": 8},
        embedding_size=8,
        flip_average=True,
    )
    before = checkpoints.write(checkpoint, weights_of(network), metadata)
    evaluate = ["evaluate", "quality", "--images", str(few_faces), "--checkpoint", str(checkpoint), "--fmr", "0.1"]
    evaluate += ["--json", str(output), "--record", "quality", "--threads", "1"]
    refused = CliRunner().invoke(main, evaluate)
    assert (refused.exit_code, "facemargin fit-quality" in refused.output, output.exists()) == (2, True, False)
    fitted = CliRunner().invoke(main, ["fit-quality", str(checkpoint), "--images", str(few_faces), "--threads", "1"])
    assert fitted.exit_code == 0, fitted.output
    assert CliRunner().invoke(main, evaluate).exit_code == 0
    document = json.loads(output.read_text())
    assert document["images"] == 48
    assert [point["rejected"] for point in document["quality"]] == list(REJECTED)
    assert document["quality"][0]["fnmr"] == document["chance"][0]["fnmr"]
    after = checkpoints.read(checkpoint)
    assert after.model_id == before.model_id == document["model"]
    assert after.metadata.metrics["quality"]["error_versus_reject"] == document["quality"]
