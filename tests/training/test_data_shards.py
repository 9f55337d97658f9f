"""Shards: local, over HTTP and from commands; each image once, and the same number of batches on every rank."""

from __future__ import annotations

import http.server
import io
import itertools
import json
import tarfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import braceexpand
import numpy as np
import pytest
import torch
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.data import streams
from training.data.batches import FaceData, StreamBatches
from training.data.inspection import class_map
from training.data.samples import BrokenImagesWarning, DataError
from training.data.shards import expand_braces, read_tar
from training.data.sources import SourceConfig

SIZES = [7, 1, 12, 5]


def png(seed: int) -> bytes:
    """A small picture that no other seed gives."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of unequal sizes, 25 images of 5 people, written by webdataset's own writer."""
    root = tmp_path_factory.mktemp("shards")
    number = 0
    for shard, size in enumerate(SIZES):
        with webdataset.TarWriter(str(root / f"faces-{shard}.tar")) as writer:
            for _ in range(size):
                writer.write({"__key__": f"person-{number % 5}/{number:03}", "png": png(number)})
                number += 1
    return root


def pattern(folder: Path) -> str:
    """All shards of the folder."""
    return str(folder / "faces-{0..3}.tar")


def load(shards: str, **options: object) -> FaceData:
    """The data of 16-pixel images."""
    return FaceData([SourceConfig.model_validate({"shards": shards, **options})], 16)


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of a folder with Range; the first answers to a path in `cut` break off after so many bytes."""

    folder: ClassVar[Path]
    cut: ClassVar[dict[str, list[int]]] = {}
    ranges: ClassVar[bool] = True
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        file = self.folder / self.path.strip("/")
        if not file.is_file():
            self.send_error(404)
            return
        start = 0
        if self.ranges and (wanted := self.headers.get("Range")):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        content = file.read_bytes()[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cuts = self.cut.get(self.path, [])
        self.wfile.write(content[: cuts.pop(0)] if cuts else content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A real server of the shards on this machine."""
    monkeypatch.setattr(Handler, "folder", folder, raising=False)
    monkeypatch.setattr(Handler, "cut", {})
    monkeypatch.setattr(Handler, "requests", [])
    monkeypatch.setattr(streams.time, "sleep", lambda seconds: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def contents(data: FaceData) -> dict[str, bytes]:
    """Key -> pixels of everything."""
    return {data.keys[position]: image.tobytes() for position, image in data.decoded()}


def test_what_webdataset_reads_is_what_we_read(folder: Path) -> None:
    urls = [str(folder / f"faces-{shard}.tar") for shard in range(4)]
    theirs = {record["__key__"]: record["png"] for record in webdataset.WebDataset(urls, shardshuffle=False)}
    assert dict(pair for url in urls for pair in read_tar(url)) == theirs
    assert len(theirs) == 25


def test_http_and_pipes_give_what_files_give(folder: Path, server: str) -> None:
    expected = contents(load(pattern(folder)))
    assert contents(load(f"{server}/faces-{{0..3}}.tar")) == expected
    assert contents(load(f"pipe:cat {folder}/faces-{{0..3}}.tar")) == expected
    assert contents(load(f"pipe:gzip -c {folder}/faces-{{0..3}}.tar")) == expected
    batches = StreamBatches(load(f"{server}/faces-{{0..3}}.tar"), batch_size=4, seed=2, workers=0)
    local = StreamBatches(load(pattern(folder)), batch_size=4, seed=2, workers=0)
    for rank in range(2):
        assert indices(batches, rank, 2) == indices(local, rank, 2)


def test_a_broken_connection_is_taken_up_where_it_broke(folder: Path, server: str) -> None:
    Handler.cut["/faces-2.tar"] = [3000, 1, 5000]
    assert contents(load(f"{server}/faces-{{0..3}}.tar")) == contents(load(pattern(folder)))
    assert Handler.requests.count("/faces-2.tar") == 2 + 3  # the listing's, the reading's, three more


def test_a_connection_that_breaks_for_good_is_an_error(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Handler.cut["/faces-2.tar"] = [0] * 100
    with pytest.raises(DataError, match=r"faces-2\.tar: cannot be read \(ended after 0 of"):
        load(f"{server}/faces-{{0..3}}.tar")
    monkeypatch.setattr(Handler, "ranges", False)
    Handler.cut["/faces-2.tar"] = [3000]
    with pytest.raises(DataError, match="no Range"):
        load(f"{server}/faces-2.tar")


def test_what_is_not_there_is_named(folder: Path, server: str) -> None:
    with pytest.raises(DataError, match=r"faces-9\.tar: cannot be read .*404"):
        load(f"{server}/faces-9.tar")
    with pytest.raises(DataError, match="cannot be read"):
        load("http://127.0.0.1:9/faces-0.tar")
    with pytest.raises(DataError, match="the command ended with status 3"):
        load(f"pipe:cat {folder}/faces-0.tar; exit 3")
    with pytest.raises(DataError, match="pipe:exit 1"):
        load("pipe:exit 1")


@pytest.mark.parametrize("cut", [400, 700, 3000, 3072, 5000])
def test_a_truncated_tar_is_named(folder: Path, tmp_path: Path, cut: int) -> None:
    (tmp_path / "cut.tar").write_bytes((folder / "faces-0.tar").read_bytes()[:cut])
    with pytest.raises(DataError, match=r"cut\.tar"):
        contents(load(str(tmp_path / "cut.tar")))


def test_a_listing_spares_the_pass_and_is_held_against_the_shards(folder: Path, server: str, tmp_path: Path) -> None:
    local = load(pattern(folder))
    listing = tmp_path / "classes.json"
    listing.write_text(json.dumps(class_map(local)))
    data = load(f"{server}/faces-{{0..3}}.tar", listing=str(listing))
    assert not Handler.requests
    assert list(data.keys) == list(local.keys)
    assert contents(data) == contents(local)
    with pytest.raises(DataError, match="lists 4 shards where the pattern names 3"):
        load(f"{server}/faces-{{0..2}}.tar", listing=str(listing))
    with pytest.raises(DataError, match=r"holds person-3/008 where person-0/000 is listed"):
        contents(load(f"{server}/faces-{{2,1,0,3}}.tar", listing=str(listing)))
    shorter = class_map(local)
    shorter["shards"][0]["keys"].append("person-0/more")
    listing.write_text(json.dumps(shorter))
    with pytest.raises(DataError, match="truncated, holds 7 of 8 listed images"):
        contents(load(pattern(folder), listing=str(listing)))
    for text in ("{", "{}", '{"shards": [{"keys": 3}]}'):
        listing.write_text(text)
        with pytest.raises(DataError, match="not a listing of shards"):
            load(pattern(folder), listing=str(listing))


def test_labels_may_lie_beside_the_images(tmp_path: Path) -> None:
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number, label in enumerate([4, 9, 4, -1]):
            writer.write({"__key__": f"{number:06}", "jpg": png(number), "cls": label})
    data = load(str(tmp_path / "a.tar"))
    assert list(data.keys) == ["4/000000", "9/000001", "4/000002", "_unlabelled/000003"]
    assert data.labels.tolist() == [0, 1, 0, -1]
    assert contents(data)["9/000001"] == np.asarray(Image.open(io.BytesIO(png(1)))).tobytes()


plain = st.text("ab/-.:", max_size=5)
choices = st.one_of(
    st.lists(st.text("ab1-", min_size=1, max_size=3), min_size=2, max_size=4).map(",".join),
    st.tuples(st.text("012", min_size=1, max_size=2), st.text("012", min_size=1, max_size=2)).map("..".join),
)


@settings(deadline=None)
@given(plain, choices, plain, choices, plain)
def test_braces_expand_as_in_the_library(start: str, one: str, middle: str, other: str, end: str) -> None:
    text = f"{start}{{{one}}}{middle}{{{other}}}{end}"
    assert expand_braces(text) == list(braceexpand.braceexpand(text))


@pytest.mark.parametrize("text", ["a.tar", "a{b}.tar", "a{b.tar", "a}b.tar", "a{}.tar"])
def test_other_braces_stay(text: str) -> None:
    assert expand_braces(text) == [text]


def indices(batches: StreamBatches, rank: int, world_size: int, first: int = 0, epoch: int = 0) -> list[list[int]]:
    """The `index` of each batch; each image and label is checked on the way."""
    found = []
    for batch in batches.epoch(epoch, rank, world_size, first):
        found.append(batch["index"].tolist())
        for image, label, index in zip(batch["images"], batch["labels"], found[-1], strict=True):
            assert label == batches.data.labels[index]
            number = int(batches.data.keys[index].split("/")[1])
            assert image.numpy().tobytes() == np.asarray(Image.open(io.BytesIO(png(number)))).tobytes()
    return found


@pytest.mark.parametrize(("workers", "worlds"), [(0, (1, 2, 3, 4)), (2, (2,))])
def test_an_epoch_has_no_image_twice_and_no_rank_more_batches(
    folder: Path, workers: int, worlds: tuple[int, ...]
) -> None:
    batches = StreamBatches(load(pattern(folder)), batch_size=3, seed=1, workers=workers, shuffle=4)
    for world_size in worlds:
        ranks = [indices(batches, rank, world_size) for rank in range(world_size)]
        assert {len(rank) for rank in ranks} == {batches.steps(world_size)} == {25 // (3 * world_size)}
        seen = [index for rank in ranks for batch in rank for index in batch]
        assert len(set(seen)) == len(seen) == batches.steps(world_size) * 3 * world_size
    assert indices(batches, 0, 1) == indices(batches, 0, 1)
    assert indices(batches, 0, 1, epoch=1) != indices(batches, 0, 1)


@pytest.mark.parametrize(("workers", "firsts"), [(0, range(8)), (2, (1, 4))])
def test_a_resumed_stream_goes_on_exactly(folder: Path, workers: int, firsts: Sequence[int]) -> None:
    batches = StreamBatches(load(pattern(folder)), batch_size=2, seed=1, workers=workers, shuffle=5)
    whole = indices(batches, 1, 2)
    for first in firsts:
        assert indices(batches, 1, 2, first) == whole[first:]


@settings(max_examples=40, deadline=None)
@given(batch_size=st.integers(1, 9), world_size=st.integers(1, 5), workers=st.integers(1, 4), epoch=st.integers(0, 99))
def test_stretches_cover_each_image_at_most_once(
    many: FaceData, batch_size: int, world_size: int, workers: int, epoch: int
) -> None:
    batches = StreamBatches(many, batch_size, seed=0, workers=workers)
    steps = batches.steps(world_size)
    seen = []
    for start in range(0, world_size * steps * batch_size, max(steps * batch_size, 1)):
        for piece in batches.pieces(epoch, start, start + steps * batch_size):
            offset = many.starts[piece.source] + many.sources[piece.source].starts[piece.shard]  # type: ignore[attr-defined]
            seen += range(offset + piece.first, offset + piece.last)
    assert len(set(seen)) == len(seen) == steps * batch_size * world_size
    assert all(0 <= index < len(many) for index in seen)


@pytest.fixture(scope="module")
def many(folder: Path) -> FaceData:
    """The shards as two sources."""
    return FaceData([SourceConfig(shards=pattern(folder)), SourceConfig(shards=pattern(folder), prefix="b-")], 16)


def test_the_buffer_shuffles_within_a_stretch(folder: Path) -> None:
    batches = StreamBatches(load(pattern(folder)), batch_size=25, seed=1, workers=0, shuffle=100)
    (mixed,) = indices(batches, 0, 1)
    batches = StreamBatches(load(pattern(folder)), batch_size=25, seed=1, workers=0, shuffle=1)
    (plain,) = indices(batches, 0, 1)
    assert sorted(mixed) == sorted(plain) == list(range(25))
    assert sum(b != a + 1 for a, b in itertools.pairwise(plain)) <= 3  # shard by shard
    assert sum(b != a + 1 for a, b in itertools.pairwise(mixed)) > 10


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_in_shards_are_counted_and_replaced(tmp_path: Path, workers: int) -> None:
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number in range(4):
                content = png(number)[: 40 if (shard, number) == (1, 2) else None]
                member = tarfile.TarInfo(f"person-{shard}/{number:03}.png")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    data = load(str(tmp_path / "*.tar"), max_broken=1)
    batches = StreamBatches(data, batch_size=4, seed=0, workers=workers)
    with pytest.warns(BrokenImagesWarning, match="1 broken images skipped: .*person-1/002"):
        found = [index for batch in batches.epoch(0, 0, 1) for index in batch["index"].tolist()]
    assert len(found) == 8
    assert set(found) == set(range(8)) - {6}
    assert len(data.broken) == 1
    strict = StreamBatches(load(str(tmp_path / "*.tar")), batch_size=4, seed=0, workers=workers)
    with (
        pytest.raises(DataError, match="person-1/002: not a readable image") as caught,
        pytest.warns(BrokenImagesWarning),
    ):
        list(strict.epoch(0, 0, 1))
    assert "Traceback" not in str(caught.value)


def test_real_crops_stream_with_their_labels(shared: Path) -> None:
    data = FaceData([SourceConfig(shards=str(shared / "data" / "cfp-dev.tar.gz"))], 112)
    batches = StreamBatches(data, batch_size=16, seed=0, workers=0, shuffle=32)
    batch = next(batches.epoch(0, 0, 1))
    assert batch["images"].shape == (16, 112, 112, 3)
    assert batch["images"].dtype == torch.uint8
    assert [data.identities[label] for label in batch["labels"]] == [
        data.keys[int(index)].split("/")[0] for index in batch["index"]
    ]
