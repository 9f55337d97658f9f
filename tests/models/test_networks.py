"""Backbones by name: shapes, sizes of the published definitions, and the exported graph."""

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch

from models import checkpoint
from models.checkpoint import Metadata
from models.embedding import embed, normalise
from models.export import export_openvino
from models.layers.depthwise import StridedDepthwise
from models.network import instantiate, torch_forward, weights_of
from models.registry import UnknownArchitecture, build, names, register


# Parameter counts in millions, of arcface_torch's IResNets at 512-d and of the MobileFaceNet paper's table 1.
@pytest.mark.parametrize(
    ("name", "millions"),
    [("mobilefacenet", 1.20), ("iresnet18", 24.03), ("iresnet34", 34.14), ("iresnet50", 43.59), ("iresnet100", 65.16)],
)
def test_a_backbone_is_the_published_one(name: str, millions: float) -> None:
    network = build(name, embedding_size=512).eval()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 512)


def test_an_unknown_name_or_argument_is_refused_by_name() -> None:
    with pytest.raises(UnknownArchitecture, match="iresnet18"):
        build("resnet")
    with pytest.raises(UnknownArchitecture, match="depthh"):
        build("mobilefacenet", depthh=3)
    with pytest.raises(ValueError, match="twice"):
        register("mobilefacenet")(object)
    assert names() == sorted(names())


def test_a_strided_depthwise_convolution_under_bf16_is_the_float32_one() -> None:
    torch.manual_seed(0)
    layer = StridedDepthwise(8, 8, 3, 2, 1, groups=8, bias=False)
    x = torch.randn(2, 8, 14, 14)
    expected = torch.nn.functional.conv2d(x, layer.weight, None, 2, 1, groups=8)
    torch.testing.assert_close(layer(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x), expected)


def test_the_openvino_graph_computes_what_torch_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("mobilefacenet", embedding_size=64).eval()
    metadata = Metadata(
        task="recognition", name="t", architecture="mobilefacenet", arguments={"embedding_size": 64}, embedding_size=64
    )
    written = checkpoint.write(tmp_path / "t.safetensors", weights_of(network), metadata)
    export_openvino(written, tmp_path / "cache" / "t.xml")
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["t.bin", "t.xml"]
    compiled = openvino.Core().compile_model(tmp_path / "cache" / "t.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    planes = np.random.default_rng(0).uniform(-1, 1, (3, 3, 112, 112)).astype(np.float32)
    (expected,) = torch_forward(instantiate(written))(planes)
    np.testing.assert_allclose(compiled(planes)[0], expected, rtol=1e-3, atol=1e-3)


def test_embeddings_have_unit_length_and_the_mirror_image_shares_them() -> None:
    torch.manual_seed(0)
    forward = torch_forward(build("mobilefacenet", embedding_size=32).eval())
    crops = np.random.default_rng(1).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    embeddings = embed(crops, forward, flip_average=True)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(embed(crops[:, :, ::-1], forward, flip_average=True), embeddings, atol=1e-5)
    assert np.abs(embed(crops, forward, flip_average=False) - embeddings).max() > 1e-3


def test_pixels_become_minus_one_to_one_in_planes() -> None:
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, 0, 1] = (255, 127, 0)
    planes = normalise(image)
    assert planes.shape == (1, 3, 2, 2)
    np.testing.assert_allclose(planes[0, :, 0, 1], [1, -1 / 255, -1], atol=1e-6)
