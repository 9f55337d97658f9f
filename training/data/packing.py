"""Pack any sources into the format of `training.data.packed`: whole, or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.collection import FaceData
from training.data.packed import DOCUMENT, FORMAT, IDENTITIES, IMAGES, KEY_ENDS, KEYS, LABELS, PackedDocument, digest
from training.data.samples import DataError
from training.data.sources import SourceConfig


def pack(
    sources: Sequence[SourceConfig],
    output: Path,
    size: int,
    *,
    resize: bool = False,
    keep: NDArray[np.bool_] | None = None,
) -> PackedDocument:
    """Decode every image once into the new folder `output`. Returns what its packed.json says.

    keep: (N,) which of the sources' images; None: all. With `resize`, square images of another size are brought to
    size x size (Lanczos). All is written to a folder .NAME.*.partial beside it, which gets its name at the end and
    goes away on any error; a killed run leaves only that. Raises DataError for a bad image, a full disk, or an output
    that exists.
    """
    if output.exists():
        raise DataError(f"{output}: exists already; choose another name, or remove it")
    data = FaceData(sources, size)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        needed, free = len(data) * size * size * 3, shutil.disk_usage(output.parent).free
        if needed > free:
            raise DataError(f"{output}: needs {needed >> 20} MiB, the disk has {free >> 20} MiB free")
        partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
        try:
            document = _write(data, partial, size, resize, keep)
            partial.chmod(0o755)  # mkdtemp's folder is for its owner alone
            partial.rename(output)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _settle(output.parent)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror}); nothing was kept") from error
    return document


def _write(data: FaceData, folder: Path, size: int, resize: bool, keep: NDArray[np.bool_] | None) -> PackedDocument:
    kept = np.zeros(len(data), dtype=bool)
    with (folder / IMAGES).open("wb") as file:
        for position, image in data.decoded(any_size=resize):
            if keep is not None and not keep[position]:
                continue
            file.write((_resized(image, size, data.keys[position]) if resize else image).tobytes())
            kept[position] = True
    positions = np.flatnonzero(kept)
    if not len(positions):
        raise DataError("no image is left to pack")
    # Identities whose every image was broken have no class.
    labels = data.labels[positions]
    classes, codes = np.unique(labels[labels >= 0], return_inverse=True)
    packed = np.full(len(labels), -1, dtype="<i8")
    packed[labels >= 0] = codes
    np.save(folder / LABELS, packed, allow_pickle=False)
    _write_lines(folder / IDENTITIES, [data.identities[number] for number in classes])
    ends = _write_lines(folder / KEYS, (data.keys[int(position)] for position in positions))
    np.save(folder / KEY_ENDS, np.array(ends, dtype="<i8"), allow_pickle=False)
    names = (IMAGES, LABELS, IDENTITIES, KEYS, KEY_ENDS)
    for name in names:
        _settle(folder / name)
    document = PackedDocument(
        format=FORMAT,
        images=len(positions),
        size=size,
        digests={name: digest(folder / name) for name in names},
        broken=data.broken,
    )
    (folder / DOCUMENT).write_text(document.model_dump_json(indent=2) + "\n")
    _settle(folder / DOCUMENT)
    _settle(folder)
    return document


def _resized(image: NDArray[np.uint8], size: int, key: str) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if height != width:
        raise DataError(f"{key}: {width}x{height} is not square, so no aligned crop; align the photos first")
    if height == size:
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def _write_lines(path: Path, lines: Iterable[str]) -> list[int]:
    """UTF-8 lines; returns where each ends. Raises DataError for a name that is not one line."""
    ends, end = [], 0
    with path.open("wb") as file:
        for line in lines:
            if line.splitlines() != [line]:
                raise DataError(f"{line!r}: a name with a line break (or none) cannot be packed")
            end += file.write(f"{line}\n".encode())
            ends.append(end)
    return ends


def _settle(path: Path) -> None:
    """On the disk, not only in its cache, so that a power cut cannot leave a whole-looking folder of zeros."""
    if path.is_dir():
        if os.name == "nt":
            return  # Windows cannot open a folder, and writes its entries through
        descriptor = os.open(path, os.O_RDONLY)
    else:
        descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
