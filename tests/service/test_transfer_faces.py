"""The portable format: out and in again, resumable, every wrong line named, other models refused."""

from __future__ import annotations

import base64
import json
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.gallery.database import open_engine
from service.gallery.errors import CollectionNotFound
from service.gallery.gallery import Gallery
from service.gallery.records import Changes, NewFace
from service.gallery.store import GalleryStore
from service.recognition.crops import encode_crop
from service.security.sealing import Sealer
from service.transfer.errors import NotPortable, OtherModel
from service.transfer.exporting import export_faces
from service.transfer.format import FaceLine, Header, encode_embedding, parse_face, parse_header, render
from service.transfer.importing import BATCH, FaceImport, import_faces

MODEL, SIZE = "net@0123456789ab", 16


def unit(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def crop(seed: int) -> bytes:
    return encode_crop(np.random.default_rng(seed).integers(0, 256, (112, 112, 3), np.uint8))


def new_face(seed: int, with_crop: bool = False) -> NewFace:
    return NewFace(unit(seed), 0.5, 0.75, (1.0, 2.0, 3.0, 4.0), f"{seed:064x}", crop(seed) if with_crop else None)


Open = Callable[..., Gallery]


@pytest.fixture
def open_gallery(tmp_path: Path) -> Iterator[Open]:
    """Open galleries by name; the same name is the same database."""
    engines = []

    def opened(name: str, **options: Any) -> Gallery:
        engine = open_engine(f"sqlite:///{tmp_path / name}.db")
        engines.append(engine)
        return Gallery.open(GalleryStore(engine, MODEL, SIZE, **options), SIZE)

    yield opened
    for engine in engines:
        engine.dispose()


@pytest.fixture
def gallery(open_gallery: Open) -> Gallery:
    return open_gallery("gallery")


def file(*lines: bytes, **header: Any) -> bytes:
    return b"".join([render(Header(**{"model": MODEL, "embedding_size": SIZE, **header})), *lines])


def line(seed: int, **fields: Any) -> bytes:
    return render(FaceLine(**{"subject_id": "ada", "embedding": encode_embedding(unit(seed)), **fields}))


def whole(gallery: Gallery, collection: str = "default") -> bytes:
    return b"".join(export_faces(gallery.store, collection))


def without_header(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(one) for one in data.splitlines()[1:]]


def test_what_is_exported_comes_back_the_same(open_gallery: Open) -> None:
    first = open_gallery("first", keep_crops=True)
    first.store.create_collection("staff", Changes("The staff", {"floor": 3}))
    first.store.create_subject("staff", "ada", Changes("Ada Lovelace", {"née": "Byron", "list": [1, None]}))
    first.store.create_subject("staff", "nobody yet", Changes())
    first.enrol("staff", "ada", [new_face(1, with_crop=True), new_face(2)])
    first.enrol("staff", "grace", [new_face(3)])
    exported = whole(first, "staff")
    header = parse_header(exported.splitlines()[0])
    assert (header.model, header.faces, header.subjects) == (MODEL, 3, 3)
    assert header.collection is not None
    assert (header.collection.id, header.collection.name) == ("staff", "The staff")

    second = open_gallery("second", keep_crops=True)
    report = import_faces(second, "default", [exported])
    assert (report.imported, report.skipped, report.rejected, report.subjects_created) == (3, 0, 0, 3)
    assert report.complete
    assert without_header(whole(second)) == without_header(exported)
    ((best, *_),) = second.search("default", unit(2)[None], 1)
    assert (best.subject_id, best.name) == ("ada", "Ada Lovelace")
    assert best.similarity == pytest.approx(1.0)


def test_a_repeated_import_adds_nothing(gallery: Gallery) -> None:
    data = file(*(line(seed, face_id=str(uuid.UUID(int=seed))) for seed in range(5)), line(7))
    assert import_faces(gallery, "default", [data]).imported == 6
    again = import_faces(gallery, "default", [data])
    assert (again.imported, again.skipped) == (0, 6)
    assert gallery.store.collection("default").faces == 6


def test_an_import_cut_off_goes_on_where_it_stopped(gallery: Gallery) -> None:
    count = 2 * BATCH + 300
    data = file(*(line(seed, subject_id=f"s{seed % 7}") for seed in range(count)), faces=count)
    importing = FaceImport(gallery, "default")
    importing.feed(data[: len(data) * 2 // 3])  # and the connection is lost
    before = gallery.store.collection("default").faces
    assert before == BATCH
    report = import_faces(gallery, "default", (data[start : start + 50_000] for start in range(0, len(data), 50_000)))
    assert (report.imported, report.skipped) == (count - before, before)
    assert gallery.store.collection("default").faces == count


def test_a_file_cut_short_is_noticed(gallery: Gallery) -> None:
    data = file(*(line(seed) for seed in range(10)), faces=10)
    report = import_faces(gallery, "default", [data[: -len(line(9)) - 5]])
    assert report.imported == 8
    assert report.rejected == 1
    assert not report.complete


def test_wrong_lines_are_named_and_the_others_taken(gallery: Gallery) -> None:
    def embedding(values: NDArray[np.float32]) -> bytes:
        return render(FaceLine(subject_id="ada", embedding=encode_embedding(values)))

    with_nan = unit(1).copy()
    with_nan[3] = np.nan
    wrong = [
        (b"not json\n", "Invalid JSON"),
        (b"[]\n", "object"),
        (line(2, subject_id="ada").replace(b'"ada"', b'"a/b"'), "subject_id"),
        (embedding(with_nan), "unit length"),
        (embedding(2 * unit(1)), "unit length"),
        (embedding(np.zeros(SIZE, np.float32)), "unit length"),
        (embedding(unit(1)[:5]), "20 bytes, not the 64"),
        (line(2, model="other@1"), "other@1"),
        (line(2).replace(b"{", b'{"colour":1,', 1), "colour"),
        (line(2, quality=0.5).replace(b"0.5", b"NaN"), "quality"),
        (line(2, embedding="?"), "base64"),
        (b'{"subject_id": "' + b"x" * 600_000 + b'"}\n', "longer than"),
        (b'{"subject_id": "\\ud800"}\n', "JSON"),
    ]
    report = import_faces(gallery, "default", [file(line(0), *(text for text, _ in wrong), line(1))])
    assert report.imported == 2
    assert [error["line"] for error in report.errors] == list(range(3, 3 + len(wrong)))
    for error, (_, words) in zip(report.errors, wrong, strict=True):
        assert words in error["reason"]


def test_the_report_is_bounded(gallery: Gallery) -> None:
    report = import_faces(gallery, "default", [file(*[b"x\n"] * 2500)]).document()
    assert report["rejected"] == 2500
    assert len(report["errors"]) == 1000
    assert report["errors_left_out"] == 1500


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"x\n", line(1), file().replace(b'"version":1', b'"version":2'), b"x" * 600_000]
)
def test_without_a_header_nothing_is_taken(gallery: Gallery, data: bytes) -> None:
    with pytest.raises(NotPortable):
        import_faces(gallery, "default", [data])


def test_embeddings_of_another_model_are_refused_with_the_remedy(gallery: Gallery) -> None:
    with pytest.raises(OtherModel, match=r"model other@1.*net@0123456789ab.*import the photos"):
        import_faces(gallery, "default", [file(line(1), model="other@1")])


def test_a_face_id_of_another_collection_is_not_taken_over(gallery: Gallery) -> None:
    gallery.store.create_collection("other", Changes())
    face_id = str(uuid.uuid4())
    import_faces(gallery, "other", [file(line(1, face_id=face_id))])
    report = import_faces(gallery, "default", [file(line(1, face_id=face_id), line(1))])
    assert (report.imported, report.rejected) == (1, 1)
    assert "another collection" in report.errors[0]["reason"]
    with pytest.raises(CollectionNotFound):
        import_faces(gallery, "nowhere", [file(line(1))])


def test_existing_subjects_keep_their_names(gallery: Gallery) -> None:
    gallery.store.create_subject("default", "ada", Changes("Ada", {"kept": True}))
    import_faces(gallery, "default", [file(line(1, name="Another", metadata={"kept": False}))])
    subject = gallery.store.subject("default", "ada")
    assert (subject.name, subject.metadata) == ("Ada", {"kept": True})


def test_crops_are_taken_only_where_they_are_kept_and_only_if_they_are_crops(open_gallery: Open) -> None:
    data = file(
        line(1, crop=base64.b64encode(crop(1)).decode()),
        line(2, crop=base64.b64encode(b"not a crop").decode()),
        line(3, crop=base64.b64encode(encode_crop(np.zeros((10, 10, 3), np.uint8))).decode()),
    )
    assert import_faces(open_gallery("without"), "default", [data]).imported == 3
    keeping = open_gallery("keeping", keep_crops=True)
    report = import_faces(keeping, "default", [data])
    assert [error["reason"].split(":")[0] for error in report.errors] == ["crop", "crop"]
    (kept,) = (one for one in without_header(whole(keeping)) if "embedding" in one)
    assert base64.b64decode(kept["crop"]) == crop(1)
    assert not any("crop" in one for one in without_header(whole(open_gallery("without"))))


def test_an_export_is_of_one_revision(gallery: Gallery) -> None:
    for seed in range(30):
        gallery.enrol("default", f"s{seed}", [new_face(seed)])
    exporting = export_faces(gallery.store, "default")
    header = parse_header(next(exporting).splitlines()[0])
    gallery.erase_subject("default", "s29")
    gallery.enrol("default", "late", [new_face(99)])
    rest = b"".join(exporting)
    exported = {parse_face(one).subject_id for one in rest.splitlines()}
    assert exported == {f"s{seed}" for seed in range(30)}
    assert header.faces == 30
    assert header.gallery_revision is not None
    assert header.gallery_revision < gallery.store.revision()


def test_sealed_galleries_export_what_any_other_takes(open_gallery: Open) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealer = Sealer([AESGCM.generate_key(256)])
    sealed, plain = open_gallery("sealed", sealer=sealer), open_gallery("plain")
    data = file(*(line(seed) for seed in range(3)))
    assert import_faces(sealed, "default", [data]).imported == 3
    assert import_faces(plain, "default", [whole(sealed)]).imported == 3
    ((best, *_),) = plain.search("default", unit(1)[None], 1)
    assert best.similarity == pytest.approx(1.0)


def test_chunks_of_any_size_give_the_same(open_gallery: Open) -> None:
    data = file(*(line(seed) for seed in range(4)), b"wrong\n")
    dice = random.Random(5)
    for number in range(5):
        gallery = open_gallery(f"g{number}")
        cuts = sorted(dice.sample(range(len(data)), 20))
        chunks = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        report = import_faces(gallery, "default", chunks)
        assert (report.imported, report.rejected) == (4, 1)
