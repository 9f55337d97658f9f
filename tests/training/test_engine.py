"""The engine end to end: it learns real faces, survives kill -9, and trains every objective."""

import json
import random
import shutil
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from models import checkpoint, probe
from models.network import instantiate, torch_forward
from training.config import ConfigError, load
from training.engine import LossNotFinite, run
from training.losses.registry import OBJECTIVES
from training.optimisation import learning_rate
from training.tasks.recognition import Identification
from training.tasks.recognition_config import HeadConfig, RecognitionConfig

IDENTITIES, IMAGES = 6, 10
SHIPPED = Path(__file__).parents[2] / "training" / "configs" / "recogniser.yaml"

Losses = Callable[[Path], dict[int, float]]


@pytest.fixture(scope="module")
def faces(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 6 real identities with 10 images each."""
    root = tmp_path_factory.mktemp("faces")
    kept: dict[str, int] = {}
    with tarfile.open(shared / "data/faces-train-identified.tar.gz") as archive:
        for member in archive:
            identity = Path(member.name).parent.name
            if not member.isfile() or (identity not in kept and len(kept) == IDENTITIES):
                continue
            kept[identity] = kept.get(identity, 0) + 1
            if kept[identity] <= IMAGES:
                archive.extract(member, root, filter="data")
            if len(kept) == IDENTITIES and min(kept.values()) >= IMAGES:
                break
    return root


def test_a_run_learns_real_faces_and_its_checkpoint_proves_itself(tiny: Path, faces: Path, losses: Losses) -> None:
    overrides = (
        f"task.sources=[{{folder: {faces}}}]",
        "task.backbone={name: mobilefacenet, embedding_size: 64, arguments: {activation: relu}}",
        "task.augmentation={flip: 0.5, colour: 0.3, erase: 0.3}",
        "optimiser.learning_rate=1e-3",
        "precision=bf16",
        "save_every=100",
        "epochs=4",
    )
    folder = run(load(tiny, overrides))
    told = list(losses(folder).values())
    assert len(told) == 20
    assert np.mean(told[-5:]) < 0.85 * np.mean(told[:5])
    loaded = checkpoint.read(folder / "checkpoint.safetensors")
    assert loaded.metadata.training["data"] == [faces.name]
    assert loaded.metadata.training["identities"] == IDENTITIES
    assert loaded.metadata.training["images"] == IDENTITIES * IMAGES
    assert loaded.metadata.training["steps"] == 20
    assert loaded.metadata.probe is not None
    assert probe.check(torch_forward(instantiate(loaded)), loaded.metadata.probe) < 1e-6
    assert yaml.safe_load((folder / "config.yaml").read_text())["epochs"] == 4
    assert list((folder / "tensorboard").iterdir())


def test_a_run_killed_at_any_moment_resumes_as_if_nothing_had_been(
    tiny: Path, launch: Callable[..., object], tmp_path: Path, losses: Losses
) -> None:
    augmented = ("task.augmentation={flip: 0.5, colour: 0.3, erase: 0.3}", "task.backbone.arguments={normalised: true}")
    undisturbed = run(load(tiny, (*augmented, f"run_dir={tmp_path / 'undisturbed'}")))
    step = random.randint(2, 14)
    killed = launch(*augmented, fault=f"SIGKILL:0:{step}")
    assert killed.returncode == -9, "the run ended before it could be killed"
    folder = tmp_path / "runs" / "tiny"
    assert max(losses(folder)) == step - 1
    run(load(tiny, augmented))
    assert losses(folder) == losses(undisturbed), f"killed before step {step}"
    weights = [checkpoint.read(f / "checkpoint.safetensors").weights for f in (undisturbed, folder)]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], array)


def test_distillation_alone_takes_images_without_identity(
    tiny: Path, faces: Path, tmp_path: Path, losses: Losses
) -> None:
    unlabelled = tmp_path / "unknown"
    unlabelled.mkdir()
    shutil.copytree(next(faces.iterdir()), unlabelled / "_unlabelled")
    keys = [f"_unlabelled/{path.name}" for path in (unlabelled / "_unlabelled").iterdir()]
    embeddings = np.random.default_rng(0).normal(size=(len(keys), 16)).astype(np.float16)
    np.savez(tmp_path / "teacher.npz", key=keys, embedding=embeddings)
    overrides = (
        f"task.sources=[{{folder: {unlabelled}}}]",
        "task.objective=null",
        f"task.distillation={{embeddings: {tmp_path / 'teacher.npz'}, relation_weight: 1.0}}",
        "batch_size=5",
        "epochs=10",
    )
    folder = run(load(tiny, overrides))
    told = list(losses(folder).values())
    assert np.mean(told[-3:]) < np.mean(told[:3])
    assert checkpoint.read(folder / "checkpoint.safetensors").metadata.training["identities"] == 0
    with pytest.raises(ConfigError, match="no image has a known identity"):
        run(load(tiny, (*overrides, "name=other", "task.objective={name: cosface}")))


def test_centres_of_identities_take_part_and_must_be_of_the_teachers_size(
    tiny: Path, faces: Path, tmp_path: Path, losses: Losses
) -> None:
    keys = [f"{path.parent.name}/{path.name}" for path in sorted(faces.glob("*/*"))]
    for name, size in (("teacher", 16), ("other", 8)):
        embeddings = np.random.default_rng(0).normal(size=(len(keys), size)).astype(np.float16)
        np.savez(tmp_path / f"{name}.npz", key=keys, embedding=embeddings)

    def overrides(centres: str) -> tuple[str, ...]:
        stored = {"embeddings": "teacher", "centres": centres}
        distillation = ", ".join(f"{option}: {tmp_path / name}.npz" for option, name in stored.items())
        sources = f"task.sources=[{{folder: {faces}}}]"
        return (f"name={centres}", sources, "task.objective=null", f"task.distillation={{{distillation}}}")

    told = list(losses(run(load(tiny, overrides("teacher")))).values())
    assert np.mean(told[-3:]) < np.mean(told[:3])
    with pytest.raises(ConfigError, match=r"centres: other\.npz holds embeddings of 8 numbers, the teacher's have 16"):
        run(load(tiny, overrides("other")))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_objective_trains_in_bf16_too(tiny: Path, name: str, losses: Losses) -> None:
    folder = run(load(tiny, (f"task.objective={{name: {name}}}", "precision=bf16", "epochs=1", "save_every=100")))
    told = list(losses(folder).values())
    assert len(told) == 5
    assert np.isfinite(told).all()


@pytest.mark.parametrize("head", ["sharded", "sampled", "fused"])
def test_every_head_trains_and_resumes(tiny: Path, head: str, tmp_path: Path, losses: Losses) -> None:
    overrides = (f"task.head={{name: {head}, rate: 0.5, chunk: 4}}",)
    undisturbed = run(load(tiny, (*overrides, f"run_dir={tmp_path / 'undisturbed'}")))
    run(load(tiny, overrides))
    state = tmp_path / "runs" / "tiny" / "state"
    assert losses(tmp_path / "runs" / "tiny") == losses(undisturbed)
    told = list(losses(undisturbed).values())
    if head != "sampled":
        dense = run(load(tiny, ("name=dense",)))
        np.testing.assert_allclose(told, list(losses(dense).values()), rtol=1e-4)
    assert [path.name for path in state.glob("step-*")] == ["step-15x12"]


def test_the_shipped_recipe_keeps_its_loss() -> None:
    """objective {name: cosface, scale: 32, margin: 0.25}: cross-entropy over 32 (c - 0.25 of the target)."""
    task = load(SHIPPED).task
    assert isinstance(task, RecognitionConfig)
    assert task.objective is not None
    identification = Identification(task.objective, HeadConfig(), 16, 9, seed=0)
    random_numbers = torch.Generator().manual_seed(0)
    embeddings = torch.randn(8, 16, generator=random_numbers) * 3
    labels = torch.tensor([0, 3, -1, 8, 2, -1, 3, 5])
    unit = torch.nn.functional.normalize
    known = labels >= 0
    cosines = unit(embeddings[known].double()) @ unit(identification.head.centres.detach().double()).T
    target = torch.nn.functional.one_hot(labels[known], 9)
    expected = torch.nn.functional.cross_entropy(32 * (cosines - 0.25 * target), labels[known])
    losses = identification(embeddings, labels)
    losses = {name: loss.detach() for name, loss in losses.items()}
    assert float(losses["identification"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(identification.weigh(losses)) == pytest.approx(0.05 * float(expected), rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_with_the_remedy(tiny: Path) -> None:
    with pytest.raises(LossNotFinite, match="learning_rate"):
        run(load(tiny, ("optimiser.name=sgd", "optimiser.learning_rate=1e38", "optimiser.clip_norm=null")))


def test_a_folder_of_another_run_and_a_batch_beyond_the_data_are_refused(tiny: Path) -> None:
    run(load(tiny, ("epochs=1",)))
    with pytest.raises(ConfigError, match="another configuration"):
        run(load(tiny, ("epochs=2",)))
    with pytest.raises(ConfigError, match="batch_size 1000"):
        run(load(tiny, ("batch_size=1000", "name=large")))


def test_the_learning_rate_warms_up_and_follows_a_cosine(tiny: Path) -> None:
    config = load(tiny, ("optimiser.warmup_steps=10", "optimiser.learning_rate=1.0", "optimiser.final_ratio=0.1"))
    rates = [learning_rate(step, 110, config.optimiser) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    scaled = config.optimiser.model_copy(update={"scale_with_batch": 256})
    assert learning_rate(60, 110, scaled, 1024) == pytest.approx(4 * 0.55)


def test_the_journal_tells_of_every_step(tiny: Path) -> None:
    folder = run(load(tiny, ("epochs=1",)))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 6))
    for line in lines:
        assert line.keys() >= {"loss", "identification", "gradient_norm", "learning_rate", "epoch", "images_per_second"}
