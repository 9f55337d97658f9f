"""The Triton kernels against float64 formulas: on a GPU, or on a CPU in Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import normalize

from training.heads.fused import FusedHead
from training.heads.registry import build_head
from training.losses.arcface import ArcFace

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if find_spec("triton") is None:
    pytest.skip("needs triton, which comes with torch for CUDA", allow_module_level=True)
if not (torch.cuda.is_available() or INTERPRETED):
    pytest.skip("needs a CUDA device, or TRITON_INTERPRET=1", allow_module_level=True)

DEVICE = "cpu" if INTERPRETED else "cuda"


@pytest.mark.parametrize("programs", [2, 528], ids=["long spans", "short spans"])
@pytest.mark.parametrize(("samples", "classes", "dimensions"), [(5, 290, 40), (70, 65, 64), (1, 1, 8)])
def test_value_and_gradients_are_the_formulas(
    samples: int, classes: int, dimensions: int, programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.heads import fused_triton
    from training.heads.fused_triton import reduce_scaled_cosines

    monkeypatch.setattr(fused_triton, "_PROGRAMS", programs)
    generator = torch.Generator().manual_seed(classes)
    unit = normalize(torch.randn(samples, dimensions, generator=generator))
    centres = torch.randn(classes, dimensions, generator=generator)
    own = torch.randint(-1, classes, (samples,), generator=generator)
    weights = torch.randn(samples, generator=generator)

    given = [tensor.to(DEVICE).requires_grad_() for tensor in (unit, centres)]
    value = reduce_scaled_cosines(*given, own.to(DEVICE), 20.0)
    again = [tensor.double().requires_grad_() for tensor in (unit, centres)]
    logits = 20 * again[0] @ normalize(again[1]).T
    mask = torch.arange(classes) == own[:, None]
    expected = logits.masked_fill(mask, -8e37).logsumexp(dim=1)
    torch.testing.assert_close(value.detach().cpu().double(), expected.detach(), rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad((value * weights.to(DEVICE)).sum(), given)
    wanted = torch.autograd.grad((expected.where(expected > -1e37, 0) * weights).sum(), again)
    for gradient, want in zip(gradients, wanted, strict=True):
        if classes > 1:
            torch.testing.assert_close(gradient.cpu().double(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(INTERPRETED, reason="needs a CUDA device")
def test_the_head_takes_the_kernel_and_two_runs_agree_bit_for_bit() -> None:
    torch.manual_seed(0)
    embeddings, labels = torch.randn(64, 128, device="cuda"), torch.randint(-1, 5000, (64,), device="cuda")
    results = []
    for _ in range(2):
        head = FusedHead(128, 5000, ArcFace(), implementation="triton").cuda()
        own = embeddings.clone().requires_grad_()
        loss = head(own, labels)
        results.append((loss.detach(), *torch.autograd.grad(loss, [own, head.centres])))
    dense = build_head("dense", 128, 5000, ArcFace()).cuda().double()
    own = embeddings.double().requires_grad_()
    loss = dense(own, labels)
    exact = (loss.detach(), *torch.autograd.grad(loss, [own, dense.centres]))
    for first, second, expected in zip(*results, exact, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first.double(), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
