"""The fused head: whatever the chunk the same loss, in the memory of centres and gradient; refusals by name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from training.heads.fused import FusedHead, Implementation
from training.heads.head import Head, UnsupportedHead
from training.heads.registry import HeadName, build_head
from training.heads.unit import normalise, pick
from training.losses.arcface import ArcFace
from training.losses.curricularface import CurricularFace
from training.losses.registry import OBJECTIVES, build_objective
from training.losses.subcenter_arcface import SubCenterArcFace


def _gradients(head: Head, embeddings: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    own = embeddings.clone().requires_grad_()
    loss = head(own, labels)
    return (loss.detach(), *torch.autograd.grad(loss, [own, head.centres]))


@pytest.mark.parametrize("chunk", [7, 64, 1000, 5000])
def test_float32_at_scale_64_is_within_rounding_of_float64_whatever_the_chunk(chunk: int) -> None:
    torch.manual_seed(0)
    embeddings, labels = torch.randn(16, 32), torch.randint(-1, 1000, (16,))
    exact = _gradients(build_head("dense", 32, 1000, ArcFace()).double(), embeddings.double(), labels)
    fused = _gradients(build_head("fused", 32, 1000, ArcFace(), chunk=chunk), embeddings, labels)
    for value, expected in zip(fused, exact, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["dense", "sharded", "sampled", "fused"])
def test_half_precision_embeddings_give_a_float32_loss_under_autocast(name: HeadName) -> None:
    torch.manual_seed(0)
    embeddings, labels = torch.randn(8, 16, dtype=torch.bfloat16), torch.randint(0, 50, (8,))
    exact = build_head("dense", 16, 50, ArcFace()).double()(embeddings.double(), labels)
    own = embeddings.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = build_head(name, 16, 50, ArcFace(), rate=1.0)(own, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert own.grad is not None
    assert own.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["dense", "sharded", "sampled", "fused"])
def test_a_label_that_is_no_class_is_refused(name: HeadName) -> None:
    with pytest.raises(ValueError, match="label 5: the head has the classes 0 to 4"):
        build_head(name, 3, 5, ArcFace())(torch.randn(2, 3), torch.tensor([1, 5]))


@pytest.mark.parametrize("name", ["dense", "sharded", "sampled", "fused"])
@pytest.mark.parametrize("objective", ["arcface", "softmax", "uniface", "curricularface"])
def test_a_single_class_and_a_zero_embedding_have_no_nan(name: HeadName, objective: str) -> None:
    head = build_head(name, 3, 1, build_objective(objective, classes=1), rate=1.0)
    embeddings = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    loss = head(embeddings, torch.tensor([0, 0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def test_unit_rows_and_their_gradient() -> None:
    rows = torch.tensor([[3.0, 4.0], [1e-3, -2e-3], [-5.0, 0.1]], dtype=torch.float64, requires_grad=True)
    unit, lengths = normalise(rows)
    torch.testing.assert_close(unit * lengths[:, None], rows)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.autograd.gradcheck(normalise, (rows,), eps=1e-8)


def test_picked_rows_add_to_the_gradient_of_the_whole() -> None:
    matrix = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([4, 0, 4])

    def both(matrix: torch.Tensor) -> torch.Tensor:
        picked, whole = pick(matrix, index)
        return (picked**3).sum() + (whole**2).sum()

    assert torch.autograd.gradcheck(both, (matrix,))


_PEAK = """
import torch
from pathlib import Path
from training.heads.registry import build_head
from training.losses.arcface import ArcFace

def kilobytes(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0])

def run(classes):
    head = build_head("fused", 128, classes, ArcFace(), chunk=256)
    embeddings = torch.randn(256, 128, requires_grad=True)
    head(embeddings, torch.randint(0, classes, (256,))).backward()
    return head.centres

torch.set_num_threads(1)
run(2000)
before = kilobytes("VmRSS")
centres = run(100_000)
print((kilobytes("VmHWM") - before) * 1024 / (centres.nbytes + centres.grad.nbytes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_centres_and_gradient() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", _PEAK], env=environment, capture_output=True, text=True, check=True)
    assert 0.9 < float(done.stdout) < 1.1  # the logits alone would add 1.0


PLAIN = {
    "normface",
    "sphereface-r",
    "cosface",
    "arcface",
    "combined",
    "subcenter-arcface",
    "magface",
    "adaface",
    "elasticface",
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_a_constant_times_the_cosine_is_plain(name: str) -> None:
    objective = build_objective(name, classes=100)
    scale = objective.plain_scale()
    assert (scale is not None) == (name in PLAIN)
    assert scale is None or scale == objective.scale
    if scale is not None:
        cosines = torch.linspace(-1, 1, 101, dtype=torch.float64)[None]
        torch.testing.assert_close(objective.others(cosines, {}), scale * cosines)


@pytest.mark.parametrize(
    ("objective", "obstacle"),
    [
        (CurricularFace(), "CurricularFace: its others are not a constant times the cosine"),
        (SubCenterArcFace(), "SubCenterArcFace: it has sub-centres"),
    ],
)
def test_the_kernel_refuses_by_name_what_it_cannot_serve(objective: torch.nn.Module, obstacle: str) -> None:
    with pytest.raises(UnsupportedHead, match=obstacle):
        FusedHead(8, 10, objective, implementation="triton")  # type: ignore[arg-type]
    assert FusedHead(8, 10, objective, implementation="auto").implementation == "torch"  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="here the kernel can run")
@pytest.mark.parametrize(("wanted", "taken"), [("auto", "torch"), ("torch", "torch"), ("triton", None)])
def test_without_cuda_the_kernel_is_refused_and_auto_is_torch(wanted: Implementation, taken: str | None) -> None:
    if taken is None:
        with pytest.raises(UnsupportedHead, match="there is no CUDA device"):
            FusedHead(8, 10, ArcFace(), implementation=wanted)
    else:
        assert FusedHead(8, 10, ArcFace(), implementation=wanted).implementation == taken


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnsupportedHead, match="dense, sharded, sampled, fused"):
        build_head("partial", 8, 10, ArcFace())  # type: ignore[arg-type]


def test_a_chunk_of_nothing_is_refused() -> None:
    with pytest.raises(UnsupportedHead, match="chunk"):
        FusedHead(8, 10, ArcFace(), chunk=0)
