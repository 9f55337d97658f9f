"""Who is measured in a run: our checkpoint and any peers, each with the reader that gives it its crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import checkpoint as checkpoints
from models.registry import UnknownArchitecture
from training.evaluation import embeddings, machine
from training.evaluation.pair_sets import ImageSource
from training.evaluation.pairs import PairsError
from training.evaluation.peers import Normalisation, OnnxRecogniser, PeerError, Yunet, open_peer
from training.evaluation.verification import ProtocolError

ERRORS = (
    checkpoints.CheckpointError,
    UnknownArchitecture,
    embeddings.EvaluationError,
    PairsError,
    PeerError,
    ProtocolError,
)
"""Whatever a measurement of recognisers raises because of what it was given."""


@dataclass(frozen=True)
class Contender:
    """A recogniser with the reader that gives it its crops; `detector` names who found the faces."""

    name: str
    embed: embeddings.Embed
    read: embeddings.ReadCrop
    detector: str | None

    def embedded(self, sources: Sequence[ImageSource]) -> embeddings.Embedded:
        """Embed image files, or decoded crops as they are. Raises EvaluationError."""
        return embeddings.embed_images(sources, self._crop, self.embed)

    def _crop(self, source: ImageSource) -> NDArray[np.uint8] | None:
        return self.read(source) if isinstance(source, Path) else embeddings.aligned(source, "an image of the set")


def open_contenders(
    checkpoint: Path,
    detector: Path | None,
    peers: Sequence[Path] = (),
    normalisation: Normalisation = Normalisation.IMAGENET,
) -> list[Contender]:
    """Our checkpoint, then peers.

    Without `detector` images are aligned crops; with it they are whole photos, in which it finds the
    faces, also for the peers unless a YuNet is among them. Raises one of ERRORS.
    """
    return [_own(checkpoint, detector), *_peers(peers, normalisation, detector)]


def compare(contenders: Sequence[Contender], measure: Callable[[Contender], dict[str, Any]]) -> dict[str, Any]:
    """The first one's figures with its model id, detector and the machine; the others' under "peer"."""
    own, *others = [
        {**measure(contender), "model": contender.name, "detector": contender.detector} for contender in contenders
    ]
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
