"""int8 after training: ranges of the activations from real inputs, eight-bit weights a channel."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.onnx_export import INPUT


class _Inputs:
    """What ONNX Runtime's calibration asks for: one feed at a time, then None."""

    def __init__(self, batches: Iterable[NDArray[np.float32]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        planes = next(self._batches, None)
        return None if planes is None else {INPUT: planes}


def quantise(source: Path, target: Path, batches: Iterable[NDArray[np.float32]]) -> None:
    """Write the ONNX graph `source` with int8 arithmetic, calibrated on `batches` of (N, 3, H, W) float32.

    Static and symmetric in the weights (one scale a channel), asymmetric in the activations, whose ranges are
    the smallest and largest values seen (Jacob et al. 2018, arXiv:1712.05877). The graph keeps QuantizeLinear and
    DequantizeLinear nodes, which ONNX Runtime and OpenVINO both turn into integer kernels.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Inputs(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Seven bits a weight: with eight, processors without VNNI saturate their 16-bit sums in silence.
            reduce_range=True,
        )
