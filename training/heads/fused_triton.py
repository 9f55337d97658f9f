"""CUDA kernels of the fused head: log-sum-exp over scaled cosines, and its gradients, without logits in memory.

Import only where triton is installed. Three kernels, each deterministic, none with atomics, sums in float32: the
forward pass owns a tile of samples and walks a span of classes (online softmax, arXiv:1805.02867); backward, one
kernel owns a tile of classes and walks the samples, another owns a tile of samples and walks a span of classes. Spans
are summed in their order. Products are TF32 in three parts (3xTF32), about as exact as float32.
Tested in Triton's interpreter and compiled for sm_80 and sm_90; not yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.heads.unit import inverse_lengths

_SAMPLES, _CLASSES, _COLUMNS = 64, 64, 32
_PRECISION = "tf32x3"
# Enough programs for a large GPU, whatever the batch: each tile of samples is shared by as many spans of classes.
_PROGRAMS = 528
# A logit that takes no part; finite, so that differences of two are 0 and not NaN.
_LOWEST = tl.constexpr(-8.0e37)


def reduce_scaled_cosines(unit: Tensor, centres: Tensor, own: Tensor, scale: float) -> Tensor:
    """(N, D) unit embeddings, (C, D) centres, float32, (N,) own classes or -1 -> (N,) log-sum-exps over the others.

    Over scale * cosine; gradients to unit and centres.
    """
    return _ScaledCosines.apply(unit, centres, own, scale)  # type: ignore[no-untyped-call, no-any-return]


class _ScaledCosines(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, centres: Tensor, own: Tensor, scale: float) -> Tensor:
        unit, centres, own = unit.contiguous(), centres.contiguous(), own.contiguous()
        inverse = inverse_lengths(torch.linalg.vector_norm(centres, dim=1))
        spans, tiles = _spans(len(unit), len(centres))
        partial = unit.new_empty(spans, len(unit))
        grid = (triton.cdiv(len(unit), _SAMPLES), spans)
        _forward[grid](unit, centres, inverse, own, partial, len(unit), len(centres), scale, tiles, **_sizes(unit))
        total = torch.logsumexp(partial, dim=0)
        ctx.scale = scale
        ctx.save_for_backward(unit, centres, inverse, own, total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        unit, centres, inverse, own, total = ctx.saved_tensors
        tensors = (unit, centres, inverse, own, total, gradient.contiguous())
        numbers = (len(unit), len(centres), ctx.scale)
        spans, tiles = _spans(len(unit), len(centres))
        partial = unit.new_zeros(spans, *unit.shape)
        grid = (triton.cdiv(len(unit), _SAMPLES), spans)
        _backward_unit[grid](*tensors, partial, *numbers, tiles, **_sizes(unit))
        centre_gradient = torch.zeros_like(centres)
        _backward_centres[(triton.cdiv(len(centres), _CLASSES),)](*tensors, centre_gradient, *numbers, **_sizes(unit))
        return partial.sum(dim=0), centre_gradient, None, None


def _spans(samples: int, classes: int) -> tuple[int, int]:
    """Spans of classes a tile of samples is shared by, and tiles of classes in a span."""
    tiles = triton.cdiv(classes, _CLASSES)
    wanted = max(_PROGRAMS // triton.cdiv(samples, _SAMPLES), 1)
    in_span = triton.cdiv(tiles, min(wanted, tiles))
    return triton.cdiv(tiles, in_span), in_span


def _sizes(unit: Tensor) -> dict[str, Any]:
    return {
        "D": unit.shape[1],
        "SAMPLES": _SAMPLES,
        "CLASSES": _CLASSES,
        "COLUMNS": _COLUMNS,
        "PRECISION": _PRECISION,
        "num_warps": 8,
    }


@triton.jit  # type: ignore[untyped-decorator]
def _load(matrix: tl.tensor, rows: tl.tensor, limit: tl.tensor, columns: tl.tensor, D: tl.constexpr) -> tl.tensor:
    """Rows and columns of a (limit, D) matrix; zeros beyond its edges."""
    places = rows.to(tl.int64)[:, None] * D + columns[None, :]
    return tl.load(matrix + places, mask=(rows < limit)[:, None] & (columns < D)[None, :], other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _cosines(
    unit: tl.tensor,
    centres: tl.tensor,
    inverse: tl.tensor,
    samples: tl.tensor,
    N: tl.tensor,
    classes: tl.tensor,
    C: tl.tensor,
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """(SAMPLES, CLASSES) cosines; 0 beyond the edges."""
    product = tl.zeros((SAMPLES, CLASSES), dtype=tl.float32)
    for first in range(0, D, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        left = _load(unit, samples, N, columns, D)
        right = _load(centres, classes, C, columns, D)
        product = tl.dot(left, tl.trans(right), product, input_precision=PRECISION)
    return product * tl.load(inverse + classes, mask=classes < C, other=0.0)[None, :]


@triton.jit  # type: ignore[untyped-decorator]
def _forward(
    unit: tl.tensor,
    centres: tl.tensor,
    inverse: tl.tensor,
    own: tl.tensor,
    partial: tl.tensor,
    N: tl.tensor,
    C: tl.tensor,
    scale: tl.tensor,
    tiles: tl.tensor,
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Log-sum-exp of a tile of samples over a span of classes, to partial (spans, N)."""
    samples = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    span = tl.program_id(1)
    target = tl.load(own + samples, mask=samples < N, other=-1)
    largest = tl.full((SAMPLES,), _LOWEST, dtype=tl.float32)
    total = tl.zeros((SAMPLES,), dtype=tl.float32)
    for tile in range(span * tiles, (span + 1) * tiles):
        classes = tile * CLASSES + tl.arange(0, CLASSES)
        cosines = _cosines(unit, centres, inverse, samples, N, classes, C, D, SAMPLES, CLASSES, COLUMNS, PRECISION)
        counts = (classes < C)[None, :] & (classes[None, :] != target[:, None])
        logits = tl.where(counts, cosines * scale, _LOWEST)
        higher = tl.maximum(largest, tl.max(logits, axis=1))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(logits - higher[:, None]), axis=1)
        largest = higher
    tl.store(partial + span * N + samples, largest + tl.log(total), mask=samples < N)


@triton.jit  # type: ignore[untyped-decorator]
def _shares(
    cosines: tl.tensor,
    classes: tl.tensor,
    C: tl.tensor,
    samples: tl.tensor,
    N: tl.tensor,
    own: tl.tensor,
    total: tl.tensor,
    gradient: tl.tensor,
    scale: tl.tensor,
) -> tl.tensor:
    """(SAMPLES, CLASSES) derivatives of the loss by the cosines."""
    inside = samples < N
    target = tl.load(own + samples, mask=inside, other=-1)
    reduced = tl.load(total + samples, mask=inside, other=0.0)
    factor = tl.load(gradient + samples, mask=inside, other=0.0) * scale
    counts = (classes < C)[None, :] & (classes[None, :] != target[:, None])
    # An embedding beyond the edge has cosine 0, reduction 0 and factor 0: its share is 0.
    return tl.where(counts, tl.exp(cosines * scale - reduced[:, None]) * factor[:, None], 0.0)


@triton.jit  # type: ignore[untyped-decorator]
def _backward_unit(
    unit: tl.tensor,
    centres: tl.tensor,
    inverse: tl.tensor,
    own: tl.tensor,
    total: tl.tensor,
    gradient: tl.tensor,
    partial: tl.tensor,
    N: tl.tensor,
    C: tl.tensor,
    scale: tl.tensor,
    tiles: tl.tensor,
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Gradient to a tile of unit embeddings from a span of classes, added to partial (spans, N, D)."""
    samples = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    span = tl.program_id(1)
    result = partial + span.to(tl.int64) * N * D
    for tile in range(span * tiles, (span + 1) * tiles):
        classes = tile * CLASSES + tl.arange(0, CLASSES)
        cosines = _cosines(unit, centres, inverse, samples, N, classes, C, D, SAMPLES, CLASSES, COLUMNS, PRECISION)
        shares = _shares(cosines, classes, C, samples, N, own, total, gradient, scale)
        shares *= tl.load(inverse + classes, mask=classes < C, other=0.0)[None, :]
        for first in range(0, D, COLUMNS):
            columns = first + tl.arange(0, COLUMNS)
            before = _load(result, samples, N, columns, D)
            after = tl.dot(shares, _load(centres, classes, C, columns, D), before, input_precision=PRECISION)
            places = samples.to(tl.int64)[:, None] * D + columns[None, :]
            tl.store(result + places, after, mask=(samples < N)[:, None] & (columns < D)[None, :])
        # The next tile reads what other threads of this program have just written.
        tl.debug_barrier()


@triton.jit  # type: ignore[untyped-decorator]
def _backward_centres(
    unit: tl.tensor,
    centres: tl.tensor,
    inverse: tl.tensor,
    own: tl.tensor,
    total: tl.tensor,
    gradient: tl.tensor,
    result: tl.tensor,
    N: tl.tensor,
    C: tl.tensor,
    scale: tl.tensor,
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Gradient to a tile of centres from all samples, through the normalisation, to result (C, D), zeros before."""
    classes = tl.program_id(0) * CLASSES + tl.arange(0, CLASSES)
    for start in range(0, N, SAMPLES):
        samples = start + tl.arange(0, SAMPLES)
        cosines = _cosines(unit, centres, inverse, samples, N, classes, C, D, SAMPLES, CLASSES, COLUMNS, PRECISION)
        shares = tl.trans(_shares(cosines, classes, C, samples, N, own, total, gradient, scale))
        for first in range(0, D, COLUMNS):
            columns = first + tl.arange(0, COLUMNS)
            before = _load(result, classes, C, columns, D)
            after = tl.dot(shares, _load(unit, samples, N, columns, D), before, input_precision=PRECISION)
            places = classes.to(tl.int64)[:, None] * D + columns[None, :]
            tl.store(result + places, after, mask=(classes < C)[:, None] & (columns < D)[None, :])
        tl.debug_barrier()
    scaled = tl.load(inverse + classes, mask=classes < C, other=0.0)[:, None]
    inner = tl.zeros((CLASSES,), dtype=tl.float32)
    for first in range(0, D, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        direction = _load(centres, classes, C, columns, D) * scaled
        inner += tl.sum(_load(result, classes, C, columns, D) * direction, axis=1)
    for first in range(0, D, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        direction = _load(centres, classes, C, columns, D) * scaled
        through = (_load(result, classes, C, columns, D) - inner[:, None] * direction) * scaled
        places = classes.to(tl.int64)[:, None] * D + columns[None, :]
        tl.store(result + places, through, mask=(classes < C)[:, None] & (columns < D)[None, :])
