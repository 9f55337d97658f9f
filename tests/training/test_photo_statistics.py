"""Statistics of whole photos for the search, those of training for further looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from models import checkpoint as checkpoints
from models import probe
from models.checkpoint import LOOKS, Checkpoint, Metadata
from models.detector.find import fitted_size, network_input
from models.detector.refine import VIEW
from models.network import instantiate, torch_forward, weights_of
from models.registry import build
from training.cli import main
from training.data.detection import read_photos
from training.photo_statistics import PhotoStatisticsError, with_photo_statistics

ARGUMENTS = {"stem": 8, "widths": [16, 32, 32], "blocks": [1, 1, 1], "pyramid": 16}
FIRST = "stem.1.running_mean"


@pytest.fixture(scope="module")
def detector() -> Checkpoint:
    """A small random detector whose statistics are of no photo."""
    torch.manual_seed(0)
    network = build("centreface-fpn", **ARGUMENTS)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    spec = checkpoints.InputSpec(width=128, height=128, alignment=None)
    told = probe.make(torch_forward(network.eval()), 128, 128)
    metadata = Metadata(
        task="detection", name="small", architecture="centreface-fpn", arguments=ARGUMENTS, input=spec, probe=told
    )
    return Checkpoint(metadata, weights_of(network, np.float32))


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Image.Image]:
    return [photo.image for photo in read_photos(shared / "data/photos.tar", "wider-train")[:3]]


def test_the_search_has_statistics_of_the_photos_by_the_share_asked_for(
    detector: Checkpoint, photos: list[Image.Image]
) -> None:
    convolution = next(module for module in instantiate(detector).modules() if isinstance(module, nn.Conv2d))
    means = []
    with torch.no_grad():
        for photo in photos:
            shown = network_input(np.asarray(photo), fitted_size(*photo.size))
            means.append(convolution(torch.from_numpy(shown)).mean(dim=(0, 2, 3)).numpy())
    measured, trained = np.mean(means, axis=0), detector.weights[FIRST]
    for share in (1.0, 0.25):
        fitted = with_photo_statistics(detector, photos, share)
        np.testing.assert_allclose(fitted.weights[FIRST], trained + share * (measured - trained), atol=2e-3)
        assert probe.check(torch_forward(instantiate(fitted)), fitted.metadata.probe) < 1e-5
    learned = [name for name in detector.weights if "running" not in name]
    for name in learned:
        np.testing.assert_allclose(fitted.weights[name], detector.weights[name], rtol=1e-3, atol=1e-4)


def test_further_looks_are_taken_as_before(detector: Checkpoint, photos: list[Image.Image]) -> None:
    fitted = with_photo_statistics(detector, photos, 1.0)
    looks = fitted.further_looks()
    assert looks is not None
    assert looks.further_looks() is None
    assert (looks.metadata.input.width, looks.metadata.input.height) == (VIEW, VIEW)
    view = np.random.default_rng(0).uniform(-1, 1, (1, 3, VIEW, VIEW)).astype(np.float32)
    before, after, search = (torch_forward(instantiate(c))(view) for c in (detector, looks, fitted))
    for expected, found, other in zip(before, after, search, strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-3)
        assert np.abs(other - expected).max() > 0.05
    assert looks.metadata.probe is not None
    assert probe.check(torch_forward(instantiate(looks)), looks.metadata.probe) < 2e-3

    again = with_photo_statistics(fitted, photos[:1], 1.0).further_looks()
    assert again is not None
    for name, array in looks.weights.items():
        if "running" in name:
            np.testing.assert_array_equal(again.weights[name], array)


def test_further_looks_can_be_those_of_another_detector(detector: Checkpoint, photos: list[Image.Image]) -> None:
    """All of its weights but those that are equal, whether it looks again by itself or by weights of its own."""
    moved = {name: array + 0.01 if name.startswith("heads") else array for name, array in detector.weights.items()}
    other = Checkpoint(detector.metadata, moved)
    view = np.random.default_rng(0).uniform(-1, 1, (1, 3, VIEW, VIEW)).astype(np.float32)
    for looking in (other, with_photo_statistics(other, photos, 1.0)):
        fitted = with_photo_statistics(detector, photos[:1], 1.0, looking)
        looks = fitted.further_looks()
        assert looks is not None
        for expected, found in zip(*(torch_forward(instantiate(c))(view) for c in (other, looks)), strict=True):
            np.testing.assert_allclose(found, expected, atol=5e-3)
        kept = {name.removeprefix(LOOKS) for name in fitted.weights if name.startswith(LOOKS)}
        assert kept == {name for name in moved if name.startswith("heads") or "running" in name}
        assert probe.check(torch_forward(instantiate(looks)), looks.metadata.probe) < 2e-3
        search = with_photo_statistics(detector, photos[:1], 1.0)
        np.testing.assert_array_equal(fitted.weights[FIRST], search.weights[FIRST])


def test_further_looks_are_of_a_detector_of_the_same_architecture(
    detector: Checkpoint, photos: list[Image.Image]
) -> None:
    wider = detector.metadata.model_copy(update={"name": "wide", "arguments": ARGUMENTS | {"stem": 16}})
    with pytest.raises(PhotoStatisticsError, match=r"wide@.*'stem': 16.*small@.*'stem': 8"):
        with_photo_statistics(detector, photos, 1.0, Checkpoint(wider, {}))


def test_from_photos_to_a_checkpoint(detector: Checkpoint, shared: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "small.safetensors", tmp_path / "fitted.safetensors"
    before = checkpoints.write(path, detector.weights, detector.metadata)
    command = ["fit-statistics", str(path), "--photos", str(shared / "data/photos.tar"), "--source", "wider-train"]
    done = CliRunner().invoke(main, [*command, "--most", "2", "--output", str(output), "--threads", "1"])
    assert done.exit_code == 0, done.output
    fitted = checkpoints.read(output)
    assert checkpoints.read(path).model_id == before.model_id != fitted.model_id
    facts = {"data": ["wider-train"], "photos": 2, "share": 0.75, "of": before.model_id}
    assert fitted.metadata.training["photo_statistics"] == facts
    looks = fitted.further_looks()
    assert looks is not None
    np.testing.assert_array_equal(looks.weights[FIRST], detector.weights[FIRST])

    again = tmp_path / "again.safetensors"
    joined = CliRunner().invoke(main, [*command, "--most", "1", "--looks", str(output), "--output", str(again)])
    assert joined.exit_code == 0, joined.output
    assert checkpoints.read(again).metadata.training["looks"]["of"] == fitted.model_id

    refused = CliRunner().invoke(main, [*command[:-1], "nowhere"])
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)


def test_a_recogniser_has_no_photos_to_search(photos: list[Image.Image]) -> None:
    recogniser = Metadata(task="recognition", name="mine", architecture="mobilefacenet")
    with pytest.raises(PhotoStatisticsError, match=r"mine@.*not a detector"):
        with_photo_statistics(Checkpoint(recogniser, {}), photos, 1.0)


def test_without_photos_nothing_is_measured(detector: Checkpoint) -> None:
    with pytest.raises(PhotoStatisticsError, match="name a source"):
        with_photo_statistics(detector, [], 1.0)


def test_a_photo_of_one_cell_is_refused(detector: Checkpoint) -> None:
    """It is enlarged twofold, so up to 16 pixels give the coarsest map a single cell."""
    with pytest.raises(PhotoStatisticsError, match="16x12 pixels"):
        with_photo_statistics(detector, [Image.new("RGB", (16, 12))], 1.0)
    assert with_photo_statistics(detector, [Image.new("RGB", (17, 12))], 1.0).further_looks()
