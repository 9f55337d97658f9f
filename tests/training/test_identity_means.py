"""Embeddings drawn to the mean of their identity: the map by another way, the folding, the command as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from models import checkpoint as checkpoints
from models import probe
from models.checkpoint import Checkpoint, Metadata
from models.embedding import unit
from models.network import instantiate, torch_forward, weights_of
from models.registry import build
from training.cli import main
from training.evaluation.embeddings import embed_images, read_aligned, unscaled_recogniser
from training.identity_means import IdentityMeansError, fit_map, fold

Faces = tuple[NDArray[np.float32], NDArray[np.int64]]


def faces_of(people: NDArray[np.float64], images: int, seed: int) -> Faces:
    """Images of people who differ in all of 16 dimensions, and each in itself above all in the first three."""
    random = np.random.default_rng(seed)
    identities = np.repeat(np.arange(len(people)), images)
    spread = np.where(np.arange(16) < 3, 2.0, 0.3)
    raw = people[identities] + spread * random.normal(size=(len(identities), 16))
    return raw.astype(np.float32), identities


def accuracy(raw: NDArray[np.float32], identities: NDArray[np.int64]) -> float:
    """Of all pairs, at the best threshold, both kinds counted alike."""
    first, second = np.triu_indices(len(raw), 1)
    cosine = (unit(raw) @ unit(raw).T)[first, second]
    same = identities[first] == identities[second]
    return max(float((cosine[same] > t).mean() + (cosine[~same] <= t).mean()) / 2 for t in np.linspace(-1, 1, 201))


def test_the_map_has_the_least_penalised_error() -> None:
    raw, identities = faces_of(np.random.default_rng(0).normal(size=(30, 16)), 5, 1)
    units = unit(raw).astype(np.float64)
    means = np.stack([units[identities == i].sum(axis=0) for i in identities])
    lacking = means / np.linalg.norm(means, axis=1, keepdims=True) - units
    # The same by least squares with the penalty as further rows.
    regression, *_ = np.linalg.lstsq(
        np.vstack([units, np.sqrt(7.0) * np.eye(16)]), np.vstack([lacking, np.zeros((16, 16))]), rcond=None
    )
    assert fit_map(raw, identities, 1.0, 7.0) == pytest.approx(np.eye(16) + regression.T, abs=1e-9)
    assert fit_map(raw, identities, 0.25, 7.0) == pytest.approx(np.eye(16) + 0.25 * regression.T, abs=1e-9)


def test_other_people_are_told_apart_better() -> None:
    people = np.random.default_rng(0).normal(size=(80, 16))
    mapping = fit_map(*faces_of(people[:40], 10, 1), 1.0, 1.0)
    raw, identities = faces_of(people[40:], 10, 2)
    mapped = (raw @ mapping.T).astype(np.float32)
    assert accuracy(mapped, identities) > accuracy(raw, identities) + 0.05


def test_too_few_faces_fit_nothing() -> None:
    raw, identities = faces_of(np.random.default_rng(0).normal(size=(8, 16)), 2, 1)
    with pytest.raises(IdentityMeansError, match="only 16 images have another of their person, more than 16 must"):
        fit_map(raw, identities, 0.5, 1.0)
    with pytest.raises(IdentityMeansError, match="0 images"):
        fit_map(raw, np.arange(16), 0.5, 1.0)


def trained(architecture: str, arguments: dict[str, Any]) -> torch.nn.Module:
    """A network whose batch norms are not what they were at birth."""
    torch.manual_seed(0)
    network = build(architecture, **arguments)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, 112, 112) + 0.3)
        for name, parameter in network.named_parameters():
            if name.startswith("normalisation"):
                parameter.add_(torch.rand_like(parameter))
    return network.eval()


@pytest.mark.parametrize("architecture", ["mobilefacenet", "iresnet18", "vit-s"])
def test_the_folded_network_gives_the_mapped_embedding(architecture: str) -> None:
    arguments = {"embedding_size": 16}
    network = trained(architecture, arguments)
    random = np.random.default_rng(0)
    planes = random.uniform(-1, 1, (24, 3, 112, 112)).astype(np.float32)
    (raw,) = torch_forward(network)(planes)
    mapping = np.eye(16) + 0.3 * random.normal(size=(16, 16))
    folded = fold(weights_of(network, np.float32), mapping, raw)
    metadata = Metadata(
        task="recognition", name="folded", architecture=architecture, arguments=arguments, embedding_size=16
    )
    other = instantiate(Checkpoint(metadata, folded))
    expected = raw @ mapping.T
    assert torch_forward(other)(planes)[0] == pytest.approx(expected, abs=2e-3 * np.abs(expected).max())
    # The statistics are those of what comes now, so a network that trains on sees the same: one batch, no augmentation.
    other.get_submodule("normalisation").train()
    with torch.no_grad():
        assert other(torch.from_numpy(planes)).numpy() == pytest.approx(expected, abs=0.05 * np.abs(expected).max())


def test_a_network_of_another_end_is_refused() -> None:
    weights = weights_of(build("deepid"))
    with pytest.raises(IdentityMeansError, match=r"no embedding\.weight: it must end in a linear layer"):
        fold(weights, np.eye(160), np.ones((3, 160), np.float32))


def test_from_faces_to_a_drawn_checkpoint(few_faces: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint, output = tmp_path / "random.safetensors", tmp_path / "drawn.safetensors"
    metadata = Metadata(
        task="recognition",
        name="random",
        architecture="mobilefacenet",
        arguments={"embedding_size": 8},
        embedding_size=8,
        flip_average=True,
        metrics={"cfp-dev FF": {"accuracy": 0.5}},
    )
    before = checkpoints.write(checkpoint, weights_of(build("mobilefacenet", embedding_size=8)), metadata)
    command = ["fit-means", str(checkpoint), "--images", str(few_faces), "--output", str(output), "--threads", "1"]
    drawn = CliRunner().invoke(main, [*command, "--penalty", "1"])
    assert drawn.exit_code == 0, drawn.output
    after = checkpoints.read(output)
    assert checkpoints.read(checkpoint).model_id == before.model_id != after.model_id
    assert after.metadata.probe is not None
    assert probe.check(torch_forward(instantiate(after)), after.metadata.probe) < 1e-6
    assert (after.metadata.metrics, after.metadata.calibration, after.metadata.quality) == ({}, None, None)
    assert after.metadata.training["identity_means"] == {
        "data": "faces",
        "images": 48,
        "share": 0.5,
        "penalty": 1.0,
        "of": before.model_id,
    }
    images = sorted(few_faces.glob("*/*"))
    raw, found = (
        embed_images(images, read_aligned, unscaled_recogniser(path)).vectors for path in (checkpoint, output)
    )
    identities = np.unique([image.parent.name for image in images], return_inverse=True)[1]
    expected = raw @ fit_map(raw, identities, 0.5, 1.0).T
    assert np.sum(unit(found) * unit(expected.astype(np.float32)), axis=1).min() > 0.9999

    refused = CliRunner().invoke(main, ["fit-means", str(checkpoint), "--images", str(few_faces / "cfp_009")])
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
