"""What is in a data set, and what is wrong with it: sizes, broken files, duplicates, likely label noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.collection import FaceData
from training.data.packed import PackedSource
from training.data.samples import DataError
from training.data.shards import ShardSource
from training.data.similar import perceptual_hash, resembling

_BATCH = 64
_CENTRES = 4096
LISTED = 1000
"""Pairs and samples that a report lists at most; the counts are of all."""
HASH_THRESHOLD = 1 - 16 / 128
"""Perceptual hashes that differ in 16 of 256 bits at most: beyond 20, aligned faces begin to pass for each other."""

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(N, 112, 112, 3) uint8 RGB -> (N, D) float32 of unit length."""


@dataclass(frozen=True)
class _Seen:
    """What one pass over the images gives: positions (N,), vectors (N, D) float32 of unit length, N digests."""

    positions: NDArray[np.int64]
    vectors: NDArray[np.float32]
    digests: list[bytes]


def inspect(data: FaceData, embed: Embed | None, *, near: float, noise: float) -> dict[str, Any]:
    """The report on opened data; every image is decoded once, broken ones are named up to their bound.

    With `embed`, near duplicates are pairs with cosine >= near, and likely label noise are images with cosine
    < noise to the centre of their identity's other images, and nearer to another identity's centre. Without
    it, near duplicates are by perceptual hash, and noise is not judged. Raises DataError.
    """
    for source in data.sources:
        if isinstance(source, PackedSource):
            source.verify()
    seen = _look(data, embed)
    labels = data.labels[seen.positions]
    exact, copies = _exact(data, seen)
    threshold = near if embed else HASH_THRESHOLD
    return {
        "images": len(seen.positions),
        "identities": len(np.unique(labels[labels >= 0])),
        "unlabelled": int((labels < 0).sum()),
        "images_per_identity": images_per_identity(labels),
        "broken": data.broken,
        "exact_duplicates": exact,
        "near_duplicates": _near(data, seen, copies, threshold)
        | {"method": "embedding" if embed else "perceptual hash", "threshold": threshold},
        "label_noise": _noise(data, seen, labels, noise) | {"threshold": noise} if embed else None,
    }


def _look(data: FaceData, embed: Embed | None) -> _Seen:
    positions: list[int] = []
    digests: list[bytes] = []
    parts: list[NDArray[np.float32]] = []
    waiting: list[NDArray[np.uint8]] = []

    def empty() -> None:
        if waiting:
            crops = np.stack(waiting)
            parts.append(embed(crops) if embed else np.stack([perceptual_hash(crop) for crop in crops]))
            waiting.clear()

    for position, image in data.decoded():
        positions.append(position)
        digests.append(hashlib.blake2b(image.tobytes(), digest_size=16).digest())
        waiting.append(image)
        if len(waiting) == _BATCH:
            empty()
    empty()
    if not parts:
        raise DataError("no image could be decoded")
    return _Seen(np.array(positions, dtype=np.int64), np.concatenate(parts), digests)


def images_per_identity(labels: NDArray[np.int64]) -> dict[str, Any]:
    """Least, median and most images of an identity, and the histogram {images: identities}."""
    _, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not len(counts):
        return {"min": 0, "median": 0.0, "max": 0, "histogram": {}}
    sizes, identities = np.unique(counts, return_counts=True)
    histogram = {str(size): int(number) for size, number in zip(sizes, identities, strict=True)}
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "max": int(counts.max()),
        "histogram": histogram,
    }


def _exact(data: FaceData, seen: _Seen) -> tuple[dict[str, Any], NDArray[np.bool_]]:
    """Groups of equal pixels, how many of them have two identities; and (N,) which images are another's copy."""
    labels = data.labels[seen.positions]
    groups: dict[bytes, list[int]] = {}
    for row, value in enumerate(seen.digests):
        groups.setdefault(value, []).append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    across = sum(len(set(labels[rows][labels[rows] >= 0].tolist())) > 1 for rows in several)
    copies = np.zeros(len(seen.positions), dtype=bool)
    for rows in several:
        copies[rows[1:]] = True
    keys = [[data.keys[int(seen.positions[row])] for row in rows] for rows in several]
    counts = {"groups": len(several), "superfluous": int(copies.sum()), "across_identities": across}
    return counts | {"keys": keys[:LISTED]}, copies


def _near(data: FaceData, seen: _Seen, copies: NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """Pairs that resemble each other, exact copies apart."""
    rows = np.flatnonzero(~copies)
    found = resembling(seen.vectors[rows], threshold, LISTED)
    labels = data.labels[seen.positions]
    pairs = []
    for a, b, cosine in zip(rows[found.first], rows[found.second], found.cosine, strict=True):
        pairs.append(
            {
                "first": data.keys[int(seen.positions[a])],
                "second": data.keys[int(seen.positions[b])],
                "cosine": round(float(cosine), 4),
                "same_identity": bool(labels[a] == labels[b]) if labels[a] >= 0 and labels[b] >= 0 else None,
            }
        )
    return {"pairs": found.count, "listed": pairs}


def _noise(data: FaceData, seen: _Seen, labels: NDArray[np.int64], threshold: float) -> dict[str, Any]:
    """Images far from their identity's other images and nearer to another identity."""
    rows = np.flatnonzero(labels >= 0)
    vectors = seen.vectors[rows].astype(np.float32)
    classes, own = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        return {"images": 0, "judged": 0, "listed": []}
    sums = np.zeros((len(classes), vectors.shape[1]), dtype=np.float32)
    np.add.at(sums, own, vectors)
    counts = np.bincount(own)
    to_own = np.einsum("nd,nd->n", vectors, _unit(sums[own] - vectors))
    nearest, to_other = _nearest_other(vectors, _unit(sums), own)
    judged = counts[own] > 1
    suspects = np.flatnonzero(judged & (to_own < threshold) & (to_other > to_own))
    suspects = suspects[np.argsort((to_own - to_other)[suspects], kind="stable")]
    listed = [
        {
            "key": data.keys[int(seen.positions[rows[row]])],
            "cosine_to_own": round(float(to_own[row]), 4),
            "nearest": data.identities[int(classes[nearest[row]])],
            "cosine_to_nearest": round(float(to_other[row]), 4),
        }
        for row in suspects[:LISTED]
    ]
    return {"images": len(suspects), "judged": int(judged.sum()), "listed": listed}


def _nearest_other(
    vectors: NDArray[np.float32], centres: NDArray[np.float32], own: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The nearest centre that is not one's own, (N,), and its cosine, in blocks."""
    nearest = np.zeros(len(vectors), dtype=np.int64)
    cosine = np.full(len(vectors), -2, dtype=np.float32)
    for start in range(0, len(vectors), _CENTRES):
        rows = np.arange(start, min(start + _CENTRES, len(vectors)))
        for first in range(0, len(centres), _CENTRES):
            product = vectors[rows] @ centres[first : first + _CENTRES].T
            mine = own[rows] - first
            inside = (mine >= 0) & (mine < product.shape[1])
            product[np.flatnonzero(inside), mine[inside]] = -2
            best = product.argmax(1)
            value = product[np.arange(len(rows)), best]
            better = value > cosine[rows]
            nearest[rows[better]], cosine[rows[better]] = best[better] + first, value[better]
    return nearest, cosine


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return scaled


def class_map(data: FaceData) -> dict[str, Any]:
    """{"format": 1, "classes": {identity: class}, "shards": [{"name", "keys"}]}; shards are the `listing` of a source.

    The classes are those of a training on the same sources.
    """
    shards = [
        {"name": url, "keys": list(keys)}
        for source in data.sources
        if isinstance(source, ShardSource)
        for url, keys in zip(source.urls, source.members, strict=True)
    ]
    return {"format": 1, "classes": {name: number for number, name in enumerate(data.identities)}, "shards": shards}


def plot_images_per_identity(path: Path, histogram: dict[str, int]) -> None:
    """Write a PNG: how many identities have how many images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [int(size) for size in histogram]
    if len(sizes) > 60:
        axes.hist(sizes, bins=60, weights=list(histogram.values()))
    else:
        axes.bar(sizes, list(histogram.values()))
    axes.set(xlabel="images of an identity", ylabel="identities", title="Images per identity")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)
