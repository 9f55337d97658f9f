"""A checkpoint as a graph for other engines: written only after it has proven itself against torch."""

from __future__ import annotations

import enum
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import checkpoint as checkpoints
from models.checkpoint import Checkpoint
from models.faces import Forward
from models.network import instantiate, torch_forward
from models.onnx_export import INPUT, METADATA_KEY, export_onnx, output_names
from training.evaluation import machine
from training.evaluation.peers import open_onnx
from training.network_inputs import images_in, network_inputs, spread
from training.quantisation import quantise
from training.quantisation_report import measure_detector, measure_pairs, measure_recogniser

COSINE = 0.9999
RELATIVE = 1e-3
"""What float32 engines must keep to: the cosine of any output with torch's, and the largest difference by the
largest output."""
INT8_COSINE = 0.95
INT8_FOUND = 0.9
"""What int8 must keep to: the mean cosine of embeddings with float32's; a detector's share of float32's faces."""
INT8_IMAGES = 64
"""Fewer images than this say too little of the activations' ranges; every fourth is kept back to measure by."""
_CALIBRATED, _CHECKED, _MEASURED = 256, 32, 128


class Format(enum.Enum):
    """The kinds of graph, and the ending of their files."""

    ONNX = ".onnx"
    OPENVINO = ".xml"


class ExportError(ValueError):
    """A checkpoint cannot be exported as asked; the message says why and what would help."""


class ParityError(ExportError):
    """The graph does not compute what the checkpoint does; no file was left."""


@dataclass(frozen=True)
class Parity:
    """How far a graph is from torch on the same inputs: over all outputs of all images."""

    minimum_cosine: float
    max_abs_difference: float
    relative_difference: float


@dataclass(frozen=True)
class _Images:
    """The images that the caller gave, and the list of pairs of them."""

    folder: Path
    paths: list[Path]
    pairs: Path | None


def export(
    source: Path,
    target: Path,
    kind: Format,
    *,
    images: Path | None = None,
    int8: bool = False,
    pairs: Path | None = None,
) -> dict[str, Any]:
    """Write the checkpoint `source` as the graph `target` and say how well the graph agrees.

    images: folder, searched in depth, of aligned crops (a detector: whole photos) to compare on; without it
    invented ones. int8 needs it: three quarters calibrate, the rest measures. pairs: a list of pairs of `images`
    to verify with float32 and int8. Raises ExportError, ParityError, CheckpointError, EvaluationError,
    PairsError; whatever is raised, `target` is as it was before.
    """
    if target.suffix != kind.value:
        raise ExportError(f"{target}: a graph for {kind.name.lower()} is a file *{kind.value}")
    if int8 and images is None:
        raise ExportError("int8 needs images to calibrate on: aligned crops, or photos for a detector")
    if pairs is not None and not int8:
        raise ExportError("pairs compare float32 with int8; ask for int8 too")
    loaded = checkpoints.read(source)
    if pairs is not None and loaded.metadata.task == "detection":
        raise ExportError(f"{source}: a detector verifies no pairs")
    paths = [] if images is None else images_in(images)
    if int8 and len(paths) < INT8_IMAGES:
        raise ExportError(f"{images}: {len(paths)} images are too few for int8; give {INT8_IMAGES} or more")
    reference = torch_forward(instantiate(loaded))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as scratch:
        written = Path(scratch) / target.name
        write_graph(loaded, written, kind)
        measured = check_parity(reference, open_graph(written, kind), network_inputs(loaded, spread(paths, _CHECKED)))
        report: dict[str, Any] = {
            "model": loaded.model_id,
            "format": kind.name.lower(),
            "file": str(target),
            "checked_on": f"{images}: {min(len(paths), _CHECKED)} images" if paths else "invented images",
            "parity": vars(measured),
        }
        if int8 and images is not None:
            written, report["int8"] = _to_int8(loaded, written, kind, _Images(images, paths, pairs))
        report["bytes"] = sum(path.stat().st_size for path in _files(written))
        for path in _files(written):
            shutil.move(path, target.with_suffix(path.suffix))
    return {**report, "machine": machine.describe()}


def write_graph(loaded: Checkpoint, path: Path, kind: Format) -> None:
    """The float32 graph with the checkpoint's metadata in it. Raises ExportError without the package it needs."""
    if kind is Format.ONNX:
        export_onnx(loaded, path)
        return
    openvino = _openvino()
    _save_openvino(loaded, openvino.openvino_graph(loaded), path)


def open_graph(path: Path, kind: Format) -> Forward:
    """The graph under its own engine, on one thread, float32 where the graph says nothing else."""
    if kind is Format.ONNX:
        session = open_onnx(path, threads=1)
        name = session.get_inputs()[0].name
        return lambda planes: session.run(None, {name: planes})
    core = _openvino().openvino.Core()
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(path), "CPU", properties)

    def forward(planes: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        results = compiled([planes])
        return [np.array(results[output], dtype=np.float32) for output in compiled.outputs]

    return forward


def check_parity(reference: Forward, exported: Forward, batches: Iterable[NDArray[np.float32]]) -> Parity:
    """Compare two engines on batches of (N, 3, H, W). Raises ParityError beyond COSINE or RELATIVE."""
    cosine, difference, largest = 1.0, 0.0, 0.0
    for planes in batches:
        for ours, theirs in zip(exported(planes), reference(planes), strict=True):
            if ours.shape != theirs.shape:
                raise ParityError(f"the graph gives {ours.shape} where torch gives {theirs.shape}; nothing was written")
            one, other = (np.asarray(rows, np.float64).reshape(len(planes), -1) for rows in (ours, theirs))
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            cosines = np.einsum("nd,nd->n", one, other) / np.maximum(lengths, 1e-30)
            # np.minimum and np.maximum hand NaN on, where min and max may lose it.
            cosine = float(np.minimum(cosine, cosines.min()))
            difference = float(np.maximum(difference, np.abs(one - other).max()))
            largest = float(np.maximum(largest, np.abs(other).max()))
    parity = Parity(cosine, difference, difference / max(largest, 1e-30))
    if not (cosine >= COSINE and parity.relative_difference <= RELATIVE):
        raise ParityError(
            f"the graph deviates from torch: cosine {cosine:.6f} (at least {COSINE}), largest difference "
            f"{parity.relative_difference:.2g} of the largest output (at most {RELATIVE:g}); nothing was written"
        )
    return parity


def _to_int8(loaded: Checkpoint, float32: Path, kind: Format, images: _Images) -> tuple[Path, dict[str, Any]]:
    """The int8 graph below `float32`'s folder, and what it costs. Raises ExportError when that is too much."""
    folder = float32.parent / "int8"
    folder.mkdir()
    calibrated = spread([path for number, path in enumerate(images.paths) if number % 4 != 3], _CALIBRATED)
    measured = spread(images.paths[3::4], _MEASURED)
    float_onnx, int8_onnx = float32, folder / "quantised.onnx"
    if kind is not Format.ONNX:
        float_onnx = folder / "float32.onnx"
        export_onnx(loaded, float_onnx)
    quantise(float_onnx, int8_onnx, network_inputs(loaded, calibrated))
    written = folder / float32.name
    if kind is Format.ONNX:
        int8_onnx.replace(written)
    else:
        _save_openvino(loaded, _openvino().openvino.Core().read_model(int8_onnx), written)
    before, after = open_graph(float32, kind), open_graph(written, kind)
    if loaded.metadata.task == "recognition":
        figures = measure_recogniser(before, after, loaded.metadata.flip_average, measured)
        if images.pairs is not None:
            figures["verification"] = measure_pairs(
                before, after, loaded.metadata.flip_average, images.folder, images.pairs, calibrated
            )
        kept, least, what = figures["cosine_mean"], INT8_COSINE, "mean cosine with float32"
    else:
        figures = measure_detector(before, after, measured)
        kept, least, what = figures["found_share"], INT8_FOUND, "share of float32's faces found"
    if not kept >= least:
        raise ExportError(f"int8 loses too much: {what} {kept:.3f}, at least {least}; nothing was written")
    return written, {"calibrated_on": len(calibrated), "measured_on": len(measured), **figures}


def _files(path: Path) -> list[Path]:
    """The files of a graph, the one that is looked for last."""
    return [path] if path.suffix == Format.ONNX.value else [path.with_suffix(".bin"), path]


def _openvino() -> Any:
    try:
        from models import export as openvino_export
    except ImportError as error:
        raise ExportError("OpenVINO is not installed: pip install 'facemargin[serve]'") from error
    return openvino_export


def _save_openvino(loaded: Checkpoint, graph: Any, path: Path) -> None:
    """Write an OpenVINO graph with the names and the metadata that its ONNX form would have."""
    graph.inputs[0].get_tensor().set_names({INPUT})
    for output, name in zip(graph.outputs, output_names(loaded), strict=True):
        output.get_tensor().set_names({name})
    graph.set_rt_info(loaded.metadata.model_dump_json(), METADATA_KEY)
    _openvino().save_openvino(graph, path)
