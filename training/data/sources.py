"""Where face crops come from: folders, lists, InsightFace records, WebDataset shards, packed arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.folders import open_folder, open_list
from training.data.packed import DOCUMENT, PackedSource
from training.data.records import RecordSource
from training.data.samples import UNLABELLED, BrokenImage, DataError, Source, decode, identity_of
from training.data.shards import ShardSource
from training.data.streams import is_remote
from training.data.synthetic import SyntheticConfig, SyntheticSource

__all__ = [
    "UNLABELLED",
    "BrokenImage",
    "DataError",
    "Source",
    "SourceConfig",
    "decode",
    "identity_of",
    "parse_source",
    "parse_sources",
]

_KINDS = ("folder", "list", "record", "shards", "packed", "synthetic")


class SourceConfig(BaseModel):
    """One source of crops: exactly one of folder, list, record, shards, packed and synthetic."""

    model_config = ConfigDict(extra="forbid")

    folder: Path | None = Field(None, description="folder of IDENTITY/NAME.webp|jpg|png")
    list: Path | None = Field(None, description="text file of PATH<TAB or space>LABEL or IDENTITY/NAME.webp lines")
    record: Path | None = Field(None, description="InsightFace's train.rec, with train.idx beside it")
    shards: str | None = Field(
        None, description="WebDataset tars: glob, braces ({000..127}), http(s):// or pipe:COMMAND"
    )
    packed: Path | None = Field(None, description="folder that `facemargin pack` wrote")
    synthetic: SyntheticConfig | None = Field(None, description="invented faces, to try a training without data")
    listing: str | None = Field(
        None, description="shards only: class map of `inspect --classes` (path or URL); spares a pass over remote tars"
    )
    prefix: str = Field("", pattern="^[^/]*$", description="put before each identity's name, to keep data sets apart")
    max_broken: int = Field(0, ge=0, description="broken images that are skipped; one more is an error")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(_KINDS)}, not {' and '.join(given) or 'none'}")
        if self.listing is not None and self.shards is None:
            raise ValueError("listing belongs to shards")
        return self

    def open(self) -> Source:
        """The source, its keys and identities known, nothing decoded. Raises DataError."""
        if self.folder is not None:
            return open_folder(self.folder)
        if self.list is not None:
            return open_list(self.list)
        if self.record is not None:
            return RecordSource(self.record)
        if self.packed is not None:
            return PackedSource(self.packed)
        if self.synthetic is not None:
            return SyntheticSource(self.synthetic)
        assert self.shards is not None
        return ShardSource(self.shards, self.listing)


def parse_sources(texts: Sequence[str], max_broken: int, *, apart: bool) -> list[SourceConfig]:
    """The sources that command-line arguments mean; `apart` gives their identities the prefixes 0-, 1- …"""
    return [
        parse_source(text).model_copy(update={"max_broken": max_broken, "prefix": f"{number}-" if apart else ""})
        for number, text in enumerate(texts)
    ]


def parse_source(text: str) -> SourceConfig:
    """The source a command-line argument means, by its form: a folder (packed or not), .rec, tars, or a list."""
    path = Path(text)
    if is_remote(text):
        return SourceConfig(shards=text)
    if path.is_dir():
        return SourceConfig(packed=path) if (path / DOCUMENT).is_file() else SourceConfig(folder=path)
    if ".tar" in path.name:
        return SourceConfig(shards=text)
    if path.suffix == ".rec":
        return SourceConfig(record=path)
    if path.is_file():
        return SourceConfig(list=path)
    raise DataError(f"{text}: no such folder, list, .rec or shard")
