"""int8 layers of a graph: what a convolution gives by hand-rounded numbers, and nothing else than what was named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
import openvino
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.checkpoint import Checkpoint, CheckpointError, InputSpec, Metadata
from models.export import openvino_graph
from models.int8 import levels, quantise
from models.network import instantiate, weights_of
from models.registry import build

ARGUMENTS = {"stem": 8, "widths": [16, 32, 32], "blocks": [1, 1, 1], "pyramid": 16}
PLANES = np.random.default_rng(0).uniform(-1, 1, (2, 3, 64, 96)).astype(np.float32)


@pytest.fixture(scope="module")
def detector() -> Checkpoint:
    torch.manual_seed(0)
    network = build("centreface-fpn", **ARGUMENTS)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # that values are as large as in a trained network
    spec = InputSpec(width=96, height=64, alignment=None)
    metadata = Metadata(task="detection", name="small", architecture="centreface-fpn", arguments=ARGUMENTS, input=spec)
    return Checkpoint(metadata, weights_of(network, np.float32))


def run(graph: openvino.Model) -> list[np.ndarray]:
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled([PLANES])
    return [results[output] for output in compiled.outputs]


def precisions(graph: openvino.Model) -> Counter[str]:
    """How many convolutions of the compiled graph compute in what."""
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    return Counter(
        node["runtimePrecision"].astype(str) for node in nodes if "Convolution" in node["layerType"].astype(str)
    )


def rounded(values: torch.Tensor, smallest: float, largest: float) -> torch.Tensor:
    step = (largest - smallest) / 255
    zero = round(-smallest / step)
    return ((values / step).round() + zero).clamp(0, 255).sub(zero) * step


def by_hand(detector: Checkpoint, ranges: dict[str, tuple[float, float]]) -> list[np.ndarray]:
    """torch's network with the weights of the named layers rounded, and what each of them and its neighbours read."""
    network = instantiate(detector)
    for name, (smallest, largest) in ranges.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Conv2d)
        width = layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        layer.weight = nn.Parameter((layer.weight / width).round() * width)
        READ[name](network, partial(rounded, smallest=smallest, largest=largest))
    with torch.inference_mode():
        return [output.numpy() for output in network(torch.from_numpy(PLANES))]


def at_entry(path: str) -> Callable[[nn.Module, Callable[[torch.Tensor], torch.Tensor]], object]:
    return lambda network, change: network.get_submodule(path).register_forward_pre_hook(lambda _, fed: change(*fed))


def at_exit(path: str) -> Callable[[nn.Module, Callable[[torch.Tensor], torch.Tensor]], object]:
    return lambda network, change: network.get_submodule(path).register_forward_hook(lambda *seen: change(seen[2]))


# Where the tensor that a layer reads is rounded for all that read it: a block's depthwise convolution and its sum read
# the block's input, the next stage and the pyramid the stage's output.
READ = {
    "stem.0": at_entry("stem"),
    "stage8.1.depthwise": at_entry("stage8.1"),
    "stage8.1.pointwise": at_entry("stage8.1.pointwise"),
    "stage16.0.depthwise": at_exit("stage8"),
    "stage16.0.pointwise": at_entry("stage16.0.pointwise"),
}


@pytest.mark.parametrize(
    "ranges",
    [
        {"stem.0": (-1.0, 1.0)},
        {"stage8.1.depthwise": (0.0, 3.0)},
        {"stage8.1.pointwise": (0.0, 2.0)},
        {"stage16.0.depthwise": (0.0, 4.0), "stage16.0.pointwise": (0.0, 2.5)},
    ],
)
def test_the_named_layers_round_their_inputs_and_weights(
    detector: Checkpoint, ranges: dict[str, tuple[float, float]]
) -> None:
    graph = openvino_graph(detector)
    exact, expected, found = run(graph), by_hand(detector, ranges), run(quantise(graph, ranges))
    for one, hand, other in zip(exact, expected, found, strict=True):
        rounding = np.abs(hand - one).mean()
        assert rounding > 0
        # Values midway between two levels may go either way.
        assert np.abs(other - hand).mean() < 0.2 * rounding


def test_only_the_named_layers_compute_in_int8(detector: Checkpoint) -> None:
    graph = openvino_graph(detector)
    (before,) = precisions(graph).items()
    ranges = dict.fromkeys(("stage8.1.depthwise", "stage8.1.pointwise", "stage16.0.depthwise"), (0.0, 3.0))
    after = precisions(quantise(graph, ranges))
    assert before[0] == "f32"
    assert after["f32"] == before[1] - len(ranges)
    assert after.total() == before[1]
    assert dict([before]) == precisions(graph)


def test_a_range_of_no_convolution_is_refused(detector: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match=r"int8_ranges.*'stage9.depthwise'"):
        quantise(openvino_graph(detector), {"stage8.1.depthwise": (0.0, 1.0), "stage9.depthwise": (0.0, 1.0)})


@given(st.floats(-100, 100), st.floats(0, 100))
def test_zero_is_a_level_and_nothing_is_cut_off_by_more_than_one(smallest: float, width: float) -> None:
    low, high = levels(smallest, smallest + width)
    step = (float(high) - float(low)) / 255
    assert step > 0
    assert -float(low) / step == pytest.approx(round(-float(low) / step), abs=1e-3)
    assert low <= 0 <= high
    assert low <= smallest + step
    assert high >= smallest + width - step
