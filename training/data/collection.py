"""All sources of a run together: keys, classes, and what was broken."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.samples import Broken, BrokenImage, DataError, Source, joined, with_prefix
from training.data.sources import SourceConfig


class FaceData:
    """N images of several sources, end to end; a batch's `index` counts through them.

    keys: (N,) IDENTITY/NAME. identities: all names, sorted; the position of a name is its class.
    labels: (N,) int64 classes, -1 for no known identity. starts: where each source begins, and N.
    Raises DataError for what cannot be opened, and for an image that two sources hold.
    """

    def __init__(self, sources: Sequence[SourceConfig], size: int) -> None:
        self.size = size
        self.sources: list[Source] = [config.open() for config in sources]
        self.prefixes = [config.prefix for config in sources]
        self._tallies = [
            Broken(source.name, config.max_broken) for source, config in zip(self.sources, sources, strict=True)
        ]
        self.starts = [0, *itertools.accumulate(len(source.keys) for source in self.sources)]
        named = [
            [prefix + name for name in s.identities] for s, prefix in zip(self.sources, self.prefixes, strict=True)
        ]
        self.identities: list[str] = sorted({name for names in named for name in names})
        self.keys: Sequence[str] = joined(
            [with_prefix(s.keys, p) for s, p in zip(self.sources, self.prefixes, strict=True)]
        )
        _refuse_shared_numbers(sources, named)
        self._refuse_shared_keys(named)
        classes = {name: number for number, name in enumerate(self.identities)}
        self.labels: NDArray[np.int64] = np.concatenate(
            [
                np.array([*(classes[name] for name in names), -1], dtype=np.int64)[source.codes]
                for source, names in zip(self.sources, named, strict=True)
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def broken(self) -> list[str]:
        """The files and records that were skipped so far, because they could not be decoded."""
        return [name for tally in self._tallies for name in tally.names]

    def source_of(self, position: int) -> int:
        """Which source an image belongs to."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def note_broken(self, position: int, error: BrokenImage) -> None:
        """Count a broken image. Raises DataError when its source has more than its `max_broken`."""
        self._tallies[self.source_of(position)].add(error)

    def report_broken(self) -> None:
        """Warn of the skipped images, a line a source."""
        for tally in self._tallies:
            tally.report()

    def decoded(self, *, any_size: bool = False) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(position, image) of everything that can be decoded, in order, with a progress bar.

        Broken images are counted, and reported at the end. Raises DataError beyond the bound, or for an image
        that is not size x size (unless any size will do).
        """
        with tqdm(total=len(self), desc="decoding", unit="image", disable=None) as progress:
            for start, source in zip(self.starts, self.sources, strict=False):
                for offset, image in source.images():
                    progress.update()
                    if isinstance(image, BrokenImage):
                        self.note_broken(start + offset, image)
                        continue
                    if not any_size:
                        self.check_size(start + offset, image)
                    yield start + offset, image
        self.report_broken()

    def check_size(self, position: int, image: NDArray[np.uint8]) -> None:
        """Raises DataError for an image that is not size x size."""
        if image.shape != (self.size, self.size, 3):
            height, width = image.shape[:2]
            raise DataError(
                f"{self.keys[position]}: {width}x{height} where aligned crops of {self.size}x{self.size} are expected"
            )

    def _refuse_shared_keys(self, named: list[list[str]]) -> None:
        """Sources may share identities, not images; only those that share an identity need comparing."""
        for (one, first), (two, second) in itertools.combinations(enumerate(named), 2):
            both_unlabelled = (self.sources[one].codes < 0).any() and (self.sources[two].codes < 0).any()
            if not both_unlabelled and set(first).isdisjoint(second):
                continue
            keys = set(with_prefix(self.sources[one].keys, self.prefixes[one]))
            if shared := next(
                (key for key in with_prefix(self.sources[two].keys, self.prefixes[two]) if key in keys), None
            ):
                raise DataError(
                    f"{self.sources[one].name} and {self.sources[two].name}: both hold the same key {shared}; "
                    "rename one's identities, or give it a `prefix`"
                )


def _refuse_shared_numbers(sources: Sequence[SourceConfig], named: list[list[str]]) -> None:
    """Records (and what is packed from them) number their identities from 0, whoever these are."""
    numbered = [
        (config.record or config.packed, {name for name in names if name.isdecimal()})
        for config, names in zip(sources, named, strict=True)
        if config.record or config.packed
    ]
    for (one, first), (two, second) in itertools.combinations(numbered, 2):
        if not first.isdisjoint(second):
            raise DataError(f"{one} and {two} number their identities alike; give each a `prefix` of its own")
