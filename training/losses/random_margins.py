"""Random numbers that are a function of (seed, step): equal on every rank, and after a resume."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_32_BITS = 0xFFFFFFFF


def standard_normal(count: int, seed: int, step: Tensor) -> Tensor:
    """(count,) float32 from N(0, 1), by Box-Muller over hashed counters; step: () int64, on the device to draw on.

    Not a torch.Generator, which takes its seed as a number: reading the step from a GPU would stall it every time.
    """
    key = _hash(_hash(torch.full_like(step, seed & _32_BITS)) + (step & _32_BITS))
    counters = key + torch.arange(2 * count, device=step.device)
    first, second = _uniform(_hash(counters)).chunk(2)
    return torch.sqrt(-2 * torch.log(first)) * torch.cos(2 * math.pi * second)


def _hash(value: Tensor) -> Tensor:
    """32 mixed bits (T. Mueller's integer hash, whose multiplier keeps the products within int64)."""
    value = value & _32_BITS
    for _ in range(2):
        value = ((value >> 16) ^ value) * 0x45D9F3B & _32_BITS
    return (value >> 16) ^ value


def _uniform(bits: Tensor) -> Tensor:
    """The upper 23 of 32 bits -> float32 strictly inside (0, 1)."""
    return ((bits >> 9).float() + 0.5) / 2**23
