"""InsightFace's `.bin` sets: what InsightFace's own tools write is read, and no other pickle is."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.evaluation.bin_sets import BinError, read_bin
from training.evaluation.pairs import PairsError

SAME = [number % 3 != 1 for number in range(23)]


def encoded(seed: int) -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [encoded(number) for number in range(46)]


def written(folder: Path, content: object, protocol: int = pickle.HIGHEST_PROTOCOL) -> Path:
    """A pickle."""
    file = folder / "set.bin"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


def arrays(pictures: list[bytes]) -> list[np.ndarray]:
    """Encoded images as numpy arrays, as some sets hold them."""
    return [np.frombuffer(picture, np.uint8).copy() for picture in pictures]


FORMS: dict[str, Callable[[], object]] = {
    "as lfw2pack.py writes": lambda: (PICTURES, SAME),
    "a list of two": lambda: [tuple(PICTURES), tuple(SAME)],
    "arrays": lambda: (arrays(PICTURES), SAME),
    "numpy truth values": lambda: (PICTURES, [np.bool_(value) for value in SAME]),
    "numpy whole numbers": lambda: (PICTURES, [np.int64(value) for value in SAME]),
    "an array of truth values": lambda: (PICTURES, np.array(SAME)),
    "numbers": lambda: (PICTURES, [int(value) for value in SAME]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_is_read(tmp_path: Path, form: str, protocol: int) -> None:
    images, same, fold = read_bin(written(tmp_path, FORMS[form](), protocol))
    assert same.tolist() == SAME
    assert same.dtype == bool
    assert len(images) == 46
    for number in (0, 17, 45):
        np.testing.assert_array_equal(images[number], np.asarray(Image.open(io.BytesIO(PICTURES[number]))))
    assert len(images[3:6]) == 3
    # scikit-learn's KFold(10) without shuffling: the first n % 10 folds have one more.
    assert np.bincount(fold).tolist() == [3, 3, 3, 2, 2, 2, 2, 2, 2, 2]
    assert (np.diff(fold) >= 0).all()


def test_python_2_pickles_are_read(tmp_path: Path) -> None:
    # What Python 2 wrote for ([b"..", ..], [True, ..]): protocol 2, str as SHORT_BINSTRING or BINSTRING.
    strings = b"".join(b"T" + len(p).to_bytes(4, "little") + p for p in PICTURES)
    values = b"".join(b"\x88" if value else b"\x89" for value in SAME)
    (tmp_path / "old.bin").write_bytes(b"\x80\x02](" + strings + b"e](" + values + b"e\x86.")
    images, same, _ = read_bin(tmp_path / "old.bin")
    assert same.tolist() == SAME
    np.testing.assert_array_equal(images[45], np.asarray(Image.open(io.BytesIO(PICTURES[45]))))


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self._reduced = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._reduced


@pytest.mark.parametrize(
    ("call", "argument", "name"),
    [
        (os.system, "touch {}", "system"),
        (eval, "open('{}', 'w')", r"builtins\.eval"),
        (getattr, "x", r"builtins\.getattr"),
        (np.load, "{}", r"numpy"),
        (Path, "{}", r"pathlib"),
        (bytearray, "x", r"builtins\.bytearray"),
    ],
)
def test_a_pickle_that_calls_anything_is_refused_and_not_run(
    tmp_path: Path, call: Callable[..., object], argument: str, name: str
) -> None:
    trace = tmp_path / "ran"
    harm = Harm(call, argument.format(trace))
    for content in (harm, (PICTURES, [harm]), ([harm], SAME), {"a": harm}):
        with pytest.raises(BinError, match=rf"set\.bin: holds .*{name}.*; it is not read"):
            read_bin(written(tmp_path, content))
    assert not trace.exists()
    assert issubclass(BinError, PairsError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": PICTURES}, "no pair of images and truth values"),
        ((PICTURES, SAME, 1), "no pair of images and truth values"),
        ((PICTURES, 3), "a int where a list"),
        ((PICTURES[:-1], SAME), "45 images, 23 pairs"),
        ((PICTURES[:18], SAME[:9]), "10 pairs or more"),
        ((PICTURES, [*SAME[:-1], 2]), "something else among them"),
        ((PICTURES, [*SAME[:-1], None]), "something else among them"),
        (([*PICTURES[:-1], "text"], SAME), "something else among them"),
        ((np.array(PICTURES, dtype=object), SAME), "an array of 'O8'"),
        (([np.zeros((2, 2), np.uint8)], SAME), "neither an encoded image"),
        ((arrays(PICTURES), np.array(SAME, dtype=float)), "an array of 'f8'"),
        (([np.zeros(4, np.int64)], SAME), "in the place of an encoded image"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(BinError, match=message):
        read_bin(written(tmp_path, content))


def test_damaged_files_and_images_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, (PICTURES, SAME))
    content = file.read_bytes()
    for damaged in (b"", b"no pickle", content[: len(content) // 2], content[:-1]):
        file.write_bytes(damaged)
        with pytest.raises(BinError, match=r"set\.bin: not a readable \.bin"):
            read_bin(file)
    with pytest.raises(BinError, match="cannot be read"):
        read_bin(tmp_path / "absent.bin")
    images, _, _ = read_bin(written(tmp_path, ([*PICTURES[:-1], b"no image"], SAME)))
    with pytest.raises(BinError, match=r"set\.bin: image 45 cannot be decoded"):
        images[45]


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("bin") / "any.bin"
    file.write_bytes(content)
    with pytest.raises(BinError):
        read_bin(file)
