"""The probe: a stored output on a known input, by which any engine proves that it runs the same network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.faces import Forward

TOLERANCE = 2e-3
"""Largest accepted deviation, in lengths of the expected summary; float32 engines stay below 1e-5."""
BF16_TOLERANCE = 2e-2
"""The same for an engine that multiplies in bf16, exact to 4e-3; the shipped networks deviate by 7e-3 and 1.1e-2."""
INT8_TOLERANCE = 6e-2
"""The same for an engine that multiplies some layers in int8. The shipped networks deviate by 2.3e-2 (the detector)
and 4.1e-2. On a processor without VNNI, where 16-bit sums saturate, the detector deviates by 0.11: not taken."""
_LENGTH = 512


class ProbeMismatch(RuntimeError):
    """An engine's output on the probe input differs from the one stored in the checkpoint."""


class Probe(BaseModel):
    """Seed and size of the probe input, and the summary of the network's outputs on it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    expected: list[float]


def make(forward: Forward, width: int, height: int, seed: int = 0) -> Probe:
    """Run the reference network on the probe input and keep its summary."""
    summary = _summary(forward(_input(width, height, seed)))
    return Probe(seed=seed, width=width, height=height, expected=[round(float(value), 7) for value in summary])


def check(forward: Forward, probe: Probe, tolerance: float = TOLERANCE) -> float:
    """Deviation of an engine from the probe: the length of the difference of both unit-length summaries.

    Raises ProbeMismatch beyond `tolerance`.
    """
    summary = _summary(forward(_input(probe.width, probe.height, probe.seed)))
    expected = np.array(probe.expected)
    if summary.shape != expected.shape:
        raise ProbeMismatch(f"the network gave {summary.size} numbers where the probe holds {expected.size}")
    deviation = float(np.linalg.norm(summary - expected))
    if not deviation <= tolerance:  # also catches NaN
        raise ProbeMismatch(f"the network deviates by {deviation:.2g} from its probe, allowed {tolerance:g}")
    return deviation


def _input(width: int, height: int, seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).uniform(-1, 1, (1, 3, height // 8, width // 8))
    # Blocks of 8 pixels: white noise would leave the deep layers nearly blind to the input.
    return np.repeat(np.repeat(noise, 8, axis=2), 8, axis=3).astype(np.float32)


def _summary(outputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    flat = np.concatenate([np.asarray(output, dtype=np.float64).ravel() for output in outputs])
    picked = flat[np.linspace(0, flat.size - 1, min(_LENGTH, flat.size)).astype(int)]
    scaled: NDArray[np.float64] = picked / max(float(np.linalg.norm(picked)), 1e-12)
    return scaled
