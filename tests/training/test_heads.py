"""Every head with every objective against a float64 reference that knows neither ranks nor tiles, on 1, 2 and 4 ranks.

The ranks live in a process of their own, which forks before anything has started a thread; it writes what it found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import softplus

from training.heads.head import Head
from training.heads.registry import HeadName, build_head
from training.losses.objective import Objective
from training.losses.registry import OBJECTIVES, build_objective

# Some seconds, but ranks that wait for each other's messages suffer most from a busy machine.
pytestmark = pytest.mark.timeout(600)

DIMENSIONS, CLASSES = 6, 11
# Per rank: uneven numbers of samples, unknown people, a rank that knows nobody.
LABELS = {
    1: [[4, -1, 0, 10, 4, 7]],
    2: [[4, -1, 0], [10, 4, 7, 7, 1]],
    4: [[4, -1, 0], [-1, -1], [10], [4, 7, 3, 9, -1]],
}
HEADS: list[HeadName] = ["dense", "sharded", "sampled", "fused"]
# torch's softplus is a straight line from 20 on, which is off by exp(-20); all else agrees to 1e-13.
_TOLERANCE = 1e-8


class _Cosine(Objective):
    """CosFace, by itself."""

    def target(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return 8 * (cosine - 0.3)

    def others(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return 8 * cosine


class _Angle(_Cosine):
    """ArcFace by acos, exact."""

    def target(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return 8 * torch.cos(torch.acos(cosine) + 0.3)


class _Curriculum(_Cosine):
    """Others look at the sample and at the batch, with gradients to both, and at what a buffer remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("t", torch.tensor(0.1))
        self.register_buffer("seen", torch.tensor(0.0))

    def context(self, norms: Tensor, target: Tensor) -> dict[str, Tensor]:
        if self.training:
            self.t.lerp_(target.detach().mean().to(self.t.dtype), 0.5)
        return {"threshold": target - 0.2, "t": self.t + target.mean(), "unused": norms}

    def others(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        hard = cosine * (context["t"] + cosine) + 0.1 * context["threshold"]
        return 8 * torch.where(cosine > context["threshold"], hard, cosine)

    def observe(self, others: Tensor) -> None:
        self.seen.copy_(others.mean())


class _Binary(Objective):
    """One against all, with a learned bias and a weight that `combine` applies."""

    reduction = "binary"

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(0.7))

    def target(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return 8 * (cosine - 0.2) - self.bias

    def others(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return 8 * cosine**3 - self.bias

    def combine(self, target: Tensor, others: Tensor) -> Tensor:
        return softplus(-target) + 0.3 * others


class _Lengths(Objective):
    """Logits by both lengths, and a penalty of the embeddings'."""

    unit_centres = False

    def context(self, norms: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"norms": norms, "mean": norms.mean()}

    def target(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return context["norms"] * (cosine - 0.1)

    def others(self, cosine: Tensor, context: dict[str, Tensor]) -> Tensor:
        return context["norms"] * cosine + 0.1 * context["mean"]

    def penalty(self, norms: Tensor) -> Tensor:
        return 0.2 * (norms + 1 / norms).mean()


def _with_centres(kind: type[Objective], count: int) -> Callable[[], Objective]:
    def build() -> Objective:
        objective = kind()
        objective.centres_per_class = count
        return objective

    return build


OBJECTIVE_CASES: dict[str, Callable[[], Objective]] = {
    f"{kind.__name__}-{count}": _with_centres(kind, count)
    for kind in (_Cosine, _Angle, _Curriculum, _Binary, _Lengths)
    for count in (1, 3)
} | {name: (lambda name=name: build_objective(name, classes=CLASSES)) for name in OBJECTIVES}


def reference(objective: Objective, embeddings: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """The loss by the definition, with whole logits."""
    embeddings, labels = embeddings[labels >= 0], labels[labels >= 0]
    norms, lengths = embeddings.norm(dim=1), centres.norm(dim=1)
    cosines = (embeddings / norms[:, None]) @ (centres / lengths[:, None]).T
    by_class = cosines.reshape(len(labels), -1, objective.centres_per_class)
    best, chosen = by_class.max(dim=2)
    chosen_lengths = torch.stack([lengths.view(-1, objective.centres_per_class)[range(len(c)), c] for c in chosen])
    weights = torch.ones_like(chosen_lengths) if objective.unit_centres else chosen_lengths
    samples = torch.arange(len(labels))
    own = best[samples, labels]
    context = objective.context(norms, own)
    target = objective.target(own, context) * weights[samples, labels]
    columns = {name: entry.reshape(-1, 1) if entry.ndim else entry for name, entry in context.items()}
    logits = objective.others(best, columns) * weights
    others = logits[torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)].view(len(labels), -1)
    reduced = others.exp().sum(dim=1).log() if objective.reduction == "softmax" else softplus(others).sum(dim=1)
    objective.observe(reduced.detach())
    return objective.combine(target, reduced).mean() + objective.penalty(norms)


def test_the_test_knows_every_objective() -> None:
    assert OBJECTIVES.keys() <= OBJECTIVE_CASES.keys()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, __file__, str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


@pytest.mark.parametrize("world", LABELS)
@pytest.mark.parametrize("name", HEADS)
def test_loss_gradients_and_state_are_those_of_one_process(found: dict[str, Any], name: str, world: int) -> None:
    for rank in range(world):
        errors: dict[str, dict[str, float]] = found[f"{world}-{rank}"][name]
        assert errors.keys() == OBJECTIVE_CASES.keys()
        assert {
            case: wrong for case, e in errors.items() if (wrong := {k: v for k, v in e.items() if v > _TOLERANCE})
        } == {}


@pytest.mark.parametrize("world", LABELS)
def test_nobody_known_anywhere_is_zero_and_connected(found: dict[str, Any], world: int) -> None:
    for rank in range(world):
        assert found[f"{world}-{rank}"]["nobody"] == {name: [0.0, True] for name in HEADS}


@pytest.mark.parametrize("world", LABELS)
def test_first_centres_do_not_depend_on_the_number_of_ranks(found: dict[str, Any], world: int) -> None:
    whole = build_head("dense", DIMENSIONS, CLASSES, _Cosine(), seed=3).centres.tolist()
    blocks = [found[f"{world}-{rank}"]["first centres"] for rank in range(world)]
    assert [row for block in blocks for row in block] == whole
    assert max(len(block) for block in blocks) - min(len(block) for block in blocks) <= 1


# ---- what runs on the ranks ----


def _build(name: HeadName, objective: Objective) -> Head:
    return build_head(name, DIMENSIONS, CLASSES, objective, rate=1.0, chunk=2, seed=3).double()


def _error(value: Tensor | None, expected: Tensor | None) -> float:
    if value is None or expected is None:
        return 0.0 if value is expected else float("inf")
    if value.shape != expected.shape:
        return float("inf")
    return float(((value - expected).abs() / expected.abs().clamp_min(1.0)).max()) if len(value.flatten()) else 0.0


def _compare(name: HeadName, case: str, world: int, rank: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(len(case))
    objective = OBJECTIVE_CASES[case]().double()
    labels = [torch.tensor(part) for part in LABELS[world]]
    embeddings = torch.randn(sum(map(len, labels)), DIMENSIONS, generator=generator, dtype=torch.float64) * 12
    parts = [part.clone().requires_grad_() for part in embeddings.split([len(part) for part in labels])]
    per_class = objective.centres_per_class
    centres = torch.randn(CLASSES * per_class, DIMENSIONS, generator=generator, dtype=torch.float64, requires_grad=True)

    expected_objective = deepcopy(objective)
    expected = reference(expected_objective, torch.cat(parts), torch.cat(labels), centres)
    wanted = [*parts, centres, *expected_objective.parameters()]
    gradients = torch.autograd.grad(expected, wanted, allow_unused=True)
    part_gradients, centre_gradient, rest = gradients[: len(parts)], gradients[len(parts)], gradients[len(parts) + 1 :]

    head = _build(name, objective)
    block = slice(head.local_classes.start * per_class, head.local_classes.stop * per_class)
    with torch.no_grad():
        head.centres.copy_(centres[block])
    own = parts[rank].detach().requires_grad_()
    loss = head(own, labels[rank])
    loss.backward()
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    before = head.centres.detach().clone()
    head.prepare_step(optimiser)
    optimiser.step()
    head.finish_step(optimiser)
    centre_step = before - head.centres.detach()
    assert own.grad is not None
    if not head.sharded and world > 1:  # what DDP does
        distributed.all_reduce(centre_step)
        centre_step /= world
    pairs = zip(objective.named_parameters(), rest, strict=True)
    states = zip(objective.named_buffers(), expected_objective.buffers(), strict=True)
    return (
        {"loss": _error(loss.detach(), expected.detach())}
        | {"embeddings": _error(own.grad / world, part_gradients[rank])}
        | {"centres": _error(centre_step, centre_gradient[block])}
        | {key: _error(parameter.grad, gradient) for (key, parameter), gradient in pairs}
        | {key: _error(buffer.double(), other.double()) for (key, buffer), other in states}
    )


def _nobody(name: HeadName) -> list[object]:
    head = _build(name, _Binary())
    embeddings = torch.randn(2, DIMENSIONS, requires_grad=True)
    loss = head(embeddings, torch.tensor([-1, -1]))
    loss.backward()
    connected = embeddings.grad is not None and not embeddings.grad.any()
    return [loss.item(), connected]


def _run_rank(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    for world in LABELS:
        if rank >= world:
            continue
        if world > 1:
            store = f"file://{folder}/store-{world}"
            distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
        result: dict[str, Any] = {
            name: {case: _compare(name, case, world, rank) for case in OBJECTIVE_CASES} for name in HEADS
        }
        result["nobody"] = {name: _nobody(name) for name in HEADS}
        result["first centres"] = build_head("sharded", DIMENSIONS, CLASSES, _Cosine(), seed=3).centres.tolist()
        (folder / f"{world}-{rank}.json").write_text(json.dumps(result))
        if world > 1:
            distributed.destroy_process_group()


def _main(folder: Path) -> int:
    context = torch.multiprocessing.get_context("fork")
    processes = [context.Process(target=_run_rank, args=(folder, rank)) for rank in range(max(LABELS))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode or 0) for process in processes)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
