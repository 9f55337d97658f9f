"""The pipeline: bytes of a photo -> faces, their quality and their embeddings."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models import checkpoint
from models.alignment import SIZE, DegenerateLandmarks, align
from models.calibration import Calibration
from models.checkpoint import CheckpointError, Metadata
from models.detector.find import SCORE_THRESHOLD, find_faces
from models.detector.refine import candidate_threshold, confirm
from models.embedding import embed_raw, unit
from models.faces import Face
from service.recognition.batching import Batcher, in_buckets
from service.recognition.decoding import ImageLimits, Photo, decode
from service.recognition.engines import EngineOptions, OpenVinoEngine
from service.recognition.errors import Overloaded
from service.recognition.quality import Assessment, assess, measure
from service.recognition.timeline import Timeline, Unwatched, Watcher

# The detector looks at 640 pixels; twice that leaves it a clean reduction.
_ENOUGH_TO_DETECT: Final = 1280
_SPARE: Final = 32  # candidates beyond the faces wanted that may prove to be none; a bound on what a photo can cost


@dataclass(frozen=True)
class AnalysedFace:
    """A face of a photo. quality in [0, 1]; reasons against enrolling it, empty when it is good.

    Quality is what size, sharpness, pose and score of the detection give, times, for a face that was embedded, what
    the recogniser's quality model reads from the embedding.
    embedding: float32 (D,) of unit length; None where none was asked for, or the landmarks fix no crop.
    crop: the aligned face, uint8 (112, 112, 3) RGB; None where the landmarks fix none.
    """

    face: Face
    quality: float
    reasons: tuple[str, ...]
    embedding: NDArray[np.float32] | None
    crop: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class AnalysedPhoto:
    """A photo's faces, largest first, in pixels of its upright width x height.

    timing_ms: decode, detect, align, embed (waiting for a batch included) and total. digest: SHA-256 (hex)
    of the photo's bytes.
    """

    width: int
    height: int
    faces: tuple[AnalysedFace, ...]
    timing_ms: dict[str, float]
    digest: str


_Embedded = tuple[NDArray[np.float32], np.float32]
"""An embedding (D,) of unit length, and how recognisable the network finds the face, in [0, 1]."""


@dataclass(frozen=True)
class _Found:
    photo: Photo
    faces: list[tuple[Face, Assessment, NDArray[np.uint8] | None]]
    timeline: Timeline
    digest: str


class Analyser:
    """Owns the networks. Photos are decoded, searched and aligned in a bounded pool; crops share batches."""

    def __init__(
        self,
        recogniser: OpenVinoEngine,
        detector: OpenVinoEngine,
        looks: OpenVinoEngine,
        limits: ImageLimits,
        *,
        workers: int,
        waiting: int,
        score_threshold: float,
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher or Unwatched()
        self.metadata: Metadata = recogniser.metadata
        self.embedding_size = _embedding_size(recogniser.metadata)
        self.model_id = checkpoint.model_id(recogniser.metadata)
        self.detector_id = checkpoint.model_id(detector.metadata)
        self._recogniser = recogniser
        self._detector, self._looks = detector, looks
        self._limits = limits
        self._score_threshold = score_threshold
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="photo")
        self._places = threading.BoundedSemaphore(workers + waiting)
        self._counting = threading.Lock()
        self._pending = 0
        forward = in_buckets(recogniser)
        self._batcher = Batcher(
            lambda crops: embed_raw(crops, forward, self.metadata.flip_average), on_batch=self._watcher.batch
        )

    @classmethod
    def open(
        cls,
        recogniser: Path,
        detector: Path,
        cache_dir: Path,
        limits: ImageLimits,
        *,
        threads: int = 1,
        precision: Literal["auto", "f32"] = "auto",
        waiting: int = 64,
        score_threshold: float = SCORE_THRESHOLD,
        watcher: Watcher | None = None,
    ) -> Self:
        """Load both checkpoints and prove their engines against the probes: seconds, more on a cold cache.

        threads: cores for each network, and photos worked on at once; precision: as in EngineOptions; waiting:
        photos that may wait.
        Raises CheckpointError, EngineError, ProbeMismatch, UnknownArchitecture.
        """
        options = EngineOptions(threads=threads, precision=precision)
        embeds = OpenVinoEngine.open(_read(recogniser, "recognition"), cache_dir, options)
        options = replace(options, parallel=threads)
        found = _read(detector, "detection")
        finds, looks = OpenVinoEngine.open(found, cache_dir, options), found.further_looks()
        return cls(
            embeds,
            finds,
            finds if looks is None else OpenVinoEngine.open(looks, cache_dir, options),
            limits,
            workers=threads,
            waiting=waiting,
            score_threshold=score_threshold,
            watcher=watcher,
        )

    @property
    def calibration(self) -> Calibration | None:
        """What the recogniser's cosines mean; None for a checkpoint that was never calibrated."""
        return self.metadata.calibration

    async def detect(self, data: bytes, max_faces: int) -> AnalysedPhoto:
        """The `max_faces` largest faces of a photo, without embeddings. Raises ImageError, Overloaded."""
        return self._told(await self._find(data, max_faces))

    async def analyse(self, data: bytes, max_faces: int) -> AnalysedPhoto:
        """The `max_faces` largest faces of a photo, with embeddings. Raises ImageError, Overloaded."""
        found = await self._find(data, max_faces)
        crops = [crop for _, _, crop in found.faces if crop is not None]
        if not crops:
            return self._told(found)
        with found.timeline.stage("embed"):
            raw = await asyncio.wrap_future(self._batcher.submit(np.stack(crops)))
        rows = iter(zip(unit(raw), self._recognisability(raw), strict=True))
        return self._told(found, [None if crop is None else next(rows) for _, _, crop in found.faces])

    @property
    def photos_pending(self) -> int:
        """Photos that are worked on or wait."""
        return self._pending

    @property
    def faces_waiting(self) -> int:
        """Faces that wait for a batch."""
        return self._batcher.waiting

    def check(self) -> None:
        """Run the networks on their probes once more. Raises ProbeMismatch."""
        self._recogniser.check()
        self._detector.check()
        if self._looks is not self._detector:
            self._looks.check()

    def close(self) -> None:
        """Finish what has begun, refuse what comes."""
        self._pool.shutdown(cancel_futures=True)
        self._batcher.close()

    def _recognisability(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network says of its own faces, (N,) in [0, 1]; 1 for a checkpoint that never learned to."""
        model = self.metadata.quality
        return np.ones(len(raw), np.float32) if model is None else model.score(raw)

    async def _find(self, data: bytes, max_faces: int) -> _Found:
        return await asyncio.wrap_future(self._submit(lambda: self._look(data, max_faces)))

    def _submit(self, work: Callable[[], _Found]) -> Future[_Found]:
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many photos wait already; try again")
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._places.release()
            raise Overloaded("the service is shutting down") from error
        with self._counting:
            self._pending += 1
        future.add_done_callback(lambda _: self._leave())
        return future

    def _leave(self) -> None:
        with self._counting:
            self._pending -= 1
        self._places.release()

    def _told(self, found: _Found, embedded: list[_Embedded | None] | None = None) -> AnalysedPhoto:
        self._watcher.stages(found.timeline.spans)
        self._watcher.photo(len(found.faces))
        return _photo(found, embedded)

    def _look(self, data: bytes, max_faces: int) -> _Found:
        """Decode, detect, align and judge one photo, in a thread of the pool."""
        timeline = Timeline()
        with timeline.stage("decode"):
            photo = decode(data, self._limits, _ENOUGH_TO_DETECT)
        with timeline.stage("detect"):
            least = candidate_threshold(self._score_threshold)
            found = find_faces(photo.pixels, self._detector, score_threshold=least)
            candidates = sorted(found, key=_area, reverse=True)[: max_faces + _SPARE]
        if any(_wants_more_pixels(photo, face) for face in candidates[:max_faces]):
            with timeline.stage("decode"):
                candidates = [_rescaled(face, photo.scale) for face in candidates]
                photo = decode(data, self._limits)
        with timeline.stage("align"):
            faces = confirm(
                photo.pixels, candidates, self._looks, score_threshold=self._score_threshold, max_faces=max_faces
            )
            judged = [_judge(photo, face) for face in faces]
        return _Found(photo, judged, timeline, hashlib.sha256(data).hexdigest())


def _read(path: Path, task: str) -> checkpoint.Checkpoint:
    loaded = checkpoint.read(path)
    if loaded.metadata.task != task:
        raise CheckpointError(f"{path.name}: a checkpoint for {loaded.metadata.task}, but {task} is needed")
    return loaded


def _embedding_size(metadata: Metadata) -> int:
    if metadata.embedding_size is None:
        raise CheckpointError(f"{checkpoint.model_id(metadata)}: its metadata names no embedding size")
    return metadata.embedding_size


def _area(face: Face) -> float:
    return face.box[2] * face.box[3]


def _wants_more_pixels(photo: Photo, face: Face) -> bool:
    """Whether a photo decoded at a reduced size has fewer pixels on the face than the crop."""
    return photo.scale != (1.0, 1.0) and min(face.box[2:]) < SIZE


def _rescaled(face: Face, scale: tuple[float, float]) -> Face:
    if scale == (1.0, 1.0):
        return face
    x, y, width, height = face.box
    box = (x * scale[0], y * scale[1], width * scale[0], height * scale[1])
    return replace(face, box=box, landmarks=face.landmarks * np.array(scale, dtype=np.float32))


def _judge(photo: Photo, face: Face) -> tuple[Face, Assessment, NDArray[np.uint8] | None]:
    """Align a face (in decoded pixels) and assess it; the face returned is in pixels of the whole photo."""
    whole = _rescaled(face, photo.scale)
    try:
        crop = align(photo.pixels, face.landmarks)
        return whole, assess(measure(whole, crop)), crop
    except DegenerateLandmarks:
        return whole, Assessment(0.0, ("low_quality",)), None


def _photo(found: _Found, embedded: list[_Embedded | None] | None = None) -> AnalysedPhoto:
    faces = []
    for (face, assessment, crop), row in zip(found.faces, embedded or [None] * len(found.faces), strict=True):
        embedding, recognisability = (None, 1.0) if row is None else row
        quality = assessment.quality * float(recognisability)
        faces.append(AnalysedFace(face, quality, assessment.reasons, embedding, crop))
    return AnalysedPhoto(
        found.photo.width, found.photo.height, tuple(faces), found.timeline.milliseconds(), found.digest
    )
