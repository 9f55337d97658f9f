"""Where face crops come from: an image folder, or WebDataset tar shards. Both give the same samples."""

from __future__ import annotations

import glob
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import webdataset
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, model_validator

UNLABELLED = "_unlabelled"
"""Images below a folder of this name show no known identity; they take part in distillation alone."""

_EXTENSIONS = (".webp", ".jpg", ".jpeg", ".png", ".bmp")


class DataError(ValueError):
    """Training data that cannot be used; the message names the file."""


@dataclass(frozen=True)
class Sample:
    """One aligned crop: key IDENTITY/NAME, identity (None when unknown), image (H, W, 3) uint8 RGB."""

    key: str
    identity: str | None
    image: NDArray[np.uint8]


class SourceConfig(BaseModel):
    """One source: `folder` with IDENTITY/NAME.webp below it, or `shards`, a glob of tars with such members."""

    model_config = ConfigDict(extra="forbid")

    folder: Path | None = None
    shards: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SourceConfig:
        if (self.folder is None) == (self.shards is None):
            raise ValueError("give either folder or shards")
        return self

    def keys(self) -> list[str]:
        """All keys, sorted, without decoding an image. Raises DataError when there are none."""
        keys = _folder_keys(self.folder) if self.folder else _shard_keys(self.shards or "")
        if not keys:
            raise DataError(f"{self.folder or self.shards}: no images found; expected IDENTITY/NAME.webp|jpg|png")
        return sorted(keys)

    def samples(self) -> Iterator[Sample]:
        """Every sample once. Raises DataError naming the first file that is no image."""
        return read_folder(self.folder) if self.folder else read_shards(self.urls())

    def urls(self) -> list[str]:
        """The shard files, sorted. Raises DataError when the glob matches none."""
        found = sorted(glob.glob(self.shards or ""))  # noqa: PTH207 - the pattern may be absolute
        if not found:
            raise DataError(f"{self.shards}: no such shard")
        return found


def identity_of(key: str) -> str | None:
    """The identity a key IDENTITY/NAME names, or None for `_unlabelled/NAME`."""
    name = PurePosixPath(key).parent.name
    return None if name == UNLABELLED else name


def decode(data: bytes, key: str) -> NDArray[np.uint8]:
    """Encoded bytes -> (H, W, 3) uint8 RGB. Raises DataError naming the key."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{key}: not a readable image ({error})") from error


def read_folder(folder: Path) -> Iterator[Sample]:
    """Samples of an image folder, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _EXTENSIONS:
            key = path.relative_to(folder).with_suffix("").as_posix()
            yield Sample(key, identity_of(key), decode(path.read_bytes(), str(path)))


def read_shards(urls: list[str]) -> Iterator[Sample]:
    """Samples of WebDataset tars whose keys are IDENTITY/NAME, in the order they are stored."""
    stream = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False)
    for record in stream:
        sample = sample_of(record)
        if sample is not None:
            yield sample


def sample_of(record: dict[str, bytes]) -> Sample | None:
    """A WebDataset record as a sample; None when it holds no image."""
    key = str(record["__key__"])
    for extension in _EXTENSIONS:
        if (data := record.get(extension[1:])) is not None:
            return Sample(key, identity_of(key), decode(data, key))
    return None


def _folder_keys(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in _EXTENSIONS)
    return [path.relative_to(folder).with_suffix("").as_posix() for path in found]


def _shard_keys(pattern: str) -> list[str]:
    keys = []
    for url in SourceConfig(shards=pattern).urls():
        try:
            with tarfile.open(url) as archive:
                keys += [str(PurePosixPath(m.name).with_suffix("")) for m in archive if m.name.endswith(_EXTENSIONS)]
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{url}: not a readable tar ({error})") from error
    return keys
