"""A whole verification run: our checkpoint and any peers on the same pairs, as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import checkpoint as checkpoints
from models.registry import UnknownArchitecture
from training.evaluation import embeddings, machine
from training.evaluation.pairs import Pairs, PairsError, read_pairs
from training.evaluation.peers import Normalisation, OnnxRecogniser, PeerError, Yunet, open_peer
from training.evaluation.plots import plot_verification
from training.evaluation.verification import ProtocolError, verify

ERRORS = (
    checkpoints.CheckpointError,
    UnknownArchitecture,
    embeddings.EvaluationError,
    PairsError,
    PeerError,
    ProtocolError,
)
"""Whatever a measurement raises because of what it was given."""


@dataclass(frozen=True)
class Contender:
    """A recogniser with the reader that gives it its crops; `detector` names who found the faces."""

    name: str
    embed: embeddings.Embed
    read: embeddings.ReadCrop
    detector: str | None


def evaluate_verification(
    images: Path,
    pairs_file: Path,
    *,
    checkpoint: Path,
    detector: Path | None,
    peers: Sequence[Path] = (),
    peer_normalisation: Normalisation = Normalisation.IMAGENET,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Measure a recogniser, and ONNX peers next to it.

    Without `detector` the images are aligned crops; with it they are whole photos, in which it finds the
    faces, also for the peers unless a YuNet is among them. Raises one of ERRORS.
    """
    pairs = read_pairs(images, pairs_file)
    contenders = [_own(checkpoint, detector), *_peers(peers, peer_normalisation, detector)]
    measured = {contender.name: _measure(contender, pairs) for contender in contenders}
    if plot is not None:
        plot_verification(plot, {name: cosines for name, (cosines, _) in measured.items()}, pairs.same)
    own, *others = [report for _, report in measured.values()]
    document = {**own, "machine": machine.describe()}
    if others:
        document["peer"] = {contender.name: other for contender, other in zip(contenders[1:], others, strict=True)}
    return document


def _own(checkpoint: Path, detector: Path | None) -> Contender:
    name = checkpoints.read(checkpoint).model_id
    embed = embeddings.recogniser(checkpoint)
    if detector is None:
        return Contender(name, embed, embeddings.read_aligned, None)
    reader = embeddings.read_subject(embeddings.detector(detector))
    return Contender(name, embed, reader, checkpoints.read(detector).model_id)


def _peers(paths: Sequence[Path], normalisation: Normalisation, detector: Path | None) -> list[Contender]:
    opened = [open_peer(path, torch.get_num_threads(), normalisation) for path in paths]
    recognisers = [peer for peer in opened if isinstance(peer, OnnxRecogniser)]
    finders = [peer for peer in opened if isinstance(peer, Yunet)]
    if finders and (detector is None or not recognisers or len(finders) > 1):
        raise PeerError(f"{finders[-1].name}: a peer detector goes with a peer recogniser, once, on whole photos")
    reader: embeddings.ReadCrop = embeddings.read_aligned
    name = None
    if finders:
        reader, name = embeddings.read_subject(finders[0].find), finders[0].name
    elif detector is not None:
        reader = embeddings.read_subject(embeddings.detector(detector))
        name = checkpoints.read(detector).model_id
    return [Contender(peer.name, peer.embed, reader, name) for peer in recognisers]


def _measure(contender: Contender, pairs: Pairs) -> tuple[NDArray[np.float64], dict[str, Any]]:
    embedded = embeddings.embed_images(pairs.images, contender.read, contender.embed)
    cosines = embeddings.similarities(embedded, pairs)
    report = verify(cosines, pairs.same, pairs.fold).summary()
    report["failed_detections"] = int((~embedded.found).sum())
    report["images"] = len(pairs.images)
    report["model"] = contender.name
    report["detector"] = contender.detector
    return cosines, report
