"""Leaving a process group."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import socket
import weakref
from multiprocessing.queues import Queue
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.distributed import process_group


class _Stop(Exception):
    pass


def _leave(rank: int, port: int, stopped: bool, found: Queue[bool]) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    learners: list[weakref.ref[Any]] = []
    destroy = distributed.destroy_process_group

    def destroy_and_tell() -> None:
        found.put(learners[0]() is None)
        destroy()

    distributed.destroy_process_group = destroy_and_tell  # type: ignore[assignment]

    def learn() -> None:
        learner = DistributedDataParallel(nn.Linear(2, 1))
        learners.append(weakref.ref(learner))
        learner(torch.ones(1, 2)).sum().backward()
        if stopped:
            raise _Stop

    with contextlib.suppress(_Stop), process_group("cpu"):
        learn()


@pytest.mark.parametrize("stopped", [False, True])
def test_what_learned_is_gone_before_its_process_group(stopped: bool) -> None:
    """DDP's reducer, as a group's last owner, waits for ever for threads that wait for the interpreter's lock."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    found: Queue[bool] = context.Queue()
    ranks = [context.Process(target=_leave, args=(rank, port, stopped, found)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert [found.get(timeout=5) for _ in ranks] == [True, True]
