"""Heads by name."""

from __future__ import annotations

from typing import Literal, get_args

from training.heads.dense import DenseHead
from training.heads.fused import FusedHead, Implementation
from training.heads.head import Head, UnsupportedHead
from training.heads.sampled import SampledHead
from training.heads.sharded import ShardedHead
from training.losses.objective import Objective

HeadName = Literal["dense", "sharded", "sampled", "fused"]


def build_head(
    name: HeadName,
    embedding_size: int,
    classes: int,
    objective: Objective,
    *,
    rate: float = 0.1,
    chunk: int = 8192,
    implementation: Implementation = "torch",
    seed: int = 0,
) -> Head:
    """The head of that name; where ranks share the centres, this rank's part, so join the process group before.

    rate is the sampled head's, chunk and implementation are the fused one's; seed draws the first centres, alike for
    every head and number of ranks, and the samples. Raises UnsupportedHead, naming head and objective.
    """
    match name:
        case "dense":
            return DenseHead(embedding_size, classes, objective, seed=seed)
        case "sharded":
            return ShardedHead(embedding_size, classes, objective, seed=seed)
        case "sampled":
            return SampledHead(embedding_size, classes, objective, rate=rate, seed=seed)
        case "fused":
            return FusedHead(embedding_size, classes, objective, chunk=chunk, implementation=implementation, seed=seed)
    raise UnsupportedHead(f"no head {name!r}; known: {', '.join(get_args(HeadName))}")
