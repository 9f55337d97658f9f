"""int8 arithmetic for some layers of an OpenVINO graph, by the ranges that a checkpoint holds of their inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import CheckpointError
from models.quiet_openvino import openvino

Ranges = Mapping[str, tuple[float, float]]
"""A convolution's path in the network, as `stage8.1.depthwise`, to the smallest and the largest value it is fed."""
_LEVELS = 256
_CONVOLUTIONS = {"Convolution": 1, "GroupConvolution": 2}
"""Kinds of node to the dimensions of their weights that number output channels."""


class UnknownLayer(CheckpointError):
    """A range is of no convolution of the graph; the message names it."""


def quantise(graph: openvino.Model, ranges: Ranges) -> openvino.Model:
    """A copy of the graph in which the layers named compute in int8, the others as before.

    Weights are symmetric, one scale a channel, inputs asymmetric with a zero that is a level, so that padding stays
    exact (Jacob et al. 2018, arXiv:1712.05877). A tensor that one such layer reads is rounded for all that read it:
    OpenVINO then hands it on as eight bits, where two copies would cost more than they save.

    The graph is of `models.export.openvino_graph`, which names nodes by their modules. Raises UnknownLayer.
    """
    from openvino import opset13 as ops  # not before quiet_openvino
    from openvino.passes import ConstantFolding, Manager

    quantised: openvino.Model = graph.clone()
    folding = Manager()
    folding.register_pass(ConstantFolding())  # weights of grouped convolutions are reshaped on the way
    folding.run_passes(quantised)
    left = set(ranges)
    for node in quantised.get_ordered_ops():
        path = node.get_friendly_name().removeprefix("__module.").partition("/")[0]
        if node.get_type_name() not in _CONVOLUTIONS or path not in ranges:
            continue
        left.remove(path)
        source = node.input_value(0)
        if source.get_node().get_type_name() != "FakeQuantize":
            low, high = levels(*ranges[path])
            readers = list(source.get_target_inputs())
            rounded = ops.fake_quantize(source, low, high, low, high, _LEVELS)
            for reader in readers:
                reader.replace_source_output(rounded.output(0))
        weights = node.input_value(1)
        channels = _CONVOLUTIONS[node.get_type_name()]
        largest = _largest(weights.get_node().data, channels)
        narrow = ops.fake_quantize(weights, -largest, largest, -largest, largest, _LEVELS - 1)
        node.input(1).replace_source_output(narrow.output(0))
    if left:
        raise UnknownLayer(f"int8_ranges: the network has no convolution {sorted(left)[0]!r}")
    quantised.validate_nodes_and_infer_types()
    return quantised


def levels(smallest: float, largest: float) -> tuple[np.float32, np.float32]:
    """The range widened to hold zero, and moved by less than a level so that zero is one of its 256 levels."""
    smallest, largest = min(smallest, 0.0), max(largest, 0.0)
    step = max(largest - smallest, 1e-6) / (_LEVELS - 1)
    zero = round(-smallest / step)
    return np.float32(-zero * step), np.float32((_LEVELS - 1 - zero) * step)


def _largest(weights: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """The largest magnitude of each output channel, in a shape that broadcasts; never zero."""
    rest = tuple(range(channels, weights.ndim))
    magnitudes: NDArray[np.float32] = np.abs(weights.astype(np.float32)).max(axis=rest, keepdims=True)
    return np.maximum(magnitudes, np.float32(1e-8))
