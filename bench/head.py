"""Memory and time of the fused head beside the dense one, in the same run.

    python bench/head.py --json head.json

On the CPU, one thread: the peak of resident memory over a forward and backward pass at a million classes, each head in
a process of its own, and at a size where both fit the median processor time, which other work on the machine does not
lengthen, of alternating passes. With CUDA also, by the clock: the dense head, the portable fused one, the Triton
kernel, and the matrix products alone, at 1e5, 1e6 and 4e6 classes.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from torch import Tensor

from training.evaluation.machine import describe
from training.heads.fused import Implementation
from training.heads.head import Head
from training.heads.registry import HeadName, build_head
from training.losses.arcface import ArcFace

CUDA_CLASSES = (100_000, 1_000_000, 4_000_000)
FUSED_PRODUCTS = 4


@dataclass(frozen=True)
class Size:
    """A batch of embeddings against class centres."""

    batch: int
    classes: int
    dimensions: int

    def inputs(self, device: str) -> tuple[Tensor, Tensor]:
        """Embeddings and labels."""
        embeddings = torch.randn(self.batch, self.dimensions, device=device, requires_grad=True)
        return embeddings, torch.randint(0, self.classes, (self.batch,), device=device)

    def centres_and_gradient(self) -> int:
        """Bytes, in float32."""
        return 2 * 4 * self.classes * self.dimensions


@click.command()
@click.option("--batch", type=click.IntRange(1), default=512, show_default=True)
@click.option("--dimensions", type=click.IntRange(1), default=512, show_default=True)
@click.option("--large", type=click.IntRange(1), default=1_000_000, show_default=True, help="Classes for the memory.")
@click.option("--classes", type=click.IntRange(1), default=100_000, show_default=True, help="Classes for the time.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), required=True)
def main(batch: int, dimensions: int, large: int, classes: int, rounds: int, output: Path) -> None:
    """Measure and write {"name", "machine", "rows", "ratios"}."""
    size = Size(batch, large, dimensions)
    timed = in_child(cpu_time, replace(size, classes=classes), rounds)
    fused, dense = (in_child(cpu_memory, name, size) for name in ("fused", "dense"))
    rows = [fused, dense, *timed]
    ratios = {
        "fused_peak_over_centres_and_gradient": fused["peak_over_centres_and_gradient"],
        "dense_peak_over_fused_peak": round(dense["peak_mb"] / fused["peak_mb"], 3),
        "fused_time_over_dense_time": round(timed[0]["seconds"] / timed[1]["seconds"], 3),
    }
    if torch.cuda.is_available():
        for count in CUDA_CLASSES:
            found = [cuda(name, replace(size, classes=count), rounds) for name in CUDA_RUNS]
            rows += found
            ratios |= cuda_ratios(found, count)
    document = {"name": "head", "machine": {**describe(), "threads": 1}, "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps({"rows": rows, "ratios": ratios}, indent=2))


def in_child(measure: Callable[..., Any], *arguments: object) -> Any:
    """The result of measure in a fresh process, whose peak of memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(measure, *arguments).result()
    click.echo(json.dumps(result), err=True)
    return result


def one_pass(head: Head, embeddings: Tensor, labels: Tensor) -> float:
    """Seconds of a forward and a backward pass, gradients made anew."""
    head.centres.grad = embeddings.grad = None
    clock = time.perf_counter if embeddings.is_cuda else time.process_time
    started = clock()
    head(embeddings, labels).backward()
    if embeddings.is_cuda:
        torch.cuda.synchronize()
    return clock() - started


def cpu_memory(name: HeadName, size: Size) -> dict[str, Any]:
    """Peak of resident memory while a head is made and passes once, over what the process held before."""
    torch.set_num_threads(1)
    warm = replace(size, classes=1000)
    one_pass(build_head(name, size.dimensions, warm.classes, ArcFace()), *warm.inputs("cpu"))
    before = kilobytes("VmRSS")
    head = build_head(name, size.dimensions, size.classes, ArcFace())
    seconds = one_pass(head, *size.inputs("cpu"))
    peak = (kilobytes("VmHWM") - before) * 1024
    return {
        **setting(name, "cpu", size),
        "peak_mb": round(peak / 2**20, 1),
        "peak_over_centres_and_gradient": round(peak / size.centres_and_gradient(), 4),
        "seconds": round(seconds, 2),
    }


def kilobytes(key: str) -> int:
    """An entry of this process's status: VmRSS is its memory now, VmHWM the most it had."""
    return int(Path("/proc/self/status").read_text().split(f"{key}:")[1].split()[0])


def cpu_time(size: Size, rounds: int) -> list[dict[str, Any]]:
    """Median seconds of fused and dense, in turns so that both meet the same noise."""
    torch.set_num_threads(1)
    inputs = size.inputs("cpu")
    names: tuple[HeadName, HeadName] = ("fused", "dense")
    heads = [build_head(name, size.dimensions, size.classes, ArcFace()) for name in names]
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for head, kept in zip(heads, times, strict=True):
            seconds = one_pass(head, *inputs)
            if turn:
                kept.append(seconds)
            head.centres.grad = None
    return [
        {**setting(name, "cpu", size), "seconds": round(median(kept), 3)}
        for name, kept in zip(names, times, strict=True)
    ]


def setting(name: str, device: str, size: Size) -> dict[str, Any]:
    """The columns that say what was measured."""
    return {
        "head": name,
        "device": device,
        "clock": "wall" if device == "cuda" else "processor",
        "batch": size.batch,
        "classes": size.classes,
        "dimensions": size.dimensions,
    }


def cuda_head(name: str, size: Size) -> Callable[[], float]:
    """A pass of dense, fused in chunks or the kernel, as a function that returns its seconds."""
    kind: HeadName = "dense" if name == "dense" else "fused"
    implementation: Implementation = "triton" if name == "triton" else "torch"
    head = build_head(kind, size.dimensions, size.classes, ArcFace(), implementation=implementation).cuda()
    inputs = size.inputs("cuda")
    return lambda: one_pass(head, *inputs)


def cuda_products(size: Size) -> Callable[[], float]:
    """The limit: as many matrix products as the fused head needs, and nothing else, a chunk at a time."""
    embeddings = size.inputs("cuda")[0].detach()
    centres = torch.randn(size.classes, size.dimensions, device="cuda")

    def run() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for block in torch.split(centres, 8192):
            for _ in range(FUSED_PRODUCTS):
                embeddings @ block.T
        torch.cuda.synchronize()
        return time.perf_counter() - started

    return run


CUDA_RUNS: dict[str, Callable[[Size], Callable[[], float]]] = {
    "dense": lambda size: cuda_head("dense", size),
    "fused in chunks": lambda size: cuda_head("fused in chunks", size),
    "triton": lambda size: cuda_head("triton", size),
    "matrix products alone": cuda_products,
}


def cuda(name: str, size: Size, rounds: int) -> dict[str, Any]:
    """Peak of allocated memory and median seconds; both None where the card's memory does not suffice."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        run = CUDA_RUNS[name](size)
        times = [run() for _ in range(rounds + 1)][1:]
    except torch.cuda.OutOfMemoryError:
        return {**setting(name, "cuda", size), "peak_mb": None, "seconds": None}
    peak = torch.cuda.max_memory_allocated() / 2**20
    return {**setting(name, "cuda", size), "peak_mb": round(peak, 1), "seconds": round(median(times), 5)}


def cuda_ratios(rows: list[dict[str, Any]], classes: int) -> dict[str, float]:
    """The kernel against all the rest, where both fit."""
    kernel = next(row for row in rows if row["head"] == "triton")
    return {
        f"triton_{key}_over_{row['head']}_{classes}".replace(" ", "_"): round(kernel[key] / row[key], 3)
        for row in rows
        if row is not kernel
        for key in ("seconds", "peak_mb")
        if row[key] and kernel[key]
    }


if __name__ == "__main__":
    main()
