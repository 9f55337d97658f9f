"""Every family of backbones: published sizes, shapes, gradients, checkpoints, and the same answer when exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch import nn

from models import checkpoint
from models.checkpoint import Metadata
from models.export import export_openvino
from models.network import instantiate, torch_forward, weights_of
from models.onnx_export import export_onnx
from models.registry import UnknownArchitecture, build, names

# One small member of each family and of each option; a large patch leaves a ViT few tokens.
MEMBERS: list[tuple[str, dict[str, Any]]] = [
    ("deepid", {"embedding_size": 300, "patches": "ten"}),
    ("mobilefacenet", {"embedding_size": 32, "pooling": "spp"}),
    ("iresnet18-se", {"embedding_size": 32}),
    ("iresnet18-cbam", {"embedding_size": 32, "pooling": "spp", "context": "dilated"}),
    ("vit-s", {"embedding_size": 32, "patch": 28}),
]
IDS = ["-".join([name, *(str(value) for value in arguments.values())]) for name, arguments in MEMBERS]


def _parameters(name: str, **arguments: Any) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build(name, **arguments).parameters())


def _iresnet(units: tuple[int, ...], *, attention: int = 0, spatial: int = 0) -> int:
    """Parameters at 512-d, added up from the definition; attention: weights a squared width, spatial: a unit."""
    total, inputs = 3 * 64 * 9 + 3 * 64, 64
    for count, width in zip(units, (64, 128, 256, 512), strict=True):
        for unit in range(count):
            total += 2 * inputs + 9 * inputs * width + 3 * width + 9 * width * width + 2 * width
            total += width * width // 16 * attention + spatial
            total += inputs * width + 2 * width if unit == 0 else 0
            inputs = width
    return total + 2 * 512 + 512 * 49 * 512 + 512 + 2 * 512


@pytest.mark.parametrize(
    ("depth", "units", "millions"),
    [
        (18, (2, 2, 2, 2), 24.03),
        (34, (3, 4, 6, 3), 34.14),
        (50, (3, 4, 14, 3), 43.59),
        (100, (3, 13, 30, 3), 65.16),
        (152, (3, 8, 36, 3), 70.77),
        (200, (6, 26, 60, 6), 118.83),
    ],
)
def test_iresnets_hold_what_their_definitions_add_up_to(depth: int, units: tuple[int, ...], millions: float) -> None:
    plain = _parameters(f"iresnet{depth}")
    assert plain == _iresnet(units)
    assert plain / 1e6 == pytest.approx(millions, abs=0.01)
    assert _parameters(f"iresnet{depth}-se") == _iresnet(units, attention=2)
    assert _parameters(f"iresnet{depth}-cbam") == _iresnet(units, attention=2, spatial=2 * 49)


def test_vits_hold_a_published_trunk_and_a_head_over_all_tokens() -> None:
    # 21.3 M and 85.1 M in the twelve blocks, as DeiT's table 1 rounds with its ImageNet head to 22 M and 86 M.
    for name, width, trunk in (("vit-s", 384, 21.3), ("vit-b", 768, 85.1)):
        blocks = 12 * (12 * width * width + 13 * width)
        assert blocks / 1e6 == pytest.approx(trunk, abs=0.1)
        before = 3 * 64 * width + width + 196 * width
        head = 2 * width + 196 * width * width + 2 * width + 512 * width + 2 * 512
        assert _parameters(name) == before + blocks + head


def test_a_deepid_convnet_has_the_maps_of_the_papers_figure() -> None:
    """39x31 -> 20 of 36x28 -> 40 of 16x12 -> 60 of 6x4 -> 80 of 2x1, and 160 features of the last two."""
    convnet = build("deepid").convnets[0]
    shapes: list[tuple[int, ...]] = []
    for layer in (convnet.first[0], convnet.second[0], convnet.third[0], convnet.fourth[0], convnet.features):
        layer.register_forward_hook(lambda _layer, _inputs, output: shapes.append(tuple(output.shape[1:])))
    convnet(torch.zeros(1, 3, 39, 31))
    assert shapes == [(20, 36, 28), (40, 16, 12), (60, 6, 4), (80, 2, 1), (160,)]
    assert convnet.features.in_features == 60 * 3 * 2 + 80 * 2 * 1


def test_deepid_patches_see_their_own_regions() -> None:
    torch.manual_seed(0)
    network = build("deepid", embedding_size=1600, patches="ten").eval()
    image = torch.rand(1, 3, 112, 112)
    altered = image.clone()
    altered[:, :, :30, :30] = 0  # the upper left corner: hair
    parts = (network(image) - network(altered)).detach().abs().view(10, 160).amax(1) > 0
    # whole, upper, lower, left, right; left eye, right eye, nose, mouth corners
    assert parts.tolist() == [True, True, True, True, False, True, False, False, False, False]


@pytest.mark.parametrize("size", [0, 95, 5])
def test_deepid_refuses_a_size_that_its_patches_cannot_share(size: int) -> None:
    with pytest.raises(ValueError, match=f"10 patches cannot share {size}"):
        build("deepid", embedding_size=size, patches="ten")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("deepid", {"patches": "two"}),
        ("iresnet18", {"pooling": "mean"}),
        ("iresnet18", {"context": "wide"}),
        ("mobilefacenet", {"pooling": "flatten"}),
    ],
)
def test_an_unknown_option_is_refused_with_the_known_ones(name: str, arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments.values()))}.*known:"):
        build(name, **arguments)


def test_attention_is_chosen_by_name_alone() -> None:
    with pytest.raises(UnknownArchitecture, match="attention"):
        build("iresnet18-se", attention="cbam")
    assert {"iresnet200-se", "iresnet18-cbam", "deepid", "vit-s", "vit-b"} <= set(names())


@pytest.mark.parametrize(("name", "arguments"), MEMBERS, ids=IDS)
def test_every_weight_gets_a_gradient(name: str, arguments: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build(name, **arguments)
    output = network(torch.rand(4, 3, 112, 112) * 2 - 1)
    assert output.shape == (4, arguments["embedding_size"])
    (output * torch.randn_like(output)).sum().backward()
    missing = [key for key, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)
    moved = [key for key, p in network.named_parameters() if p.requires_grad and p.grad.abs().max() > 0]
    # A dilated unit starts as the identity: only its last scale and shift have a slope at first.
    still = {key for key, _ in network.named_parameters()} - set(moved)
    assert {key for key in still if not key.startswith("context.")} <= {"normalisation.weight", "embedding.bias"}


@pytest.mark.parametrize(("name", "arguments"), MEMBERS, ids=IDS)
def test_a_checkpoint_and_its_graphs_give_the_same_embeddings(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    network = build(name, **arguments)
    planes = np.random.default_rng(0).uniform(-1, 1, (5, 3, 112, 112)).astype(np.float32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # so that the statistics become those of this batch
    with torch.no_grad():
        network.train()(torch.from_numpy(planes))
    size = arguments["embedding_size"]
    metadata = Metadata(task="recognition", name="t", architecture=name, arguments=arguments, embedding_size=size)
    checkpoint.write(tmp_path / "t.safetensors", weights_of(network.eval()), metadata)
    loaded = checkpoint.read(tmp_path / "t.safetensors")
    forward = torch_forward(instantiate(loaded))
    (expected,) = forward(planes)
    np.testing.assert_array_equal(forward(planes)[0], expected)
    close = {"rtol": 1e-3, "atol": 1e-4 * float(np.abs(expected).max())}
    np.testing.assert_allclose(forward(planes[2:3])[0], expected[2:3], **close)
    # What was stored is the network, but for half precision's 11 bits, which random networks amplify.
    (original,) = torch_forward(network)(planes)
    cosine = (original * expected).sum(1) / np.linalg.norm(original, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.99
    export_openvino(loaded, tmp_path / "t.xml")
    compiled = openvino.Core().compile_model(tmp_path / "t.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(planes)[0], expected, **close)
    export_onnx(loaded, tmp_path / "t.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "t.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: planes})[0], expected, **close)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("mobilefacenet", {"pooling": "spp"}), ("iresnet18", {"pooling": "spp", "context": "dilated"})],
    ids=["mobilefacenet", "iresnet18"],
)
@pytest.mark.parametrize("size", [(112, 112), (144, 128), (97, 75)])
def test_pyramid_pooling_takes_any_input_size(name: str, arguments: dict[str, Any], size: tuple[int, int]) -> None:
    network = build(name, embedding_size=64, **arguments).eval()
    with torch.inference_mode():
        embeddings = network(torch.rand(2, 3, *size))
    assert embeddings.shape == (2, 64)
    assert embeddings.isfinite().all()


def test_a_global_depthwise_head_weighs_places_instead_of_connecting_them() -> None:
    network = build("iresnet18", pooling="gdc").eval()
    fewer = 512 * 49 * 512 - (512 * 49 + 2 * 512 + 512 * 512)
    assert sum(p.numel() for p in network.parameters()) == _parameters("iresnet18") - fewer
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 512)


def test_the_options_leave_older_checkpoints_as_they_were() -> None:
    with torch.device("meta"):
        iresnet, mobilefacenet = build("iresnet18").state_dict(), build("mobilefacenet").state_dict()
    assert {key.split(".")[0] for key in iresnet} == {"stem", "units", "head", "embedding", "normalisation"}
    assert {"head.0.weight", "units.0.layers.5.weight", "embedding.bias"} <= iresnet.keys()
    assert iresnet["embedding.weight"].shape == (512, 25088)
    assert {"pool.0.weight", "pool.1.running_var", "embedding.weight"} <= mobilefacenet.keys()


def test_a_vit_attends_as_the_equation_says() -> None:
    torch.manual_seed(0)
    attention = build("vit-s", patch=28).blocks[0].attention.double()
    x = torch.randn(2, 16, 384, dtype=torch.float64)
    weights, bias = attention.projections.weight, attention.projections.bias
    queries, keys, values = ((x @ weights.T + bias)[..., i * 384 : (i + 1) * 384] for i in range(3))
    heads = []
    for head in range(6):
        own = slice(head * 64, head * 64 + 64)
        scores = queries[..., own] @ keys[..., own].transpose(1, 2) / 8
        heads.append(torch.softmax(scores, dim=2) @ values[..., own])
    expected = torch.cat(heads, 2) @ attention.output.weight.T + attention.output.bias
    torch.testing.assert_close(attention(x), expected)


def test_a_vits_depth_is_stochastic_only_while_it_trains() -> None:
    torch.manual_seed(0)
    network = build("vit-s", patch=28, drop_path=0.5).eval()
    assert [round(block.drop_path.rate, 3) for block in network.blocks][:2] == [0.0, 0.045]
    assert network.blocks[-1].drop_path.rate == 0.5
    image = torch.rand(2, 3, 112, 112)
    torch.testing.assert_close(network(image), network(image), rtol=0, atol=0)
    for module in network.modules():
        if not isinstance(module, nn.BatchNorm1d):
            module.training = True
    assert not torch.equal(network(image), network(image))


@pytest.mark.parametrize("name", ["deepid", "iresnet18-cbam", "vit-s"])
def test_bf16_training_is_near_float32(name: str) -> None:
    torch.manual_seed(0)
    arguments = {"patch": 28} if name == "vit-s" else {}
    network, images = build(name, **arguments), torch.rand(4, 3, 112, 112) * 2 - 1
    expected = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images).float()
    assert nn.functional.cosine_similarity(output, expected).min() > 0.97
