"""`python launch.py train RECIPE`: the training commands, with a network so small that a step takes milliseconds.

FAULT=SIGNAL:RANK:STEP in the environment sends that rank the signal before its step, once (not after a restart);
with RANK `group`, the process group of the leading rank gets it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import torch
from torch import Tensor, nn

from models.registry import register


@register("tiny")
class Tiny(nn.Module):
    """Block means, one matrix, perhaps a batch norm."""

    def __init__(self, embedding_size: int = 16, normalised: bool = False) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(16)
        self.embedding = nn.Linear(147, embedding_size, bias=not normalised)
        self.normalisation = nn.BatchNorm1d(embedding_size) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 112, 112) -> (B, D)."""
        embedding: Tensor = self.normalisation(self.embedding(torch.flatten(self.pool(x), 1)))
        return embedding


def inject(fault: str) -> None:
    """Make the engine meet the fault."""
    from training.stepping import Stepper

    name, rank, step = fault.split(":")
    original, taken = Stepper.learn, 0

    def faulty(self: Stepper, *arguments: Any) -> Any:
        nonlocal taken
        taken += 1
        if (
            self.rank.rank == (0 if rank == "group" else int(rank))
            and taken == int(step)
            and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
        ):
            if rank == "group":  # from another process, as a scheduler does: readers forgive their own parent
                subprocess.run(["kill", f"-{getattr(signal, name).value}", "--", f"-{os.getpid()}"], check=False)
            else:
                os.kill(os.getpid(), getattr(signal, name))
        return original(self, *arguments)

    Stepper.learn = faulty  # type: ignore[method-assign]


if __name__ == "__main__":
    from training.cli import main

    if "FAULT" in os.environ:
        inject(os.environ["FAULT"])
    main(prog_name="python -m training")
