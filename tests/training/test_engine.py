"""The engine end to end, on real faces: it learns, resumes after kill -9, and runs on two ranks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

from models import checkpoint, probe
from models.network import instantiate, torch_forward
from training.config import ConfigError, load
from training.engine import LossNotFinite, run
from training.optimisation import learning_rate

IDENTITIES, IMAGES = 6, 10


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
    return root


@pytest.fixture
def recipe(faces: Path, tmp_path: Path) -> Path:
    document = {
        "name": "tiny",
        "run_dir": str(tmp_path / "runs"),
        "device": "cpu",
        "threads": 1,
        "precision": "fp32",
        "batch_size": 12,
        "epochs": 3,
        "ema_decay": 0.5,
        "log_every": 1,
        "save_every": 2,
        "optimiser": {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 2},
        "task": {
            "kind": "recognition",
            "sources": [{"folder": str(faces)}],
            "backbone": {"name": "mobilefacenet", "embedding_size": 64, "arguments": {"activation": "relu"}},
            "objective": {"name": "cosface", "scale": 16, "margin": 0.1},
            "augmentation": {"flip": 0.5, "colour": 0.3, "erase": 0.3},
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def _losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def _weights(folder: Path) -> dict[str, np.ndarray]:
    return checkpoint.read(folder / "checkpoint.safetensors").weights


def test_a_run_learns_and_its_checkpoint_proves_itself(recipe: Path) -> None:
    folder = run(load(recipe, ("epochs=6",)))
    losses = list(_losses(folder).values())
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
    loaded = checkpoint.read(folder / "checkpoint.safetensors")
    assert loaded.metadata.training["identities"] == IDENTITIES
    assert loaded.metadata.training["images"] == IDENTITIES * IMAGES
    assert loaded.metadata.training["steps"] == 30
    assert loaded.metadata.probe is not None
    assert probe.check(torch_forward(instantiate(loaded)), loaded.metadata.probe) < 1e-6
    assert yaml.safe_load((folder / "config.yaml").read_text())["epochs"] == 6
    assert list((folder / "tensorboard").iterdir())


def test_a_run_killed_at_any_moment_resumes_as_if_nothing_had_been(recipe: Path, tmp_path: Path) -> None:
    undisturbed = run(load(recipe, (f"run_dir={tmp_path / 'undisturbed'}",)))
    command = [sys.executable, "-m", "training", "train", str(recipe)]
    folder = tmp_path / "runs" / "tiny"
    for steps in (3, 8):  # in the first epoch between two states, and later
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (folder / "metrics.jsonl").exists() and max(_losses(folder), default=0) >= steps:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    run(load(recipe))
    assert _losses(folder) == _losses(undisturbed)
    for name, array in _weights(undisturbed).items():
        np.testing.assert_array_equal(_weights(folder)[name], array)


def test_two_ranks_train_one_network(recipe: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += ["-m", "training", "train", str(recipe), "batch_size=6", "epochs=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert finished.returncode == 0, finished.stderr[-2000:]
    folder = tmp_path / "runs" / "tiny"
    assert sorted(_losses(folder)) == list(range(1, 11))
    loaded = checkpoint.read(folder / "checkpoint.safetensors")
    assert loaded.metadata.training["batch"] == 12


def test_distillation_alone_takes_images_without_identity(recipe: Path, faces: Path, tmp_path: Path) -> None:
    unlabelled = tmp_path / "unknown"
    unlabelled.mkdir()
    shutil.copytree(next(faces.iterdir()), unlabelled / "_unlabelled")
    keys = [f"_unlabelled/{path.name}" for path in (unlabelled / "_unlabelled").iterdir()]
    embeddings = np.random.default_rng(0).normal(size=(len(keys), 16)).astype(np.float16)
    np.savez(tmp_path / "teacher.npz", key=keys, embedding=embeddings)
    folder = run(
        load(
            recipe,
            (
                f"task.sources=[{{folder: {unlabelled}}}]",
                "task.objective=null",
                f"task.distillation={{embeddings: {tmp_path / 'teacher.npz'}, relation_weight: 1.0}}",
                "batch_size=5",
                "epochs=5",
            ),
        )
    )
    losses = list(_losses(folder).values())
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert checkpoint.read(folder / "checkpoint.safetensors").metadata.training["identities"] == 0


@pytest.mark.parametrize("name", ["softmax", "normface", "arcface"])
def test_every_objective_trains_in_bf16_too(recipe: Path, name: str) -> None:
    folder = run(load(recipe, (f"task.objective.name={name}", "precision=bf16", "epochs=1", "optimiser.name=sgd")))
    assert np.isfinite(list(_losses(folder).values())).all()


def test_a_loss_that_is_not_finite_stops_the_run_with_the_remedy(recipe: Path) -> None:
    with pytest.raises(LossNotFinite, match="learning_rate"):
        run(load(recipe, ("optimiser.name=sgd", "optimiser.learning_rate=1e30", "optimiser.clip_norm=null")))


def test_a_folder_of_another_run_and_a_batch_beyond_the_data_are_refused(recipe: Path) -> None:
    run(load(recipe, ("epochs=1",)))
    with pytest.raises(ConfigError, match="another configuration"):
        run(load(recipe, ("epochs=2",)))
    with pytest.raises(ConfigError, match="batch_size 1000"):
        run(load(recipe, ("batch_size=1000", "name=large")))


def test_the_learning_rate_warms_up_and_follows_a_cosine(recipe: Path) -> None:
    config = load(recipe, ("optimiser.warmup_steps=10", "optimiser.learning_rate=1.0", "optimiser.final_ratio=0.1"))
    rates = [learning_rate(step, 110, config.optimiser) for step in range(111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))
