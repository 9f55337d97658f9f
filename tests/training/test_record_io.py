"""InsightFace's records, written here by hand from dmlc-core's description and read back."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data.batches import DecodedBatches, FaceData, MemoryBatches
from training.data.record_io import RecordError, RecordFile
from training.data.samples import BrokenImagesWarning, DataError
from training.data.sources import SourceConfig

MAGIC = b"\x0a\x23\xd7\xce"


def framed(payload: bytes) -> bytes:
    """A record as dmlc's RecordIOWriter writes it: cut at each aligned magic, which is left out."""
    parts = [b""]
    for at in range(0, len(payload), 4):
        word = payload[at : at + 4]
        if word == MAGIC:
            parts.append(b"")
        else:
            parts[-1] += word
    written = b""
    for number, part in enumerate(parts):
        flag = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        written += MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + bytes(-len(part) % 4)
    return written


def packed(labels: float | list[float], payload: bytes, number: int = 0) -> bytes:
    """mxnet.recordio.pack: the header IfQQ, then the labels where there are several."""
    if isinstance(labels, list):
        return struct.pack("<IfQQ", len(labels), 0.0, number, 0) + struct.pack(f"<{len(labels)}f", *labels) + payload
    return struct.pack("<IfQQ", 0, labels, number, 0) + payload


def write(folder: Path, records: list[bytes], first: int = 0) -> Path:
    """train.rec and train.idx."""
    content, index = b"", ""
    for number, record in enumerate(records, start=first):
        index += f"{number}\t{len(content)}\n"
        content += framed(record)
    (folder / "train.rec").write_bytes(content)
    (folder / "train.idx").write_text(index)
    return folder / "train.rec"


def insightface(people: dict[int, list[bytes]]) -> list[bytes]:
    """The records of a data set as face2rec2.py writes them: header, images, identities."""
    images = [packed([float(label), 0.0], image) for label, pictures in people.items() for image in pictures]
    first, ranges, at = len(images) + 1, [], 1
    for pictures in people.values():
        ranges.append(packed([float(at), float(at + len(pictures))], b""))
        at += len(pictures)
    return [packed([float(first), float(first + len(people))], b""), *images, *ranges]


def encoded(seed: int) -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PEOPLE = {0: [encoded(1), encoded(2)], 1: [encoded(3)], 5: [encoded(4), encoded(5), encoded(6)]}
PICTURES = [picture for pictures in PEOPLE.values() for picture in pictures]


def load(path: Path, **options: int) -> FaceData:
    """The data of 16-pixel records."""
    return FaceData([SourceConfig.model_validate({"record": path, **options})], 16)


words = st.sampled_from([MAGIC, MAGIC[:2], MAGIC[2:], b"\0", b"abcd"])


@settings(deadline=None)
@given(st.lists(st.one_of(words, st.binary(max_size=9)), max_size=12).map(b"".join))
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    path = tmp_path_factory.mktemp("record") / "one.rec"
    path.write_bytes(framed(b"before") + framed(payload) + framed(b"after"))
    file = RecordFile(path)
    assert bytes(file.read(len(framed(b"before")))) == payload
    assert bytes(file.read(len(framed(b"before") + framed(payload)))) == b"after"


def test_a_record_of_many_parts(tmp_path: Path) -> None:
    payload = b"abcd" + MAGIC + MAGIC + b"efg" + b"h" + MAGIC + b"i"
    assert [framed(payload)[at + 7] >> 5 for at in (0, 12, 20)] == [1, 2, 2]
    (tmp_path / "one.rec").write_bytes(framed(payload))
    assert bytes(RecordFile(tmp_path / "one.rec").read(0)) == payload


def test_identities_come_from_the_index_records(tmp_path: Path) -> None:
    (tmp_path / "property").write_text("6,16,16")
    data = load(write(tmp_path, insightface(PEOPLE)))
    assert list(data.keys) == ["0/1", "0/2", "1/3", "5/4", "5/5", "5/6"]
    assert data.identities == ["0", "1", "5"]
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 2]
    images = MemoryBatches(data, 1, 0).images
    for image, picture in zip(images, PICTURES, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(picture))))


def test_without_index_records_every_header_is_read(tmp_path: Path) -> None:
    plain = [packed(float(label), picture) for label, pictures in PEOPLE.items() for picture in pictures]
    data = load(write(tmp_path, plain, first=17))
    assert list(data.keys) == ["0/17", "0/18", "1/19", "5/20", "5/21", "5/22"]
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 2]


def test_numbers_too_large_for_float32_are_not_trusted(tmp_path: Path) -> None:
    # 2^24 + 1 is not a float32: the header of a set of 17 million images names the wrong record.
    records = insightface(PEOPLE)
    records[0] = packed([float(2**24 + 1), float(2**24 + 4)], b"")
    data = load(write(tmp_path, records))
    assert data.labels.tolist() == [0, 0, 1, 2, 2, 2]


def test_spawned_readers_map_the_file_themselves(tmp_path: Path) -> None:
    data = load(write(tmp_path, insightface(PEOPLE)))
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again.sources[0].image(4), data.sources[0].image(4))
    assert list(again.keys) == list(data.keys)
    batches = DecodedBatches(data, batch_size=2, seed=0, workers=2)
    assert sorted(index for batch in batches.epoch(0, 0, 1) for index in batch["index"].tolist()) == list(range(6))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, insightface(PEOPLE))
    content = path.read_bytes()
    for length in (1, 100, len(content) // 2, len(content) - 60):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"train\.rec: truncated"):
            load(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.rec: not a readable record file"):
        load(path)
    path.write_bytes(content)
    path.with_suffix(".idx").unlink()
    with pytest.raises(DataError, match=r"train\.idx: no readable index"):
        load(path)


@pytest.mark.filterwarnings("ignore::training.data.samples.BrokenImagesWarning")
@pytest.mark.parametrize("damage", ["magic", "length", "payload", "endless"])
def test_a_damaged_record_counts_as_a_broken_image(tmp_path: Path, damage: str) -> None:
    records = insightface(PEOPLE)
    path = write(tmp_path, records)
    start = sum(len(framed(record)) for record in records[:2])
    with path.open("r+b") as file:
        file.seek({"magic": start, "length": start + 4, "payload": start + 44, "endless": start + 4}[damage])
        file.write({"magic": b"xxxx", "length": b"\xff\xff\xff\x1f", "payload": b"x" * 40}.get(damage, b"\1\0\0\x20"))
    with pytest.raises(DataError, match=r"train\.rec\[2\]: not a readable image"):
        MemoryBatches(load(path), 1, 0)
    data = load(path, max_broken=1)
    assert MemoryBatches(data, 1, 0).usable.tolist() == [0, 2, 3, 4, 5]
    assert data.broken == [f"{path}[2]"]


def test_an_image_labelled_otherwise_than_its_index_says_is_refused(tmp_path: Path) -> None:
    records = insightface(PEOPLE)
    records[2] = packed([1.0, 0.0], PICTURES[1])
    with pytest.raises(DataError, match=r"train\.rec\[2\]: labelled 1 where the index records say 0"):
        MemoryBatches(load(write(tmp_path, records)), 1, 0)


def _without(number: int) -> Callable[[str], str]:
    return lambda text: "".join(line for line in text.splitlines(True) if not line.startswith(f"{number}\t"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text + "x", "not an index"),
        (lambda text: "", "empty"),
        (lambda text: text + "3\t0\n", "a record number twice"),
        (_without(8), "promises identities up to 10, record 8 is missing"),
    ],
)
def test_an_index_that_does_not_fit_is_named(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = write(tmp_path, insightface(PEOPLE))
    index = path.with_suffix(".idx")
    index.write_text(change(index.read_text()))
    with pytest.raises(DataError, match=message):
        load(path)


def test_properties_must_fit(tmp_path: Path) -> None:
    path = write(tmp_path, insightface(PEOPLE))
    (tmp_path / "property").write_text("5,16,16")
    with pytest.raises(DataError, match="5 identities, but a record is labelled 5"):
        load(path)
    (tmp_path / "property").write_text("many")
    with pytest.raises(DataError, match="expected IDENTITIES,HEIGHT,WIDTH"):
        load(path)


def test_two_data_sets_that_number_alike_need_a_prefix(tmp_path: Path) -> None:
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name, insightface(PEOPLE)))
    with pytest.raises(DataError, match="number their identities alike"):
        FaceData([SourceConfig(record=path) for path in paths], 16)
    data = FaceData([SourceConfig(record=paths[0]), SourceConfig(record=paths[1], prefix="two-")], 16)
    assert data.identities == ["0", "1", "5", "two-0", "two-1", "two-5"]


def test_offsets_in_the_middle_of_a_record_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one.rec").write_bytes(framed(b"abcd" + MAGIC + b"efgh"))
    file = RecordFile(tmp_path / "one.rec")
    with pytest.raises(RecordError, match="in the middle"):
        file.read(12)
    with pytest.raises(RecordError, match="no record starts at offset 4"):
        file.read(4)
    with pytest.raises(RecordError, match="truncated"):
        file.read(10_000)


@pytest.mark.filterwarnings("error::training.data.samples.BrokenImagesWarning")
def test_real_crops_survive_the_way_through_a_record(shared: Path, tmp_path: Path) -> None:
    from training.data.shards import read_tar

    pairs = [pair for pair, _ in zip(read_tar(str(shared / "data" / "cfp-dev.tar.gz")), range(12), strict=False)]
    people: dict[str, list[bytes]] = {}
    for key, data in pairs:
        people.setdefault(key.split("/")[0], []).append(data)
    assert issubclass(BrokenImagesWarning, UserWarning)
    path = write(tmp_path, insightface(dict(enumerate(people.values()))))
    batches = MemoryBatches(FaceData([SourceConfig(record=path)], 112), 12, 0)
    for image, (_, encoded_image) in zip(batches.images, pairs, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(encoded_image)).convert("RGB")))
