"""Packed data: equal to the bit to what was decoded, whole or not there at all, and batches out of it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from training.commands.pack import pack as command
from training.data import packing
from training.data.batches import FaceData, MemoryBatches, PackedBatches
from training.data.packed import PackedSource
from training.data.packing import pack
from training.data.samples import BrokenImagesWarning, DataError
from training.data.sources import SourceConfig


def photos(folder: Path, counts: dict[str, int], side: int = 16) -> Path:
    """Pictures of noise."""
    for identity, count in counts.items():
        (folder / identity).mkdir(parents=True)
        for number in range(count):
            seed = [ord(letter) for letter in identity] + [number]
            pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / identity / f"{number}.png")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "faces", {"zoë": 3, "ann": 4, "_unlabelled": 2})


def load(**source: object) -> FaceData:
    """The data of one source of 16-pixel images."""
    return FaceData([SourceConfig.model_validate(source)], 16)


def leftovers(folder: Path) -> list[str]:
    """Everything a pack to `folder`/packed could leave."""
    return [path.name for path in folder.iterdir() if "packed" in path.name]


def test_the_round_trip_is_equal_to_the_bit(folder: Path, tmp_path: Path) -> None:
    document = pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    assert (document.images, document.size, document.broken) == (9, 16, [])
    files, packed = load(folder=folder), load(packed=tmp_path / "packed")
    assert list(packed.keys) == list(files.keys)
    assert packed.identities == files.identities == ["ann", "zoë"]
    np.testing.assert_array_equal(packed.labels, files.labels)
    for (_, a), (_, b) in zip(packed.decoded(), files.decoded(), strict=True):
        np.testing.assert_array_equal(a, b)
    raw = np.fromfile(tmp_path / "packed" / "images.u8", np.uint8).reshape(9, 16, 16, 3)  # as the format is described
    np.testing.assert_array_equal(raw, MemoryBatches(files, 1, 0).images)
    (source,) = packed.sources
    assert isinstance(source, PackedSource)
    source.verify()
    assert pickle.loads(pickle.dumps(packed)).keys[3:5] == packed.keys[3:5]


def test_packed_data_can_be_packed_again_with_more(folder: Path, tmp_path: Path) -> None:
    pack([SourceConfig(folder=folder)], tmp_path / "one", 16)
    photos(tmp_path / "more", {"bob": 2, "ann2": 1})
    pack([SourceConfig(packed=tmp_path / "one"), SourceConfig(folder=tmp_path / "more")], tmp_path / "both", 16)
    data = load(packed=tmp_path / "both")
    assert data.identities == ["ann", "ann2", "bob", "zoë"]
    assert len(data) == 12


@pytest.mark.parametrize("resident", [False, True])
def test_packed_batches_are_those_of_memory(folder: Path, tmp_path: Path, resident: bool) -> None:
    photos(tmp_path / "more", {"bob": 5})
    pack([SourceConfig(folder=folder)], tmp_path / "one", 16)
    pack([SourceConfig(folder=tmp_path / "more")], tmp_path / "two", 16)
    files = FaceData([SourceConfig(folder=folder), SourceConfig(folder=tmp_path / "more")], 16)
    packed = FaceData([SourceConfig(packed=tmp_path / "one"), SourceConfig(packed=tmp_path / "two")], 16)
    expected = MemoryBatches(files, batch_size=3, seed=5)
    batches = PackedBatches(packed, batch_size=3, seed=5, resident=resident)
    assert batches.steps(2) == expected.steps(2) == 2
    for a, b in zip(batches.epoch(2, 1, 2, first=1), expected.epoch(2, 1, 2, first=1), strict=True):
        for name in ("images", "labels", "index"):
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_broken_images_are_left_out_and_written_down(folder: Path, tmp_path: Path) -> None:
    (folder / "ann" / "2.png").write_bytes(b"")
    (folder / "bob").mkdir()
    (folder / "bob" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2\.png: not a readable image"):
        pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    assert leftovers(tmp_path) == []
    with pytest.warns(BrokenImagesWarning, match="2 broken images skipped"):
        document = pack([SourceConfig(folder=folder, max_broken=2)], tmp_path / "packed", 16)
    assert document.broken == [str(folder / "ann" / "2.png"), str(folder / "bob" / "0.png")]
    data = load(packed=tmp_path / "packed")
    assert data.identities == ["ann", "zoë"]
    assert "ann/2" not in list(data.keys)
    assert len(data) == 8


def test_other_sizes_are_refused_or_brought_to_size(tmp_path: Path) -> None:
    folder = photos(tmp_path / "faces", {"ann": 2}, side=32)
    with pytest.raises(DataError, match="ann/0: 32x32 where aligned crops of 16x16"):
        pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    pack([SourceConfig(folder=folder)], tmp_path / "packed", 16, resize=True)
    with Image.open(folder / "ann" / "1.png") as image:
        expected = np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(load(packed=tmp_path / "packed").sources[0].image(1), expected)  # type: ignore[attr-defined]
    Image.new("RGB", (16, 20)).save(folder / "ann" / "tall.png")
    with pytest.raises(DataError, match="ann/tall: 16x20 is not square"):
        pack([SourceConfig(folder=folder)], tmp_path / "other", 16, resize=True)


def test_a_full_disk_leaves_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(packing.shutil, "disk_usage", lambda path: _Usage(free=100))
        with pytest.raises(DataError, match="needs 0 MiB, the disk has 0 MiB free"):
            pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    assert leftovers(tmp_path) == []

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packing, "_settle", full)
    with pytest.raises(DataError, match=r"No space left on device.*nothing was kept"):
        pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    assert leftovers(tmp_path) == []


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


KILLED = """
import sys, time
from pathlib import Path
from training.data import packing
from training.data.sources import SourceConfig
def slow(path, lines):
    print("half", flush=True)
    time.sleep(60)
packing._write_lines = slow
packing.pack([SourceConfig(folder=Path(sys.argv[1]))], Path(sys.argv[2]), 16)
"""


def test_a_killed_pack_leaves_no_folder_of_that_name(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "packed"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder), str(output)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not output.exists()
    assert [name.endswith(".partial") for name in leftovers(tmp_path)] == [True]
    pack([SourceConfig(folder=folder)], output, 16)  # and the next attempt is not in its way
    assert len(load(packed=output)) == 9


def test_an_output_that_exists_is_kept(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "mine").touch()
    with pytest.raises(DataError, match="exists already"):
        pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    assert (tmp_path / "packed" / "mine").exists()


def _document(folder: Path, **changes: object) -> None:
    path = folder / "packed.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damage_is_named(folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    with pytest.raises(DataError, match="no packed data here"):
        load(packed=packed)
    pack([SourceConfig(folder=folder)], packed, 16)
    whole = {path.name: path.read_bytes() for path in packed.iterdir()}
    damages = [
        ("images.u8", whole["images.u8"][:-1], "not the 6912 bytes of 9 images"),
        ("labels.npy", whole["labels.npy"][:-8], r"labels\.npy"),
        ("labels.npy", b"", r"labels\.npy: not a readable array"),
        ("identities.txt", b"ann\n", "labels beyond the 1 names"),
        ("keys.txt", whole["keys.txt"] + b"x", "where key_ends.npy ends"),
        ("packed.json", b"{}", "not the document of packed data"),
    ]
    for name, content, message in damages:
        (packed / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            load(packed=packed)
        (packed / name).write_bytes(whole[name])
    _document(packed, format=2)
    with pytest.raises(DataError, match="format 2, this version reads 1"):
        load(packed=packed)
    _document(packed, format=1)
    flipped = bytearray(whole["images.u8"])
    flipped[100] ^= 1
    (packed / "images.u8").write_bytes(flipped)
    (source,) = load(packed=packed).sources
    assert isinstance(source, PackedSource)
    with pytest.raises(DataError, match=r"images\.u8: changed since it was packed"):
        source.verify()


def test_a_name_of_two_lines_is_refused(tmp_path: Path) -> None:
    folder = photos(tmp_path / "faces", {"ann\nbob": 1})
    with pytest.raises(DataError, match="line break"):
        pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)


def test_other_sources_and_sizes_are_refused_as_packed_batches(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not packed; `facemargin pack`"):
        PackedBatches(load(folder=folder), 2, 0)
    pack([SourceConfig(folder=folder)], tmp_path / "packed", 16)
    with pytest.raises(DataError, match="packed at 16 pixels, 112 are expected"):
        PackedBatches(FaceData([SourceConfig(packed=tmp_path / "packed")], 112), 2, 0)


def test_the_command_packs_several_sources(folder: Path, tmp_path: Path) -> None:
    photos(tmp_path / "more", {"ann": 2})
    arguments = [str(folder), str(tmp_path / "more"), "--output", str(tmp_path / "packed"), "--size", "16"]
    refused = CliRunner().invoke(command, arguments)
    assert refused.exit_code == 2
    assert "both hold the same key ann/0" in refused.stderr
    result = CliRunner().invoke(command, [*arguments, "--apart"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 11
    assert load(packed=tmp_path / "packed").identities == ["0-ann", "0-zoë", "1-ann"]


def test_real_crops_pack_to_what_they_decode_to(unpacked: Callable[[str], Path], tmp_path: Path) -> None:
    for person in sorted(unpacked("cfp-dev").iterdir())[:3]:
        shutil.copytree(person, tmp_path / "faces" / person.name)
    source = SourceConfig(folder=tmp_path / "faces")
    pack([source], tmp_path / "packed", 112)
    packed = FaceData([SourceConfig(packed=tmp_path / "packed")], 112)
    for (_, a), (_, b) in zip(packed.decoded(), FaceData([source], 112).decoded(), strict=True):
        np.testing.assert_array_equal(a, b)
