"""The detector's network: small, whole-image, the same under every engine."""

from __future__ import annotations

import pytest
import torch

from models.detector.decode import CHANNELS, STRIDES
from models.registry import build


def test_it_has_fewer_than_a_million_parameters() -> None:
    assert sum(p.numel() for p in build("centreface-fpn").parameters()) < 1_000_000


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 160), (320, 320)])
def test_three_maps_of_any_image(height: int, width: int) -> None:
    network = build("centreface-fpn").eval()
    maps = network(torch.zeros(2, 3, height, width))
    assert [tuple(m.shape) for m in maps] == [(2, CHANNELS, height // s, width // s) for s in STRIDES]


def test_a_lighter_one_has_a_smaller_first_filter_and_shorter_towers() -> None:
    light = build("centreface-fpn", stem_kernel=5, towers=[1, 2, 0]).eval()
    assert light.stem[0].weight.shape == (32, 3, 5, 5)
    assert [len(head.tower) for head in light.heads] == [1, 2, 0]
    maps = light(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(1, CHANNELS, 64 // s, 96 // s) for s in STRIDES]


def test_an_untrained_network_expects_few_faces() -> None:
    network = build("centreface-fpn").eval()
    with torch.no_grad():
        heat = torch.cat([m[:, 0].flatten() for m in network(torch.randn(1, 3, 64, 64))])
    assert heat.sigmoid().max() < 0.05


def test_every_weight_gets_a_gradient() -> None:
    network = build("centreface-fpn")
    sum(m.square().sum() for m in network(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_face_is_judged_within_the_whole_image() -> None:
    """The coarsest level's context reaches across a 320-pixel image: a far corner changes the middle."""
    torch.manual_seed(0)
    network = build("centreface-fpn").eval()
    image = torch.rand(1, 3, 320, 320, requires_grad=True)
    network(image)[2][0, 0, 5, 5].backward()
    touched = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (touched.amax(dim=0) - touched.amin(dim=0)).min() > 250
