"""Layers against their equations, computed here another way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.layers.attention import BlockAttention, SqueezeExcitation
from models.layers.dilated import DilatedContext
from models.layers.drop_path import DropPath
from models.layers.local import LocallySharedConvolution
from models.layers.pooling import GlobalDepthwise, PyramidPooling
from models.layers.resampling import Region


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def _gate(layer: nn.Sequential, summary: Tensor) -> Tensor:
    """W2 relu(W1 z) with the layer's weights as matrices."""
    first, second = layer[0].weight.flatten(1), layer[2].weight.flatten(1)
    return (summary @ first.T).clamp_min(0) @ second.T


def test_squeeze_and_excitation_gates_channels_by_their_means() -> None:
    layer, x = SqueezeExcitation(32).double(), torch.randn(3, 32, 5, 4, dtype=torch.float64)
    gate = 1 / (1 + torch.exp(-_gate(layer.gate, x.flatten(2).mean(2))))
    torch.testing.assert_close(layer(x), torch.einsum("bchw,bc->bchw", x, gate))


def test_block_attention_gates_channels_and_then_places() -> None:
    layer, x = BlockAttention(32).double(), torch.randn(2, 32, 6, 5, dtype=torch.float64)
    channels, places = layer
    flat = x.flatten(2)
    gate = 1 / (1 + torch.exp(-_gate(channels.gate, flat.mean(2)) - _gate(channels.gate, flat.max(2).values)))
    weighed = torch.einsum("bchw,bc->bchw", x, gate)
    summary = torch.stack([weighed.mean(1), weighed.max(1).values], 1)
    padded = torch.zeros(2, 2, 12, 11, dtype=torch.float64)
    padded[:, :, 3:-3, 3:-3] = summary
    kernel = places.filter.weight[0]
    logits = torch.stack(
        [(padded[:, :, i : i + 7, j : j + 7] * kernel).sum((1, 2, 3)) for i in range(6) for j in range(5)], 1
    )
    expected = weighed / (1 + torch.exp(-logits)).view(2, 1, 6, 5)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("size", [(7, 7), (4, 9), (13, 6), (4, 4)])
def test_pyramid_pooling_gives_one_length_for_any_size(size: tuple[int, int]) -> None:
    layer, x = PyramidPooling((1, 2, 4)), torch.randn(2, 8, *size)
    expected = [nn.functional.adaptive_max_pool2d(x, level).flatten(1) for level in (1, 2, 4)]
    torch.testing.assert_close(layer(x), torch.cat(expected, 1))
    assert layer(x).shape == (2, 8 * layer.bins) == (2, 8 * 21)


def test_global_depthwise_weighs_every_place_of_every_channel() -> None:
    layer, x = GlobalDepthwise(16, 7).eval(), torch.randn(2, 16, 7, 7)
    weight = layer[0].weight[:, 0]
    # Batch norm in its first state divides by sqrt(1 + eps) alone.
    expected = torch.einsum("bchw,chw->bc", x, weight) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(layer(x).flatten(1), expected, rtol=1e-4, atol=1e-5)


def test_dilated_context_starts_as_identity_and_then_sees_the_whole_map() -> None:
    layer, x = DilatedContext(8).eval(), torch.randn(1, 8, 15, 15)
    torch.testing.assert_close(layer(x), x)
    for unit in layer:
        nn.init.ones_(unit.layers[-1].weight)
    x.requires_grad_()
    layer(x)[0, :, 7, 7].sum().backward()
    touched = x.grad.abs().sum(dim=(0, 1)).nonzero()
    assert touched.amin(0).tolist() == [1, 1]  # 1 + 2 + 3 places to each side of the middle
    assert touched.amax(0).tolist() == [13, 13]


@pytest.mark.parametrize("region", [1, 2])
def test_filters_are_shared_within_a_region_only(region: int) -> None:
    layer = LocallySharedConvolution(3, 5, kernel=2, size=(4, 6), region=region).double()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    blocks = (4 // region) * (6 // region)
    filters = layer.filters.weight.view(blocks, 5, 3, 2, 2)
    biases = layer.filters.bias.view(blocks, 5)
    expected = torch.zeros(2, 5, 4, 6, dtype=torch.float64)
    for row in range(4):
        for column in range(6):
            block = row // region * (6 // region) + column // region
            window = x[:, :, row : row + 2, column : column + 2]
            expected[:, :, row, column] = torch.einsum("bchw,ochw->bo", window, filters[block]) + biases[block]
    torch.testing.assert_close(layer(x), expected)


def test_a_region_is_cut_out_and_resampled_without_aliasing() -> None:
    image = torch.randn(2, 3, 12, 10)
    same = Region((0, 0, 12, 10), (12, 10), (12, 10))
    torch.testing.assert_close(same(image), image)
    cut = Region((3, 2, 6, 4), (6, 4), (12, 10))
    torch.testing.assert_close(cut(image), image[:, :, 3:9, 2:6])
    flat = Region((-2, 1.5, 13, 7.3), (5, 3), (12, 10))
    torch.testing.assert_close(flat(torch.full((1, 3, 12, 10), 0.7)), torch.full((1, 3, 5, 3), 0.7))
    small = Region((0, 0, 64, 64), (8, 8), (64, 64))
    photo = torch.rand(1, 3, 64, 64)
    reference = nn.functional.interpolate(photo, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(small(photo), reference)
    assert not same.state_dict()


def test_drop_path_leaves_out_whole_samples_and_keeps_the_expectation() -> None:
    layer, x = DropPath(0.25), torch.ones(4000, 3, 2)
    y = layer.train()(x)
    kept = y[:, 0, 0] != 0
    torch.testing.assert_close(y, torch.where(kept[:, None, None], x / 0.75, torch.zeros_like(x)))
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close(layer.eval()(x), x)
