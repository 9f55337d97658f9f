"""The process group: one process without torchrun, `torchrun`'s ranks with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True)
class Rank:
    """This process's place among all, and the device it trains on."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0


@contextmanager
def process_group(device: str) -> Iterator[Rank]:
    """Join the group that torchrun announces in the environment, if any, and leave it at the end.

    device: "auto" takes CUDA where there is one. NCCL serves CUDA, gloo the CPU.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    place = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if use_cuda else "cpu")
    if use_cuda:
        torch.cuda.set_device(place)
    if world_size == 1:
        yield Rank(0, 1, place)
        return
    distributed.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield Rank(distributed.get_rank(), world_size, place)
    finally:
        distributed.destroy_process_group()
