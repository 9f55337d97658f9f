"""How recognisable a face is: what a linear model reads from its embedding before that is scaled to length one."""

from __future__ import annotations

import base64
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator, model_validator


class QualityModel(BaseModel):
    """Predicts how alike a face will be to others of its person, and puts that on a scale from 0 to 1.

    expected cosine = weights . raw embedding + bias; quality 0 at `worst`, 1 at `best`, linear between.
    weights: base64 of D little-endian float32. data: what it was fitted on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: str
    bias: float
    worst: float
    best: float
    data: str

    @field_validator("weights")
    @classmethod
    def _readable(cls, text: str) -> str:
        data = base64.b64decode(text, validate=True)
        if not data or len(data) % 4 or not np.isfinite(np.frombuffer(data, "<f4")).all():
            raise ValueError("not base64 of finite float32")
        return text

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.worst < self.best:
            raise ValueError("`worst` must lie below `best`")
        return self

    @property
    def dimension(self) -> int:
        """How long the embeddings are."""
        return len(base64.b64decode(self.weights)) // 4

    def score(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Quality in [0, 1], (N,), of raw embeddings (N, D): those of crop and mirror image averaged, not scaled."""
        vector = np.frombuffer(base64.b64decode(self.weights), "<f4")
        expected = raw @ vector + np.float32(self.bias)
        quality: NDArray[np.float32] = np.clip((expected - self.worst) / (self.best - self.worst), 0.0, 1.0)
        return quality.astype(np.float32)


def encode_weights(vector: NDArray[np.float64]) -> str:
    """(D,) weights as the model stores them."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
