"""One optimiser step: accumulated batches, loss scale, gradient norm, learning rates, frozen parts."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.registry import build
from training.config import TrainConfig, load
from training.data.augmentation import AugmentationConfig
from training.distributed import Rank
from training.engine import run
from training.optimisation import clip_gradients
from training.prefetch import prefetch
from training.resumption import Progress, resume_run, save_run
from training.stepping import Outcome, Stepper
from training.tasks.distillation import Distillation
from training.tasks.recognition import Identification, RecognitionLearner
from training.tasks.recognition_config import BackboneConfig, DistillationConfig, HeadConfig, ObjectiveConfig

ALONE = Rank(0, 1, torch.device("cpu"))
CLASSES = 7


class _Teacher:
    """Embeddings by the index of the image."""

    embedding_size = 5
    table = torch.nn.functional.normalize(torch.randn(64, 5, generator=torch.Generator().manual_seed(1)), dim=1)

    def __call__(self, views: Tensor, index: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.table[index], []


def _learner(tiny_network: None, *, mixup: float = 0.0, **backbone: object) -> RecognitionLearner:
    torch.manual_seed(0)
    distillation = DistillationConfig(teacher=Path("teacher.onnx"), weight=0.7, mixup=mixup)
    network = build("tiny", embedding_size=8)
    return RecognitionLearner(
        network,
        AugmentationConfig(flip=0.0),
        Identification(ObjectiveConfig(name="cosface", scale=16.0, margin=0.2), HeadConfig(), 8, CLASSES, seed=0),
        Distillation(distillation, network, 8, _Teacher()),
        BackboneConfig(name="tiny", embedding_size=8, **backbone),
    )


def _batch(size: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(2)
    labels = torch.randint(0, CLASSES, (size,), generator=random)
    labels[: size // 2 - 1] = -1  # the batches of a step differ in how many are known
    images = torch.randint(0, 256, (size, 112, 112, 3), generator=random, dtype=torch.uint8)
    return {"images": images, "labels": labels, "index": torch.arange(size)}


def _step(stepper: Stepper, batches: list[dict[str, Tensor]], rate: float) -> Outcome:
    return stepper.learn(stepper.teach(stepper.draw(batches)), rate)


def _parts(batch: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    return [
        dict(zip(batch, tensors, strict=True))
        for tensors in zip(*(t.chunk(count) for t in batch.values()), strict=True)
    ]


@pytest.fixture
def config(tiny: Path) -> TrainConfig:
    return load(tiny, ("optimiser.name=sgd", "optimiser.learning_rate=0.5", "optimiser.clip_norm=1.0"))


def _stepper(config: TrainConfig, **backbone: object) -> Stepper:
    stepper = Stepper(_learner(None, **backbone), config, ALONE)
    stepper.start_epoch(0)
    return stepper


@pytest.mark.parametrize("count", [2, 3, 6])
def test_accumulated_batches_are_one_batch(config: TrainConfig, count: int) -> None:
    whole, parts = _stepper(config), _stepper(config)
    batch = _batch(24)
    for _ in range(3):
        one = _step(whole, [batch], 0.5)
        many = _step(parts, _parts(batch, count), 0.5)
        torch.testing.assert_close(many.loss, one.loss)
        torch.testing.assert_close(many.norm, one.norm, rtol=1e-4, atol=1e-6)
        for name in ("identification", "regression"):
            torch.testing.assert_close(many.metrics[name], one.metrics[name])
    for (name, expected), found in zip(
        whole.learner.state_dict().items(), parts.learner.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_a_batch_without_anybody_known_counts_for_nothing_in_the_objective(config: TrainConfig) -> None:
    whole, parts = _stepper(config), _stepper(config)
    batch = _batch(24)
    batch["labels"][:12] = -1
    one, many = _step(whole, [batch], 0.5), _step(parts, _parts(batch, 2), 0.5)
    torch.testing.assert_close(many.loss, one.loss)


def test_a_run_of_accumulated_batches_follows_that_of_large_ones(tiny: Path, losses) -> None:  # type: ignore[no-untyped-def]
    large = run(load(tiny, ("name=large",)))
    small = run(load(tiny, ("name=small", "batch_size=3", "accumulate=4")))
    assert list(losses(small)) == list(range(1, 16))
    np.testing.assert_allclose(list(losses(small).values()), list(losses(large).values()), rtol=1e-3)
    trained = [checkpoint.read(f / "checkpoint.safetensors").metadata.training for f in (large, small)]
    assert trained[0]["batch"] == trained[1]["batch"] == 12
    assert trained[0]["steps"] == trained[1]["steps"] == 15


def test_half_precision_skips_a_step_that_overflows_and_keeps_its_scale(config: TrainConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"precision": "fp16"})
    stepper, batch = _stepper(config), _batch(12)
    for _ in range(6):  # the scale begins too high, as it is meant to
        _step(stepper, [batch], 0.01)
    scale = stepper.scaler.get_scale()
    assert 2.0**8 < scale <= 2.0**16
    before = [parameter.clone() for parameter in stepper.learner.parameters()]
    handle = stepper.network.embedding.weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[union-attr]
    _step(stepper, [batch], 0.1)
    handle.remove()
    for parameter, kept in zip(stepper.learner.parameters(), before, strict=True):
        assert torch.equal(parameter, kept)
    assert stepper.scaler.get_scale() == scale / 2
    save_run(tmp_path, stepper, Progress(step=2, steps_per_epoch=5, images_per_step=12))
    again = _stepper(config)
    progress = resume_run(tmp_path, again)
    assert progress is not None
    assert progress.step == 2
    assert again.scaler.get_scale() == scale / 2
    one, other = _step(stepper, [batch], 0.1), _step(again, [batch], 0.1)
    assert torch.equal(one.loss, other.loss)
    for parameter, expected in zip(again.learner.parameters(), stepper.learner.parameters(), strict=True):
        assert torch.equal(parameter, expected)
        assert not any(torch.equal(parameter, kept) for kept in before if kept.shape == parameter.shape)


def test_the_gradients_are_clipped_together() -> None:
    shared = [torch.nn.Parameter(torch.zeros(3)) for _ in range(2)]
    sharded = [torch.nn.Parameter(torch.zeros(2, 2))]
    for number, parameter in enumerate([*shared, *sharded], start=1):
        parameter.grad = torch.full_like(parameter, float(number))
    norm = clip_gradients(shared, sharded, 2.0, ALONE)
    expected = float(np.sqrt(3 * 1 + 3 * 4 + 4 * 9))
    assert float(norm) == pytest.approx(expected)
    clipped = torch.cat([p.grad.flatten() for p in [*shared, *sharded] if p.grad is not None])
    assert float(clipped.norm()) == pytest.approx(2.0, rel=1e-5)


def test_the_head_may_learn_faster_than_the_network(config: TrainConfig) -> None:
    optimiser = config.optimiser.model_copy(
        update={"head_learning_rate_ratio": 10.0, "momentum": 0.0, "weight_decay": 0.0}
    )
    plain = _stepper(
        config.model_copy(update={"optimiser": optimiser.model_copy(update={"head_learning_rate_ratio": 1.0})})
    )
    faster = _stepper(config.model_copy(update={"optimiser": optimiser}))
    start = {name: tensor.clone() for name, tensor in plain.learner.state_dict().items()}
    for stepper in (plain, faster):
        _step(stepper, [_batch(12)], 0.1)
    for name, tensor in faster.learner.named_parameters():
        moved, usual = tensor - start[name], plain.learner.get_parameter(name) - start[name]
        torch.testing.assert_close(moved, usual * (1.0 if name.startswith("network") else 10.0), rtol=1e-3, atol=1e-6)


def test_a_frozen_backbone_moves_only_after_its_epochs(config: TrainConfig) -> None:
    stepper = _stepper(config, freeze="backbone", freeze_epochs=1)
    before = [parameter.clone() for parameter in stepper.network.parameters()]
    _step(stepper, [_batch(12)], 0.1)
    assert not stepper.network.training
    assert all(torch.equal(p, kept) for p, kept in zip(stepper.network.parameters(), before, strict=True))
    stepper.start_epoch(1)
    assert stepper.network.training
    _step(stepper, [_batch(12)], 0.1)
    assert not any(torch.equal(p, kept) for p, kept in zip(stepper.network.parameters(), before, strict=True))


def test_frozen_normalisation_keeps_its_statistics_through_a_run(tiny: Path) -> None:
    overrides = ("task.backbone.arguments={normalised: true}", "task.backbone.freeze=normalisation", "epochs=1")
    weights = checkpoint.read(run(load(tiny, overrides)) / "checkpoint.safetensors").weights
    np.testing.assert_array_equal(weights["normalisation.running_mean"], 0)
    np.testing.assert_array_equal(weights["normalisation.weight"], 1)
    free = checkpoint.read(
        run(load(tiny, (*overrides[:1], "epochs=1", "name=free"))) / "checkpoint.safetensors"
    ).weights
    assert np.abs(free["normalisation.running_mean"]).max() > 0


def test_prefetched_batches_are_the_same_and_their_errors_are_raised() -> None:
    def batches(count: int) -> Iterator[dict[str, Tensor]]:
        for number in range(count):
            yield {"x": torch.tensor(number)}
        raise OSError("disk gone")

    for ahead in (0, 1, 3):
        stream = prefetch(batches(5), ahead, torch.device("cpu"))
        assert [int(next(stream)["x"]) for _ in range(5)] == list(range(5))
        with pytest.raises(OSError, match="disk gone"):
            next(stream)
        early = prefetch(batches(50), ahead, torch.device("cpu"))
        next(early), next(early)
        early.close()
