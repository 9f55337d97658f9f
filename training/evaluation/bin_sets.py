"""InsightFace's `.bin` verification sets (lfw.bin, cfp_fp.bin, agedb_30.bin …), read without running a pickle's code.

A `.bin` is a pickle of (images, same): 2P encoded images, and P truth values; images 2i and 2i+1 form pair i.
A pickle may name any function to call, so this reader knows only stand-ins for the few names that such files
hold, plain data all of them, and refuses every other.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.evaluation.pairs import PairsError

FOLDS = 10


class BinSet(NamedTuple):
    """P pairs: images 2i and 2i+1, (H, W, 3) uint8 RGB, decoded when asked for; same (P,) bool; fold (P,) int64."""

    images: Sequence[NDArray[np.uint8]]
    same: NDArray[np.bool_]
    fold: NDArray[np.int64]


class BinError(PairsError):
    """A `.bin` is damaged, holds something else than images and truth values, or an image of it is broken."""


def read_bin(file: Path) -> BinSet:
    """The pairs of a `.bin`, in ten folds of consecutive pairs (as scikit-learn's KFold cuts them).

    Raises BinError naming the file, and the image when one is asked for that cannot be decoded.
    """
    try:
        with file.open("rb") as stream:
            images, same = _parts(_Unpickler(stream, encoding="bytes").load())
    except _Refused as error:
        raise BinError(f"{file}: holds {error}, which a verification set has no use for; it is not read") from error
    except OSError as error:
        raise BinError(f"{file}: cannot be read ({error.strerror})") from error
    except (pickle.UnpicklingError, EOFError, MemoryError, RecursionError, *_MALFORMED) as error:
        raise BinError(f"{file}: not a readable .bin verification set ({error})") from error
    encoded = [bytes(image) for image in images if isinstance(image, (bytes, bytearray))]
    if len(encoded) != len(images) or not all(isinstance(value, (bool, int)) and value in (0, 1) for value in same):
        raise BinError(f"{file}: expected encoded images and truth values, found something else among them")
    if len(encoded) != 2 * len(same) or len(same) < FOLDS:
        raise BinError(f"{file}: {len(encoded)} images, {len(same)} pairs; expected two a pair, {FOLDS} pairs or more")
    fold = np.repeat(np.arange(FOLDS), [len(part) for part in np.array_split(np.arange(len(same)), FOLDS)])
    return BinSet(_Images(file, encoded), np.array(same, dtype=bool), fold.astype(np.int64))


class _Images(Sequence[NDArray[np.uint8]]):
    def __init__(self, file: Path, encoded: list[bytes]) -> None:
        self._file, self._encoded = file, encoded

    def __len__(self) -> int:
        return len(self._encoded)

    @overload
    def __getitem__(self, number: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, number: slice) -> list[NDArray[np.uint8]]: ...
    def __getitem__(self, number: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        try:
            with Image.open(io.BytesIO(self._encoded[number])) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BinError(f"{self._file}: image {number} cannot be decoded ({error})") from error


def _parts(document: object) -> list[list[object]]:
    """The two lists. Raises ValueError or TypeError for anything else."""
    if not isinstance(document, (tuple, list)) or len(document) != 2:
        raise ValueError("no pair of images and truth values")
    return [_items(part) for part in document]


def _items(part: object) -> list[object]:
    if isinstance(part, _Array):
        part = part.items()
    if not isinstance(part, (list, tuple)):
        raise TypeError(f"a {type(part).__name__} where a list is expected")
    return [item.content() if isinstance(item, _Array) else item for item in part]


_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, OverflowError, UnicodeError, ImportError)
"""What unpickling raises for bytes that are no pickle, or call a stand-in in a way no set does."""


class _Refused(Exception):
    """A name that only a harmful or another kind of file needs."""


class _Dtype:
    """Stands in for numpy.dtype: uint8, bool or a whole number, nothing else."""

    def __init__(self, name: str | bytes, *_: object) -> None:
        self.name = name.decode("latin-1") if isinstance(name, bytes) else str(name)
        if self.name not in ("u1", "b1", "i1", "i2", "i4", "i8"):
            raise _Refused(f"an array of {self.name!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("|", "<", b"|", b"<"):
            raise _Refused("an array of big-endian numbers")

    def values(self, raw: bytes) -> list[int]:
        values: list[int] = np.frombuffer(raw, self.name.replace("b1", "u1")).tolist()
        return values


class _Array:
    """Stands in for numpy.ndarray: its bytes, for an image; its numbers, for the truth values."""

    def __init__(self, *_: object) -> None:
        self._raw, self._dtype = b"", _Dtype("u1")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, self._dtype, _, raw = state
        if not isinstance(self._dtype, _Dtype) or len(shape) != 1:
            raise _Refused("an array that is neither an encoded image nor a list of truth values")
        self._raw = raw.encode("latin-1") if isinstance(raw, str) else bytes(raw)

    def content(self) -> bytes:
        if self._dtype.name != "u1":
            raise _Refused("numbers in the place of an encoded image")
        return self._raw

    def items(self) -> list[int]:
        return self._dtype.values(self._raw)


def _from_buffer(raw: bytes | bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: _Dtype, raw: bytes | str) -> int:
    (value,) = dtype.values(raw.encode("latin-1") if isinstance(raw, str) else raw)
    return value


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise _Refused(f"text encoded as {encoding!r}")
    return text.encode("latin-1")


_STAND_INS: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"{package}.{module}", name): stand_in
        for package in ("numpy.core", "numpy._core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Only stand-ins: nothing a file names is ever imported or called."""
        stand_in = _STAND_INS.get((module, name))
        if stand_in is None:
            raise _Refused(f"{module}.{name}")
        # A pickle can set attributes of what it is given: hence a new function each time, not the stand-in itself.
        return lambda *arguments: stand_in(*arguments)
