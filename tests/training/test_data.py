"""Sources, batches and augmentation: every image once, on every rank its share, and the same again on resume."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.augmentation import AugmentationConfig, augment
from training.data.batches import FaceData, MemoryBatches, StreamBatches
from training.data.sources import DataError, SourceConfig

NAMES = {"ann": 3, "bob": 4, "_unlabelled": 5}


def _image(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faces")
    seed = 0
    for identity, count in NAMES.items():
        (root / identity).mkdir()
        for number in range(count):
            (root / identity / f"{number:02}.png").write_bytes(_image(seed := seed + 1))
    return root


@pytest.fixture(scope="module")
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("shards")
    for number, chosen in enumerate(np.array_split(sorted(folder.rglob("*.png")), 3)):
        with tarfile.open(root / f"faces-{number}.tar", "w") as archive:
            for path in chosen:
                archive.add(path, path.relative_to(folder))
    return str(root / "faces-*.tar")


def test_a_folder_and_its_shards_hold_the_same_samples(folder: Path, shards: str) -> None:
    one, other = SourceConfig(folder=folder), SourceConfig(shards=shards)
    assert one.keys() == other.keys()
    for a, b in zip(one.samples(), other.samples(), strict=True):
        assert (a.key, a.identity) == (b.key, b.identity)
        np.testing.assert_array_equal(a.image, b.image)
    data = FaceData([one], 112)
    assert data.identities == ["ann", "bob"]
    assert sorted(data.labels.tolist()) == [-1] * 5 + [0] * 3 + [1] * 4


def test_an_epoch_shows_every_image_once_split_over_ranks(folder: Path) -> None:
    batches = MemoryBatches(FaceData([SourceConfig(folder=folder)], 112), batch_size=2, seed=0)
    seen = [batch["index"] for rank in range(2) for batch in batches.epoch(0, rank, 2)]
    assert sorted(torch.cat(seen).tolist()) == list(range(12))
    again = [batch["index"] for rank in range(2) for batch in batches.epoch(1, rank, 2)]
    assert torch.cat(again).tolist() != torch.cat(seen).tolist()


def test_a_resumed_epoch_continues_where_it_stopped(folder: Path) -> None:
    batches = MemoryBatches(FaceData([SourceConfig(folder=folder)], 112), batch_size=2, seed=0)
    whole = [batch["index"].tolist() for batch in batches.epoch(3, 0, 1)]
    assert [batch["index"].tolist() for batch in batches.epoch(3, 0, 1, first=4)] == whole[4:]


def test_streamed_shards_carry_the_right_label_with_each_image(shards: str) -> None:
    data = FaceData([SourceConfig(shards=shards)], 112)
    decoded = {sample.key: sample.image for sample in SourceConfig(shards=shards).samples()}
    for workers in (0, 2):
        batches = StreamBatches(data, batch_size=4, seed=0, workers=workers)
        seen = []
        for batch in batches.epoch(0, 0, 1):
            for image, label, index in zip(batch["images"], batch["labels"], batch["index"], strict=True):
                np.testing.assert_array_equal(image.numpy(), decoded[data.keys[index]])
                assert label == data.labels[index]
                seen.append(int(index))
        assert len(seen) == 12
        if workers == 0:
            assert sorted(seen) == list(range(12))


def test_too_few_shards_for_the_readers_are_refused(shards: str) -> None:
    batches = StreamBatches(FaceData([SourceConfig(shards=shards)], 112), batch_size=2, seed=0, workers=4)
    with pytest.raises(DataError, match="3 shards cannot feed 4 readers"):
        next(batches.epoch(0, 0, 1))


def test_folders_cannot_be_streamed(folder: Path) -> None:
    with pytest.raises(DataError, match="memory: true"):
        StreamBatches(FaceData([SourceConfig(folder=folder)], 112), batch_size=2, seed=0, workers=0)


@pytest.mark.parametrize("content", [b"", b"no image", _image(0)[:200]])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        MemoryBatches(FaceData([SourceConfig(folder=tmp_path)], 112), batch_size=1, seed=0)


def test_wrong_sizes_doubles_and_nothing_at_all_are_named(folder: Path, tmp_path: Path) -> None:
    source = SourceConfig(folder=folder)
    with pytest.raises(DataError, match="_unlabelled/00"):
        MemoryBatches(FaceData([source], 96), batch_size=1, seed=0)
    with pytest.raises(DataError, match="same key"):
        FaceData([source, source], 112)
    with pytest.raises(DataError, match="no images"):
        FaceData([SourceConfig(folder=tmp_path)], 112)
    with pytest.raises(DataError, match="no such shard"):
        FaceData([SourceConfig(shards=str(tmp_path / "*.tar"))], 112)
    (tmp_path / "bad.tar").write_bytes(b"not a tar")
    with pytest.raises(DataError, match=r"bad\.tar"):
        FaceData([SourceConfig(shards=str(tmp_path / "*.tar"))], 112)


OPERATIONS = ["affine", "colour", "grey", "low_resolution", "blur", "jpeg", "border", "erase", "flip"]


@pytest.fixture(scope="module")
def views() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 112), torch.linspace(-1, 1, 112), indexing="ij")
    waves = torch.stack([torch.sin(9 * x), torch.cos(30 * y), torch.sin(25 * (x + y))])
    return waves[None].repeat(8, 1, 1, 1) * 0.8


def test_without_any_change_views_are_the_images(views: torch.Tensor) -> None:
    torch.testing.assert_close(augment(views, AugmentationConfig(flip=0.0)), views)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_change_changes_every_image_and_stays_in_range(views: torch.Tensor, operation: str) -> None:
    torch.manual_seed(0)
    changed = augment(views, AugmentationConfig.model_validate({"flip": 0.0} | {operation: 1.0}))
    assert changed.shape == views.shape
    assert changed.min() >= -1
    assert changed.max() <= 1
    assert ((changed - views).abs().amax(dim=(1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_same_seed_gives_the_same_views(views: torch.Tensor, operation: str) -> None:
    config = AugmentationConfig.model_validate({"flip": 0.0} | {operation: 0.6})
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        results.append(augment(views, config))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_grey_has_no_colour_and_flip_is_the_mirror_image(views: torch.Tensor) -> None:
    grey = augment(views, AugmentationConfig(flip=0.0, grey=1.0))
    torch.testing.assert_close(grey[:, 0], grey[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(augment(views, AugmentationConfig(flip=1.0)), views.flip(3))


def test_a_picture_of_frequency_zero_survives_the_block_quantisation() -> None:
    flat = torch.full((2, 3, 112, 112), 0.0)
    torch.testing.assert_close(augment(flat, AugmentationConfig(flip=0.0, jpeg=1.0)), flat)
