"""Archives from strangers: what is taken, what is refused and why; and that nothing is left on the disk."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from service.transfer.archives import PhotoArchive
from service.transfer.errors import NotAnArchive
from service.transfer.lines import LineSplitter
from service.transfer.photos import ImportedPhoto, PhotoFolder, Unreadable, Unusable, subject_named
from service.transfer.spool import SealedSpool

LARGEST = 100_000


def packed(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return data.getvalue()


def opened(data: bytes) -> list[ImportedPhoto | Unusable]:
    return list(PhotoArchive(io.BytesIO(data), LARGEST))


def reasons(data: bytes) -> dict[str, str]:
    """Why each entry was left out; `ok` for those that can be read."""
    found = {}
    for entry in opened(data):
        if isinstance(entry, Unusable):
            found[entry.label] = entry.reason
            continue
        try:
            entry.read()
            found[entry.label] = "ok"
        except Unreadable as error:
            found[entry.label] = str(error)
    return found


def test_photos_come_out_with_their_subjects() -> None:
    entries = opened(packed(("ada/1.jpg", b"one"), ("ada/2.jpg", b"two"), ("grace hopper/1.jpg", b"three")))
    assert [(entry.subject.id, entry.read()) for entry in entries if isinstance(entry, ImportedPhoto)] == [
        ("ada", b"one"),
        ("ada", b"two"),
        ("grace hopper", b"three"),
    ]


def test_a_folder_around_all_subjects_is_taken_off_and_system_files_are_passed_over() -> None:
    entries = opened(
        packed(
            ("people/ada/1.jpg", b"one"),
            ("people/grace/1.jpg", b"two"),
            ("people/.DS_Store", b""),
            ("__MACOSX/people/ada/._1.jpg", b""),
        )
    )
    assert [entry.subject.id for entry in entries if isinstance(entry, ImportedPhoto)] == ["ada", "grace"]
    assert len(entries) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/etc/passwd", "unsafe_path"),
        ("../ada/1.jpg", "unsafe_path"),
        ("ada/../1.jpg", "unsafe_path"),
        ("C:/ada/1.jpg", "unsafe_path"),
        ("ada//1.jpg", "unsafe_path"),
        ("a/b/c/1.jpg", "nested_path"),
        ("1.jpg", "no_subject"),
        (" /1.jpg", "invalid_subject"),
        ("a\x01da/1.jpg", "invalid_subject"),
    ],
)
def test_names_that_lead_elsewhere(name: str, reason: str) -> None:
    assert reasons(packed(("ada/1.jpg", b"one"), (name, b"x"))) == {"ada/1.jpg": "ok", name: reason}


def test_backslashes() -> None:
    data = packed(("ada/1.jpg", b"one"), ("adaX..X1.jpg", b"x")).replace(b"adaX..X1.jpg", b"ada\\..\\1.jpg")
    assert reasons(data) == {"ada/1.jpg": "ok", "ada\\..\\1.jpg": "unsafe_path"}


def test_names_of_other_alphabets_get_plain_ids_and_keep_their_names() -> None:
    (entry,) = opened(packed(("José Müller/1.jpg", b"one")))
    assert isinstance(entry, ImportedPhoto)
    assert entry.subject.name == "José Müller"
    assert entry.subject.id.startswith("Jose Muller-")
    decomposed = subject_named("Jose\u0301 Mu\u0308ller")
    assert decomposed == entry.subject, "the same name, however it is composed"
    assert subject_named("山田") != subject_named("田山")


def test_bombs_are_not_inflated() -> None:
    assert reasons(packed(("ada/1.jpg", bytes(LARGEST)))) == {"ada/1.jpg": "bomb"}
    assert reasons(packed(("ada/1.jpg", bytes(LARGEST + 1)))) == {"ada/1.jpg": "too_many_bytes"}


def test_a_size_that_lies_is_found_out() -> None:
    data = packed(("ada/1.jpg", random.Random(1).randbytes(200_000)))
    honest = (200_000).to_bytes(4, "little")
    assert reasons(data.replace(honest, (1000).to_bytes(4, "little"))) == {"ada/1.jpg": "damaged"}


def test_entries_that_share_their_bytes_are_a_bomb() -> None:
    data = bytearray(packed(("ada/1.jpg", b"first" * 50), ("ada/2.jpg", b"secnd" * 50), method=zipfile.ZIP_STORED))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = (0).to_bytes(4, "little")
    with pytest.raises(NotAnArchive, match="overlap"):
        opened(bytes(data))


def test_encrypted_and_unusual_entries() -> None:
    plain = bytearray(packed(("ada/1.jpg", b"one")))
    plain[plain.rindex(b"PK\x01\x02") + 8] |= 1
    assert reasons(bytes(plain)) == {"ada/1.jpg": "encrypted"}
    assert reasons(packed(("ada/1.jpg", b"one"), method=zipfile.ZIP_LZMA)) == {"ada/1.jpg": "unsupported_compression"}


def test_a_directory_that_would_fill_the_memory_is_not_read() -> None:
    data = bytearray(packed(("ada/1.jpg", b"one")))
    end = data.rindex(b"PK\x05\x06")
    padded = data[:end] + bytes(20 * 2**20) + data[end:]
    at = padded.rindex(b"PK\x05\x06")
    start = padded.index(b"PK\x01\x02")
    padded[at + 12 : at + 16] = (at - start).to_bytes(4, "little")
    with pytest.raises(NotAnArchive, match="too large"):
        opened(bytes(padded))


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06" + bytes(18)[:10], b"not a zip at all"])
def test_what_is_no_archive(data: bytes) -> None:
    with pytest.raises(NotAnArchive):
        opened(data)


def test_damaged_archives_are_refused_or_reported_and_nothing_else() -> None:
    whole = packed(*((f"ada/{number}.jpg", random.Random(number).randbytes(300)) for number in range(5)))
    dice = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        try:
            reasons(bytes(data[: dice.randint(1, len(data))] if dice.random() < 0.3 else data))
        except NotAnArchive:
            continue


def test_the_spool_gives_back_what_it_took_from_anywhere(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(100_000)
    with SealedSpool(tmp_path) as spool:
        for start in range(0, len(content), 777):
            spool.append(content[start : start + 777])
        dice = random.Random(4)
        for _ in range(200):
            start, count = dice.randrange(len(content)), dice.randrange(5000)
            spool.seek(start)
            assert spool.read(count) == content[start : start + count]
        spool.seek(-10, os.SEEK_END)
        assert spool.read() == content[-10:]


def test_the_spool_has_no_name_and_no_photo_stands_in_it(tmp_path: Path) -> None:
    with SealedSpool(tmp_path) as spool:
        spool.append(b"the bytes of a photo" * 1000)
        assert list(tmp_path.iterdir()) == []
        spool._file.flush()
        assert b"the bytes of a photo" not in Path(f"/proc/self/fd/{spool._file.fileno()}").read_bytes()
        data = packed(("ada/1.jpg", b"one"))
    with SealedSpool(tmp_path) as spool:
        spool.append(data)
        (entry,) = PhotoArchive(spool, LARGEST)
        assert isinstance(entry, ImportedPhoto)
        assert entry.read() == b"one"


def test_folders(tmp_path: Path) -> None:
    for name in ("ada/1.jpg", "ada/.hidden.jpg", "ada/deep/2.jpg", "grace/1.jpg", "loose.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"a photo")
    (tmp_path / "grace" / "large.jpg").write_bytes(bytes(LARGEST + 1))
    folder = PhotoFolder(tmp_path, LARGEST)
    seen: dict[str, Any] = {}
    for entry in folder:
        try:
            seen[entry.label] = entry.reason if isinstance(entry, Unusable) else entry.read()
        except Unreadable as error:
            seen[entry.label] = str(error)
    assert seen == {
        "ada/1.jpg": b"a photo",
        "ada/deep/2.jpg": "nested_path",
        "grace/1.jpg": b"a photo",
        "grace/large.jpg": "too_many_bytes",
    }
    assert len(folder) == len(seen)


def test_lines_out_of_chunks_of_any_size() -> None:
    text = b"one\ntwo\n\n" + b"x" * 50 + b"\nlast"
    for size in range(1, len(text) + 1):
        splitter = LineSplitter(longest=10)
        lines = [
            line for start in range(0, len(text), size) for line in splitter.feed(text[start : start + size])
        ] + list(splitter.finish())
        assert lines == [b"one", b"two", b"", None, b"last"], size
