"""Sources, batches and augmentation: every image once, on every rank its share, and the same again on resume."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.data.augmentation import AugmentationConfig, augment
from training.data.balanced import Balanced
from training.data.batches import DecodedBatches, FaceData, MemoryBatches, StreamBatches
from training.data.samples import BrokenImagesWarning
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


@pytest.fixture(scope="module")
def listed(folder: Path) -> Path:
    lines = []
    for identity, label in (("ann", "7"), ("bob", "12"), ("_unlabelled", "-1")):
        lines += [f"{path.relative_to(folder)}\t{label}\n" for path in sorted((folder / identity).iterdir())]
    (folder / "faces.txt").write_text("".join(lines) + "\n")
    return folder / "faces.txt"


def _images(config: SourceConfig) -> dict[str, np.ndarray]:
    source = config.open()
    return {source.keys[position]: image for position, image in source.images()}


def test_a_folder_its_shards_and_a_list_without_labels_hold_the_same(folder: Path, shards: str) -> None:
    (folder / "bare.txt").write_text("".join(f"{p.relative_to(folder)}\n" for p in sorted(folder.rglob("*.png"))))
    sources = [SourceConfig(folder=folder), SourceConfig(shards=shards), SourceConfig(list=folder / "bare.txt")]
    expected = {
        f"{path.parent.name}/{path.stem}": np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))
    }
    for config in sources:
        found = _images(config)
        assert list(found) == list(expected)
        for key in expected:
            np.testing.assert_array_equal(found[key], expected[key])
        data = FaceData([config], 112)
        assert data.identities == ["ann", "bob"]
        for key, label in zip(data.keys, data.labels, strict=True):
            assert label == {"ann": 0, "bob": 1}.get(key.split("/")[0], -1)


def test_a_list_names_people_by_its_labels(listed: Path) -> None:
    data = FaceData([SourceConfig(list=listed)], 112)
    assert data.identities == ["12", "7"]
    assert data.keys[0] == "7/ann_00"
    assert sorted(data.labels.tolist()) == [-1] * 5 + [0] * 4 + [1] * 3


@pytest.mark.parametrize("line", ["ann/00.png\t", "ann/00.png a/b", "ann/00.txt ann", "ann"])
def test_a_malformed_list_names_the_line(folder: Path, line: str) -> None:
    (folder / "bad.txt").write_text(f"ann/01.png ann\n{line}\n")
    with pytest.raises(DataError, match=r"bad\.txt:2: expected PATH"):
        FaceData([SourceConfig(list=folder / "bad.txt")], 112)


def test_a_source_is_of_one_kind() -> None:
    with pytest.raises(ValueError, match=r"exactly one of folder, list, .* not folder and list"):
        SourceConfig(folder=Path("a"), list=Path("b"))
    with pytest.raises(ValueError, match="not none"):
        SourceConfig()
    with pytest.raises(ValueError, match="listing belongs to shards"):
        SourceConfig(folder=Path("a"), listing="b")


def test_prefixes_keep_two_data_sets_apart(folder: Path, listed: Path) -> None:
    one, other = SourceConfig(folder=folder), SourceConfig(folder=folder, prefix="b-")
    data = FaceData([one, other], 112)
    assert data.identities == ["ann", "b-ann", "b-bob", "bob"]
    assert len(set(data.keys)) == len(data) == 24
    batches = MemoryBatches(data, batch_size=24, seed=0)
    (batch,) = batches.epoch(0, 0, 1)
    names = {key.rsplit("/", 1)[0] for key, label in zip(data.keys, data.labels, strict=True) if label < 0}
    assert names == {"_unlabelled"}
    for image, index in zip(batch["images"], batch["index"].tolist(), strict=True):
        np.testing.assert_array_equal(image, batches.images[index % 12])
    assert pickle.loads(pickle.dumps(data)).keys[12:14] == data.keys[12:14]  # readers may be spawned


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


@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_on_the_way_gives_what_memory_gives(folder: Path, workers: int) -> None:
    data = FaceData([SourceConfig(folder=folder)], 112)
    memory = MemoryBatches(data, batch_size=2, seed=3)
    decoded = DecodedBatches(data, batch_size=2, seed=3, workers=workers)
    assert decoded.steps(2) == memory.steps(2) == 3
    for a, b in zip(memory.epoch(1, 1, 2, first=1), decoded.epoch(1, 1, 2, first=1), strict=True):
        for name in ("images", "labels", "index"):
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_only_shards_are_streamed_and_only_they_have_no_random_access(folder: Path, shards: str) -> None:
    with pytest.raises(DataError, match="memory: true"):
        StreamBatches(FaceData([SourceConfig(folder=folder)], 112), batch_size=2, seed=0, workers=0)
    with pytest.raises(DataError, match="stream them"):
        DecodedBatches(FaceData([SourceConfig(shards=shards)], 112), batch_size=2, seed=0)


def test_balanced_batches_come_from_memory_and_from_files(folder: Path) -> None:
    data = FaceData([SourceConfig(folder=folder)], 112)
    for batches in (MemoryBatches(data, 4, 0, Balanced(0, 2)), DecodedBatches(data, 4, 0, order=Balanced(0, 2))):
        found = list(batches.epoch(0, 0, 1))
        assert len(found) == batches.steps(1) == 1
        labels = found[0]["labels"].tolist()
        assert labels in ([0, 0, 1, 1], [1, 1, 0, 0])
        assert labels == data.labels[found[0]["index"]].tolist()


@pytest.mark.parametrize("content", [b"", b"no image", _image(0)[:200]])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "broken.png").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        MemoryBatches(FaceData([SourceConfig(folder=tmp_path)], 112), batch_size=1, seed=0)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Eight images of two people, of which ann/02 and bob/01 are none."""
    for identity in ("ann", "bob"):
        (tmp_path / identity).mkdir()
        for number in range(4):
            (tmp_path / identity / f"{number:02}.png").write_bytes(_image(number))
    (tmp_path / "ann" / "02.png").write_bytes(b"")
    (tmp_path / "bob" / "01.png").write_bytes(_image(0)[:5000])
    return tmp_path


def test_broken_images_up_to_the_bound_are_skipped_and_named(damaged: Path) -> None:
    data = FaceData([SourceConfig(folder=damaged, max_broken=2)], 112)
    with pytest.warns(BrokenImagesWarning, match=r"2 broken images skipped: .*02\.png, .*01\.png"):
        batches = MemoryBatches(data, batch_size=2, seed=0)
    assert data.broken == [str(damaged / "ann/02.png"), str(damaged / "bob/01.png")]
    seen = [index for batch in batches.epoch(0, 0, 1) for index in batch["index"].tolist()]
    assert sorted(data.keys[index] for index in seen) == ["ann/00", "ann/01", "ann/03", "bob/00", "bob/02", "bob/03"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_met_on_the_way_is_counted_once_and_replaced(damaged: Path, workers: int) -> None:
    data = FaceData([SourceConfig(folder=damaged, max_broken=2)], 112)
    batches = DecodedBatches(data, batch_size=4, seed=0, workers=workers)
    broken = {2, 5}
    for epoch in range(2):
        with pytest.warns(BrokenImagesWarning):
            found = list(batches.epoch(epoch, 0, 1))
        order = np.random.default_rng((0, epoch)).permutation(8).reshape(2, 4).tolist()
        for row, batch in zip(order, found, strict=True):
            whole = next(index for index in row if index not in broken)
            assert batch["index"].tolist() == [whole if index in broken else index for index in row]
    assert sorted(data.broken) == [str(damaged / "ann/02.png"), str(damaged / "bob/01.png")]


@pytest.mark.parametrize("bound", [0, 1])
@pytest.mark.parametrize("workers", [None, 0, 1])
@pytest.mark.filterwarnings("ignore::training.data.samples.BrokenImagesWarning")
def test_more_broken_images_than_the_bound_are_an_error_that_names_them(
    damaged: Path, bound: int, workers: int | None
) -> None:
    data = FaceData([SourceConfig(folder=damaged, max_broken=bound)], 112)
    message = r"max_broken = 1 broken images, the first of them .*png, .*png" if bound else r"png: not a readable image"

    def read() -> None:
        if workers is None:
            MemoryBatches(data, batch_size=2, seed=0)
        else:
            list(DecodedBatches(data, batch_size=2, seed=0, workers=workers).epoch(0, 0, 1))

    with pytest.raises(DataError, match=message) as caught:
        read()
    assert "Traceback" not in str(caught.value)


def test_a_batch_without_any_whole_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    for number in range(2):
        (tmp_path / "ann" / f"{number}.png").write_bytes(b"")
    data = FaceData([SourceConfig(folder=tmp_path, max_broken=2)], 112)
    with pytest.raises(DataError, match="no image of a whole batch"):
        list(DecodedBatches(data, batch_size=2, seed=0).epoch(0, 0, 1))


def test_wrong_sizes_doubles_and_nothing_at_all_are_named(folder: Path, tmp_path: Path) -> None:
    source = SourceConfig(folder=folder)
    with pytest.raises(DataError, match="_unlabelled/00"):
        MemoryBatches(FaceData([source], 96), batch_size=1, seed=0)
    with pytest.raises(DataError, match="same key"):
        FaceData([source, source], 112)
    (tmp_path / "ann").mkdir()
    for name in ("00.png", "00.bmp"):
        (tmp_path / "ann" / name).write_bytes(_image(0))
    with pytest.raises(DataError, match="same key ann/00"):
        FaceData([SourceConfig(folder=tmp_path)], 112)
    (tmp_path / "ann" / "00.bmp").unlink()
    with pytest.raises(DataError, match="no identity's folder"):
        FaceData([SourceConfig(folder=tmp_path / "ann")], 112)
    (tmp_path / "ann" / "00.png").unlink()
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
