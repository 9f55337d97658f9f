"""Images per second of the training engine beside a plain PyTorch loop, and of the data readers alone.

    python bench/train.py --json train.json

One thread, MobileFaceNet, batches of 32 real crops, CosFace. The plain loop is what one writes first: a DataLoader
that decodes each image anew, float32, planes in PyTorch's own order, loss.item() each step. The engine takes the same
images with its defaults (bfloat16, channels last, decoded once, batches prepared ahead), and in float32 to tell the
two apart. Each contender is a process of its own and takes its steps in turn with the others; figures are of processor
time, which other work on the machine does not lengthen (`wall` is by the clock). With CUDA also IResNet-50 in bfloat16,
and the share of a step that is not spent in the backbone.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from models.registry import build
from training.config import OptimiserConfig, TrainConfig
from training.data.augmentation import AugmentationConfig
from training.data.batches import Batches, DecodedBatches, FaceData, PackedBatches, StreamBatches
from training.data.packing import pack
from training.data.sources import SourceConfig
from training.distributed import Rank
from training.evaluation.machine import describe
from training.lookahead import lookahead
from training.memory import keep_freed_memory
from training.prefetch import prefetch
from training.stepping import Stepper
from training.tasks.recognition import Identification, RecognitionLearner, RecognitionTask
from training.tasks.recognition_config import BackboneConfig, HeadConfig, ObjectiveConfig, RecognitionConfig

SHARED = Path(os.environ.get("FACEMARGIN_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FACES = "faces-train-identified.tar.gz"
BATCH, IMAGES, EMBEDDING = 32, 512, 512
ARGUMENTS = {"activation": "relu"}
SCALE, MARGIN, RATE = 32.0, 0.25, 0.1
WARM_UP = 1
CUDA_BATCH, CUDA_CLASSES, CUDA_STEPS = 128, 93_431, 30


@click.command()
@click.option("--shared", type=click.Path(exists=True, file_okay=False, path_type=Path), default=SHARED)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True)
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), required=True)
def main(shared: Path, rounds: int, output: Path) -> None:
    """Measure and write {"name", "machine", "rows", "ratios"}."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = unpack(shared / "data" / FACES, Path(scratch) / "faces")
        steps = measure_steps(folder, rounds)
        readers = measure_readers(folder, Path(scratch))
    rows = [*steps.values(), *readers]
    engine, plain = steps["engine bf16"], steps["plain loop"]
    ratios = {
        "engine_over_plain": round(engine["images_per_second"] / plain["images_per_second"], 3),
        "engine_fp32_over_plain": round(steps["engine fp32"]["images_per_second"] / plain["images_per_second"], 3),
        "memory_kept_over_not": round(
            engine["images_per_second"] / steps["engine bf16, memory given back"]["images_per_second"], 3
        ),
    }
    if torch.cuda.is_available():
        row = measure_device(torch.device("cuda"), "iresnet50", CUDA_BATCH, CUDA_CLASSES, CUDA_STEPS)
        rows.append(row)
        ratios["cuda_share_outside_backbone"] = row["share_outside_backbone"]
    document = {"name": "train", "machine": {**describe(), "threads": 1}, "rows": rows, "ratios": ratios}
    output.write_text(json.dumps(document, indent=2) + "\n")
    click.echo(json.dumps({"rows": rows, "ratios": ratios}, indent=2))


def unpack(archive: Path, folder: Path) -> Path:
    """The first IMAGES faces of the tar as IDENTITY/NAME.webp."""
    kept = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and kept < IMAGES:
                data = tar.extractfile(member)
                assert data is not None
                path = folder / Path(member.name).parent.name / Path(member.name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data.read())
                kept += 1
            elif kept == IMAGES:
                break
    return folder


def measure_steps(folder: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """A row a contender: medians over rounds in which each takes one step in turn."""
    contenders: dict[str, tuple[Callable[[Path], Iterator[None]], dict[str, str]]] = {
        "plain loop": (plain_steps, {"precision": "fp32", "layout": "NCHW", "data": "decoded each time"}),
        "engine fp32": (engine_fp32, {"precision": "fp32", "layout": "channels last", "data": "decoded once"}),
        "engine bf16": (engine_bf16, {"precision": "bf16", "layout": "channels last", "data": "decoded once"}),
        "engine bf16, memory given back": (
            engine_without_memory,
            {"precision": "bf16", "layout": "channels last", "data": "decoded once"},
        ),
    }
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    processes = []
    for name, (steps, _) in contenders.items():
        connections[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(steps, folder, theirs), daemon=True))
        processes[-1].start()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for turn in range(WARM_UP + rounds):
        for name, connection in connections.items():
            connection.send(True)
            taken = connection.recv()
            if turn >= WARM_UP:
                times[name].append(taken)
    for connection, process in zip(connections.values(), processes, strict=True):
        connection.send(False)
        process.join()
    return {
        name: {
            "loop": name,
            **setting,
            "threads": 1,
            "batch": BATCH,
            "images_per_second": round(BATCH / median(processor for processor, _ in times[name]), 2),
            "images_per_second_wall": round(BATCH / median(wall for _, wall in times[name]), 2),
        }
        for name, (_, setting) in contenders.items()
    }


def _serve(steps: Callable[[Path], Iterator[None]], folder: Path, connection: Connection) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    source = steps(folder)
    while connection.recv():
        processor, wall = time.process_time(), time.perf_counter()
        next(source)
        connection.send((time.process_time() - processor, time.perf_counter() - wall))


class _Folder(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """As in a tutorial: open, convert, flip."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*/*.webp"))
        names = sorted({path.parent.name for path in self.paths})
        self.classes = {name: number for number, name in enumerate(names)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        path = self.paths[position]
        with Image.open(path) as image:
            planes = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float()
        planes = (planes / 255 - 0.5) / 0.5
        if torch.rand(()) < 0.5:
            planes = planes.flip(2)
        return planes, self.classes[path.parent.name]


def plain_steps(folder: Path) -> Iterator[None]:
    """The loop that one writes first; each `next` is a step."""
    data = _Folder(folder)
    network = build("mobilefacenet", embedding_size=EMBEDDING, **ARGUMENTS).train()
    centres = nn.Parameter(torch.randn(len(data.classes), EMBEDDING) * 0.01)
    parameters = [*network.parameters(), centres]
    optimiser = torch.optim.SGD(parameters, lr=RATE, momentum=0.9, weight_decay=5e-4, nesterov=True)
    while True:
        for images, labels in torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True):
            cosines = functional.linear(functional.normalize(network(images)), functional.normalize(centres))
            target = functional.one_hot(labels, len(data.classes))
            loss = functional.cross_entropy(SCALE * (cosines - MARGIN * target), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 5.0)
            optimiser.step()
            loss.item()
            yield


def engine_bf16(folder: Path) -> Iterator[None]:
    """The engine's step with its defaults."""
    keep_freed_memory()
    return engine_steps(folder, "bf16")


def engine_fp32(folder: Path) -> Iterator[None]:
    """The engine's step in float32."""
    keep_freed_memory()
    return engine_steps(folder, "fp32")


def engine_without_memory(folder: Path) -> Iterator[None]:
    """The engine's step where the C library gives memory back, as it does by default."""
    return engine_steps(folder, "bf16")


def engine_steps(folder: Path, precision: str) -> Iterator[None]:
    """The engine's own parts in the order in which it uses them; each `next` is a step."""
    config = configuration(folder, precision)
    assert isinstance(config.task, RecognitionConfig)
    rank = Rank(0, 1, torch.device("cpu"))
    task = RecognitionTask(config.task, config.name, BATCH, 0, 1, rank.device)
    stepper = Stepper(task.learner, config, rank)
    for epoch in range(1000):
        stepper.start_epoch(epoch)
        with closing(prefetch(task.batches(epoch, 0, 1), config.prefetch, rank.device)) as batches:
            for drawn in lookahead((stepper.draw([batch]) for batch in batches), stepper.teach):
                stepper.learn(drawn, RATE)
                yield


def configuration(folder: Path, precision: str) -> TrainConfig:
    """What the plain loop does, as a recipe."""
    return TrainConfig.model_validate(
        {
            "name": "bench",
            "precision": precision,
            "batch_size": BATCH,
            "prefetch": 0,  # so that all the work of a step falls within the time it is given
            "optimiser": OptimiserConfig(name="sgd", learning_rate=RATE),
            "task": {
                "kind": "recognition",
                "sources": [{"folder": folder}],
                "backbone": {"name": "mobilefacenet", "embedding_size": EMBEDDING, "arguments": ARGUMENTS},
                "objective": {"name": "cosface", "scale": SCALE, "margin": MARGIN},
                "augmentation": {"flip": 0.5},
            },
        }
    )


def measure_readers(folder: Path, scratch: Path) -> list[dict[str, Any]]:
    """A row a reader: images of one epoch over the processor time it takes, on one core."""
    with tarfile.open(scratch / "faces.tar", "w") as tar:
        for path in sorted(folder.glob("*/*")):
            tar.add(path, path.relative_to(folder))
    pack([SourceConfig(folder=folder)], scratch / "packed", 112)
    readers: dict[str, Batches] = {
        "packed": PackedBatches(FaceData([SourceConfig(packed=scratch / "packed")], 112), BATCH, 0),
        "webdataset": StreamBatches(FaceData([SourceConfig(shards=str(scratch / "faces.tar"))], 112), BATCH, 0, 0),
        "folder": DecodedBatches(FaceData([SourceConfig(folder=folder)], 112), BATCH, 0),
    }
    rows = []
    for name, reader in readers.items():
        speeds = []
        for epoch in range(3):
            started = time.process_time()
            images = sum(len(batch["images"]) for batch in reader.epoch(epoch, 0, 1))
            speeds.append(images / (time.process_time() - started))
        rows.append({"reader": name, "threads": 1, "batch": BATCH, "images_per_second": round(median(speeds), 1)})
    return rows


def measure_device(device: torch.device, backbone: str, batch_size: int, classes: int, steps: int) -> dict[str, Any]:
    """The engine's step in bfloat16 beside the backbone's forward and backward passes alone."""
    config = configuration(Path("unused"), "bf16")
    network = build(backbone, embedding_size=EMBEDDING)
    identification = Identification(ObjectiveConfig(name="arcface"), HeadConfig(), EMBEDDING, classes, 0)
    learner = RecognitionLearner(network, AugmentationConfig(), identification, None, BackboneConfig(name=backbone))
    stepper = Stepper(learner, config, Rank(0, 1, device))
    stepper.start_epoch(0)
    batch = {
        "images": torch.randint(0, 256, (batch_size, 112, 112, 3), dtype=torch.uint8, device=device),
        "labels": torch.randint(0, classes, (batch_size,), device=device),
        "index": torch.arange(batch_size),
    }
    views = torch.randn(batch_size, 3, 112, 112, device=device).contiguous(memory_format=torch.channels_last)

    def alone() -> None:
        with stepper.autocast():
            embeddings = network(views)
        embeddings.backward(torch.ones_like(embeddings))
        network.zero_grad(set_to_none=True)

    def step() -> None:
        stepper.learn(stepper.teach(stepper.draw([batch])), RATE)

    whole = _seconds(step, device, steps)
    part = _seconds(alone, device, steps)
    return {
        "loop": "engine bf16",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "backbone": backbone,
        "batch": batch_size,
        "classes": classes,
        "images_per_second": round(batch_size / whole, 1),
        "share_outside_backbone": round(1 - part / whole, 3),
    }


def _seconds(act: Callable[[], object], device: torch.device, steps: int) -> float:
    for turn in range(2 * steps):
        if turn == steps:
            _wait(device)
            started = time.perf_counter()
        act()
    _wait(device)
    return (time.perf_counter() - started) / steps


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
