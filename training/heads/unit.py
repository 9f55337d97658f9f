"""Rows scaled to unit length, forward and backward, without the temporaries that autograd would keep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Shorter rows have no direction: their unit row is 0, and so is their gradient.
_MINIMUM_LENGTH = 1e-12


def unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(R, D) -> (R, D) unit rows and (R,) lengths, without gradient."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    return rows * inverse_lengths(lengths)[:, None], lengths


def unit_rows_backward(gradient: Tensor, unit: Tensor, lengths: Tensor, along: Tensor | None = None) -> Tensor:
    """Gradient to (R, D) unit rows, and `along` to their lengths if any -> gradient to the rows, in place.

    dw = (dw^ - (dw^ . w^) w^) / |w| + d|w| w^
    """
    inner = torch.einsum("rd,rd->r", gradient, unit)
    inverse = inverse_lengths(lengths)
    gradient.mul_(inverse[:, None])
    return gradient.addcmul_(unit, (-inner * inverse if along is None else along - inner * inverse)[:, None])


def inverse_lengths(lengths: Tensor) -> Tensor:
    """1 over each length, 0 where there is no direction."""
    return torch.where(lengths > _MINIMUM_LENGTH, 1 / lengths, 0)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
        unit, lengths = unit_rows(rows)
        ctx.save_for_backward(unit, lengths)
        return unit, lengths

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, unit_gradient: Tensor, length_gradient: Tensor) -> Tensor:
        unit, lengths = ctx.saved_tensors
        return unit_rows_backward(unit_gradient.clone(), unit, lengths, length_gradient)


def normalise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(R, D) -> (R, D) unit rows and (R,) lengths, with gradients."""
    unit, lengths = _Normalise.apply(rows)  # type: ignore[no-untyped-call]
    return unit, lengths


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(rows)
        return matrix.index_select(0, rows), matrix.view_as(matrix)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, picked: Tensor, rest: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return rest.index_add_(0, rows, picked), None


def pick(matrix: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """(R, D), (M,) -> (M, D) those rows and (R, D) the matrix itself, with gradients.

    Where plain indexing would make a second gradient as large as the matrix, the gradient to the rows is added, in
    place, to the one that comes back through the second result: this must be a tensor that nobody else holds, as
    the backward passes of `normalise` and of the fused reduction make it.
    """
    picked, whole = _Pick.apply(matrix, rows)  # type: ignore[no-untyped-call]
    return picked, whole
