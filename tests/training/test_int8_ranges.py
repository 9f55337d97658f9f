"""Ranges for int8: means of each image's extremes, of the layers asked for, kept with the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from models import checkpoint as checkpoints
from models.checkpoint import Checkpoint, Metadata
from models.network import instantiate, weights_of
from models.registry import build
from training.cli import main
from training.int8_ranges import Int8RangesError, with_int8_ranges
from training.photo_statistics import with_photo_statistics

ARGUMENTS = {"stem": 8, "widths": [16, 32, 32], "blocks": [1, 1, 1], "pyramid": 16}


@pytest.fixture(scope="module")
def detector() -> Checkpoint:
    torch.manual_seed(0)
    network = build("centreface-fpn", **ARGUMENTS)
    spec = checkpoints.InputSpec(width=64, height=64, alignment=None)
    metadata = Metadata(task="detection", name="small", architecture="centreface-fpn", arguments=ARGUMENTS, input=spec)
    return Checkpoint(metadata, weights_of(network, np.float32))


def test_a_range_is_the_mean_of_the_images_extremes(detector: Checkpoint) -> None:
    images = np.random.default_rng(0).uniform(-1, 1, (5, 3, 64, 64)).astype(np.float32)
    images *= np.linspace(0.2, 1, 5, dtype=np.float32)[:, None, None, None]
    fitted = with_int8_ranges(detector, [images[:3], images[3:]], ["stem.*", "stage16.?.pointwise"])
    ranges = fitted.metadata.int8_ranges
    assert ranges is not None
    assert set(ranges) == {"stem.0", "stage16.0.pointwise", "stage16.1.pointwise"}
    np.testing.assert_allclose(
        ranges["stem.0"], [images.min(axis=(1, 2, 3)).mean(), images.max(axis=(1, 2, 3)).mean()], rtol=1e-5
    )
    network = instantiate(detector)
    block = network.get_submodule("stage16.0")
    with torch.inference_mode():
        fed = block.depthwise_norm(block.depthwise(network.stage8(network.stem(torch.from_numpy(images))))).relu()
    assert ranges["stage16.0.pointwise"] == pytest.approx((0.0, float(fed.amax(dim=(1, 2, 3)).mean())), rel=1e-5)


def test_a_pattern_of_no_convolution_is_refused(detector: Checkpoint) -> None:
    with pytest.raises(Int8RangesError, match=r"'stage9\.\*'; there are stem\.0, stage8"):
        with_int8_ranges(detector, [], ["stem.*", "stage9.*"])


def test_from_photos_to_a_checkpoint(detector: Checkpoint, tmp_path: Path) -> None:
    path, output, photos = tmp_path / "small.safetensors", tmp_path / "fitted.safetensors", tmp_path / "photos"
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (3, 60, 90, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(photos / f"{number}.png")
    before = checkpoints.write(path, detector.weights, detector.metadata)
    command = ["fit-int8", str(path), "--images", str(photos), "--layers", "st*", "--output", str(output)]
    done = CliRunner().invoke(main, [*command, "--most", "2", "--threads", "1"])
    assert done.exit_code == 0, done.output
    fitted = checkpoints.read(output)
    assert fitted.model_id == before.model_id
    assert fitted.metadata.int8_ranges is not None
    assert all(name.startswith("st") for name in fitted.metadata.int8_ranges)
    assert fitted.metadata.int8_ranges["stem.0"] == pytest.approx((-1, 1), abs=0.05)
    assert fitted.metadata.training["int8"] == {"data": "photos", "images": 2, "layers": ["st*"]}

    refused = CliRunner().invoke(main, [*command[:4], "--layers", "nothing"])
    assert (refused.exit_code, refused.output.count("\n")) == (2, 1)
    # Other statistics feed other values to every layer.
    shown = [Image.fromarray(pixels) for pixels in noise]
    assert with_photo_statistics(fitted, shown, 1.0).metadata.int8_ranges is None
