"""The CPU engine: a checkpoint's network as an OpenVINO graph, proven against the checkpoint's probe.

Measured on two AVX-512 cores: one dynamic graph is as fast as a graph compiled for each batch size or photo
shape (MobileFaceNet 2.2 ms a face at batch 1 on one thread, 1.3 ms at batch 16 on two), so there is one.

Networks may run in bf16 where the processor multiplies in it, and the layers that a checkpoint holds ranges of in int8:
half of the time. Of the recogniser's cosines on faces none moves by more than 0.04, r.m.s. 0.006
(`bench/recogniser.py`); what becomes of the detector's boxes and landmarks `bench/detector.py` measures.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import multiprocessing
import platform
import queue
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models import probe
from models.checkpoint import Checkpoint, Metadata, model_id
from models.int8 import quantise
from models.probe import ProbeMismatch
from models.quiet_openvino import openvino
from service.recognition.errors import EngineError, GraphDamaged, GraphMissing

logger = logging.getLogger(__name__)

# Part of the cache key: raise it when models.export writes another graph for the same checkpoint.
_GRAPH_VERSION: Final = 1
_GRAPH: Final = "graph.xml"
Precision = Literal["int8", "bf16", "f32"]
TOLERANCES: Final[dict[Precision, float]] = {
    "int8": probe.INT8_TOLERANCE,
    "bf16": probe.BF16_TOLERANCE,
    "f32": probe.TOLERANCE,
}


@dataclass(frozen=True)
class EngineOptions:
    """How a network is run.

    threads: cores it may use; parallel: calls that may run at the same time; precision: of what is multiplied, `auto`
    for the first of int8 (the layers that the checkpoint has ranges of), bf16 (where the processor has it) and f32 in
    which the network meets its probe.
    """

    threads: int = 1
    parallel: int = 1
    precision: Literal["auto", "f32"] = "f32"


class OpenVinoEngine:
    """A network in OpenVINO, callable as `models.faces.Forward` from any thread.

    At most `options.parallel` calls run at once; more wait for a free one.
    """

    def __init__(self, graph: openvino.Model, metadata: Metadata, options: EngineOptions, precision: Precision) -> None:
        self.metadata = metadata
        self.precision = precision
        if precision == "int8":
            graph = quantise(graph, metadata.int8_ranges or {})
        self._compiled = openvino.Core().compile_model(graph, "CPU", _properties(options, precision))
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(options.parallel):
            self._free.put(self._compiled.create_infer_request())

    @classmethod
    def open(cls, checkpoint: Checkpoint, cache_dir: Path, options: EngineOptions) -> OpenVinoEngine:
        """Run `checkpoint`, exporting its graph into `cache_dir` unless it lies there already.

        Raises GraphMissing (nothing cached and no torch to export with), GraphDamaged, ProbeMismatch,
        EngineError for a checkpoint without a probe, and what models.network.instantiate raises.
        """
        folder = cache_dir / _cache_key(checkpoint.metadata)
        if not (folder / _GRAPH).is_file():
            _export(checkpoint, folder)
        try:
            graph = openvino.Core().read_model(folder / _GRAPH)
        except RuntimeError:
            # A cache is never worth an outage: a graph that cannot be read is derived anew, once.
            _discard(folder)
            _export(checkpoint, folder)
            graph = _read_fresh(folder / _GRAPH)
        for precision in _quicker(checkpoint.metadata) if options.precision == "auto" else ():
            quick = cls(graph, checkpoint.metadata, options, precision)
            try:
                quick.check()
            except ProbeMismatch as mismatch:
                logger.info("%s does not run in %s: %s", checkpoint.model_id, precision, mismatch)
            else:
                return quick
        engine = cls(graph, checkpoint.metadata, options, "f32")
        engine.check()
        return engine

    def __call__(self, planes: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """Run the network on (N, 3, H, W) float32; its outputs, as arrays of the caller's own."""
        request = self._free.get()
        try:
            results = request.infer([planes], share_inputs=True)
            return [np.array(results[output], dtype=np.float32) for output in self._compiled.outputs]
        finally:
            self._free.put(request)

    def check(self) -> float:
        """Largest deviation from the checkpoint's probe. Raises ProbeMismatch, EngineError without one."""
        if self.metadata.probe is None:
            raise EngineError(
                f"{model_id(self.metadata)} holds no probe, so nothing proves that this engine runs it "
                "right; write the checkpoint again with `facemargin train`"
            )
        return probe.check(self, self.metadata.probe, TOLERANCES[self.precision])


def multiplies_in_bf16() -> bool:
    """Whether the processor has instructions for it: emulated, it is slower than f32."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _quicker(metadata: Metadata) -> Iterator[Precision]:
    """Precisions that may be quicker than f32, the quickest first."""
    # Elsewhere nothing is known of whether OpenVINO has integer kernels; without them int8 takes longer than f32.
    if metadata.int8_ranges and platform.machine() in ("x86_64", "AMD64"):
        yield "int8"
    if multiplies_in_bf16():
        yield "bf16"


def _properties(options: EngineOptions, precision: Precision) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": options.parallel,
        "INFERENCE_NUM_THREADS": max(options.threads, options.parallel),
        # Of the layers that int8 leaves.
        "INFERENCE_PRECISION_HINT": "bf16" if precision != "f32" and multiplies_in_bf16() else "f32",
        # Pinned threads of two engines, or of two servers, would all sit on the same cores.
        "ENABLE_CPU_PINNING": False,
    }


def _cache_key(metadata: Metadata) -> str:
    identity = [_GRAPH_VERSION, metadata.architecture, metadata.arguments, metadata.weights_sha256]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{metadata.name}-{digest[:16]}"


def _export(checkpoint: Checkpoint, folder: Path) -> None:
    """Derive the graph into `folder`, which appears whole or not at all, also under two processes at once."""
    if importlib.util.find_spec("torch") is None:
        raise GraphMissing(
            f"no exported graph of {checkpoint.model_id} in {folder.parent}, and torch, which exports it, is "
            "not installed: copy that folder from a machine with torch where `facemargin doctor` has filled "
            "it, or pip install 'facemargin[train]' here"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as scratch:
        fresh = Path(scratch) / folder.name
        # In a process of its own: a server would keep torch's hundreds of megabytes for good.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            exported = process.submit(_export_alone, checkpoint, fresh / _GRAPH)
        try:
            exported.result()
        except BrokenProcessPool as error:
            raise EngineError(
                f"the process that exports {checkpoint.model_id} died: give it 1 GB of memory, or, if a script "
                "of yours called this, put its calls under `if __name__ == '__main__':`"
            ) from error
        try:
            fresh.rename(folder)
        except OSError:
            # Another process was quicker; a folder that is there is whole, since it too came by rename.
            if not (folder / _GRAPH).is_file():
                raise


def _export_alone(checkpoint: Checkpoint, path: Path) -> None:
    import torch

    from models.export import export_openvino

    # Tracing runs many tiny operations: threads only wait for each other, five times as long on two cores.
    torch.set_num_threads(1)
    export_openvino(checkpoint, path)


def _discard(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".damaged-") as scratch:
        try:
            folder.rename(Path(scratch) / folder.name)
        except FileNotFoundError:
            return  # another process has discarded it already
        shutil.rmtree(Path(scratch) / folder.name)


def _read_fresh(path: Path) -> openvino.Model:
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise GraphDamaged(f"OpenVINO cannot read {path}, which was just exported: {error}") from error
