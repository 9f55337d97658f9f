"""Other projects' networks (ONNX) behind our own interfaces, to be measured against or distilled from."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors
from PIL import Image

from models.detector.decode import distinct
from models.embedding import embed
from models.faces import Face

_UNREADABLE = (
    onnxruntime_errors.Fail,
    onnxruntime_errors.InvalidGraph,
    onnxruntime_errors.InvalidProtobuf,
    onnxruntime_errors.NotImplemented,
)


class PeerError(ValueError):
    """A peer's ONNX file is missing, unreadable or of another kind than asked for."""


def open_onnx(path: Path, threads: int, inner: Sequence[str] = ()) -> onnxruntime.InferenceSession:
    """An ONNX Runtime CPU session on `threads` threads, which gives `inner` tensors of the graph as further outputs.

    Raises PeerError naming the file.
    """
    if not path.is_file():
        raise PeerError(f"{path}: no such ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        graph = _with_outputs(path, inner) if inner else str(path)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except _UNREADABLE as error:
        raise PeerError(f"{path}: not a readable ONNX graph ({str(error)[:120]})") from error


def _with_outputs(path: Path, inner: Sequence[str]) -> bytes:
    model = onnx.load(path)
    tensors = {name for node in model.graph.node for name in node.output}
    if missing := [name for name in inner if name not in tensors]:
        raise PeerError(f"{path}: no tensor named {missing[0]!r} in its graph")
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    serialised: bytes = model.SerializeToString()
    return serialised


class Normalisation(enum.Enum):
    """What a peer's network expects of RGB pixels x in 0..255. The ONNX file does not say."""

    IMAGENET = "imagenet"
    """(x / 255 - mean) / deviation by ImageNet's channel statistics: `mobilefacenet_128.onnx`."""
    SYMMETRIC = "symmetric"
    """(x - 127.5) / 127.5, as InsightFace's and our own networks."""


_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


class OnnxRecogniser:
    """A face recogniser as an ONNX graph: RGB crops as NCHW in, one embedding out.

    A graph with a fixed batch dimension is fed in portions of that size. inner: names of tensors inside the graph
    that `forward` gives besides.
    """

    def __init__(
        self,
        path: Path,
        threads: int = 1,
        normalisation: Normalisation = Normalisation.IMAGENET,
        inner: Sequence[str] = (),
    ) -> None:
        self._session = open_onnx(path, threads, inner)
        self._input = self._session.get_inputs()[0]
        if len(self._input.shape) != 4 or len(self._session.get_outputs()) != 1 + len(inner):
            raise PeerError(f"{path}: expected a recogniser with one image input and one output")
        self._normalisation = normalisation
        self.name = path.stem

    def forward(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """A `models.faces.Forward`: (N, 3, H, W) float32 RGB in [-1, 1] -> [(N, D) float32], any length, and what
        was asked for of the inside, (N, C, h, w) each.

        The input is normalised as our networks' is, and turned into the peer's normalisation here.
        """
        if self._normalisation is Normalisation.IMAGENET:
            images = (((images + 1) / 2 - _IMAGENET_MEAN) / _IMAGENET_DEVIATION).astype(np.float32, copy=False)
        fixed = self._input.shape[0]
        portion = fixed if isinstance(fixed, int) else max(len(images), 1)
        outputs = []
        for start in range(0, len(images), portion):
            part = images[start : start + portion]
            fed = np.concatenate([part, np.zeros((portion - len(part), *part.shape[1:]), np.float32)])
            outputs.append([output[: len(part)] for output in self._session.run(None, {self._input.name: fed})])
        return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]

    def embed(self, crops: NDArray[np.uint8], flip_average: bool = True) -> NDArray[np.float32]:
        """(N, 112, 112, 3) uint8 RGB -> (N, D) float32 of unit length."""
        return embed(crops, self.forward, flip_average)


class Yunet:
    """YuNet (Wu et al., Machine Intelligence Research 2023) with its own decoding: one anchor a cell.

    inner: names of tensors inside the graph that `inside` gives.
    """

    STRIDES = (8, 16, 32)

    def __init__(self, path: Path, threads: int = 1, inner: Sequence[str] = ()) -> None:
        self._session = open_onnx(path, threads, inner)
        self._inner = tuple(inner)
        names = {output.name for output in self._session.get_outputs()}
        wanted = {f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in self.STRIDES}
        if names != wanted | set(inner):
            raise PeerError(f"{path}: not a YuNet graph, its outputs are {', '.join(sorted(names))}")
        shape = self._session.get_inputs()[0].shape
        self._fixed = shape[2] if isinstance(shape[2], int) else None
        self.name = path.stem

    def find(self, image: NDArray[np.uint8], *, score_threshold: float = 0.3, max_side: int = 640) -> list[Face]:
        """Faces of an (H, W, 3) uint8 RGB image, best first, in its pixels; IoU > 0.3 is suppressed.

        An image is only ever shrunk (to `max_side`, or the graph's own size), never enlarged.
        """
        scale = min(1.0, (self._fixed or max_side) / max(image.shape[:2]))
        fed = self._prepare(image, scale)
        boxes, landmarks, scores = decode_yunet(yunet_maps(self._run(fed), *fed.shape[2:]), score_threshold)
        keep = distinct(boxes, scores, overlap_limit=0.3)
        return [
            Face(
                tuple((boxes[i] / scale).tolist()),
                (landmarks[i] / scale).astype(np.float32),
                float(scores[i]),
            )
            for i in keep
        ]

    def maps(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """What every cell says of an (H, W, 3) uint8 RGB image whose sides are multiples of 32, not shrunk.

        A (15, H/s, W/s) map for each stride s: score in [0, 1], then in pixels the box's centre x, y, width, height
        and five landmarks x, y.
        """
        return self.inside(image)[0]

    def inside(self, image: NDArray[np.uint8]) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """`maps`, and of the same run the inner tensors (C, h, w)."""
        fed = self._prepare(image, scale=1.0)
        outputs = self._run(fed)
        return yunet_maps(outputs, *fed.shape[2:]), [outputs[name][0] for name in self._inner]

    def _run(self, fed: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(None, {"input": fed}), strict=True))

    def _prepare(self, image: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
        height, width = (max(1, round(side * scale)) for side in image.shape[:2])
        if scale < 1.0:
            image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
        padded_height, padded_width = (self._fixed or math.ceil(side / 32) * 32 for side in (height, width))
        padded = np.zeros((1, 3, padded_height, padded_width), np.float32)
        padded[0, :, :height, :width] = image[..., ::-1].transpose(2, 0, 1)  # BGR, 0..255
        return padded


def yunet_maps(outputs: dict[str, NDArray[np.float32]], height: int, width: int) -> list[NDArray[np.float32]]:
    """YuNet's outputs for an input of `height` x `width` as `Yunet.maps` gives them.

    A cell (c, r) of stride s says: score sqrt(cls * obj), centre ((c, r) + t) s, size exp(u) s.
    """
    return [_yunet_level(outputs, stride, height // stride, width // stride) for stride in Yunet.STRIDES]


def _yunet_level(outputs: dict[str, NDArray[np.float32]], stride: int, rows: int, columns: int) -> NDArray[np.float32]:
    likelihood, objectness, box, points = (
        outputs[f"{kind}_{stride}"][0].T.reshape(-1, rows, columns) for kind in ("cls", "obj", "bbox", "kps")
    )
    cells = np.mgrid[:rows, :columns][::-1].astype(np.float32)  # x, y
    maps = np.empty((15, rows, columns), np.float32)
    maps[:1] = np.sqrt(np.clip(likelihood * objectness, 0.0, 1.0))
    maps[1:3] = (cells + box[:2]) * stride
    maps[3:5] = np.exp(box[2:]) * stride
    maps[5:] = (points.reshape(5, 2, rows, columns) + cells).reshape(10, rows, columns) * stride
    return maps


def decode_yunet(
    maps: list[NDArray[np.float32]], score_threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Boxes (N, 4) as x, y, width, height, landmarks (N, 5, 2), scores (N,) of all cells that reach the threshold."""
    said = np.concatenate([level[:, level[0] >= score_threshold].T for level in maps])
    boxes = np.concatenate([said[:, 1:3] - said[:, 3:5] / 2, said[:, 3:5]], axis=1)
    return boxes, said[:, 5:].reshape(-1, 5, 2), said[:, 0]


def open_peer(
    path: Path, threads: int = 1, normalisation: Normalisation = Normalisation.IMAGENET
) -> OnnxRecogniser | Yunet:
    """An ONNX file as what its outputs say it is: one output is a recogniser, YuNet's twelve a detector."""
    outputs = len(open_onnx(path, threads).get_outputs())
    return OnnxRecogniser(path, threads, normalisation) if outputs == 1 else Yunet(path, threads)
