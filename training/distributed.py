"""The process group: one process without torchrun, `torchrun`'s ranks with it."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

# The leading rank evaluates while the others wait at the next collective: NCCL's own ten minutes may be too short.
_PATIENCE = timedelta(hours=1)


@dataclass(frozen=True)
class Rank:
    """This process's place among all, and the device it trains on.

    control: a gloo group for words between the CPUs, so that asking never waits for a GPU; None for one process.
    """

    rank: int
    world_size: int
    device: torch.device
    control: distributed.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this rank writes files and prints."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; every rank must ask."""
        if self.control is None:
            return flag
        word = torch.tensor(int(flag))
        distributed.all_reduce(word, distributed.ReduceOp.MAX, group=self.control)
        return bool(word)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on its device; every rank must ask."""
        if self.world_size > 1:
            tensor = tensor.clone()
            distributed.all_reduce(tensor)
        return tensor


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
    store, rank, _ = next(rendezvous("env://", timeout=_PATIENCE))
    # torchrun's store outlives a restart: without a prefix a rank could find the address of one that is dead.
    prefix = f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    attempt = distributed.PrefixStore(prefix, store)  # type: ignore[attr-defined]
    backend = "nccl" if use_cuda else "gloo"
    distributed.init_process_group(backend, store=attempt, rank=rank, world_size=world_size, timeout=_PATIENCE)
    try:
        control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
        yield Rank(distributed.get_rank(), world_size, place, control)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # they hold what learned: see below
        raise
    finally:
        # DDP's reducer must not outlive the group. As its last owner it would join the group's threads with the
        # interpreter's lock in its hand, which one of them may be waiting for: the process would never end.
        gc.collect()
        distributed.destroy_process_group()
