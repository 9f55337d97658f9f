"""A recipe that needs no data, the way to run it in a process or in several, and a few real faces."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

LAUNCHER = Path(__file__).with_name("launch.py")


@pytest.fixture(scope="session")
def tiny_network() -> None:
    """The network `tiny` is registered."""
    specification = importlib.util.spec_from_file_location("facemargin_tiny", LAUNCHER)
    assert specification is not None
    assert specification.loader is not None
    specification.loader.exec_module(importlib.util.module_from_spec(specification))


@pytest.fixture
def few_faces(unpacked: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder `faces` of 8 people with 6 aligned crops each."""
    folder = tmp_path / "faces"
    for person in sorted(unpacked("cfp-dev").iterdir())[:8]:
        (folder / person.name).mkdir(parents=True)
        for image in sorted(person.glob("*_0[1-3].webp")):
            shutil.copy(image, folder / person.name)
    return folder


@pytest.fixture
def tiny(tiny_network: None, tmp_path: Path) -> Path:
    """15 steps of 12 images, nothing random but the order."""
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
        "optimiser": {"name": "adamw", "learning_rate": 1e-2, "warmup_steps": 2},
        "task": {
            "kind": "recognition",
            "sources": [{"synthetic": {"identities": 6, "images": 10}}],
            "backbone": {"name": "tiny", "embedding_size": 16},
            "objective": {"name": "cosface", "scale": 16, "margin": 0.1},
            "augmentation": {"flip": 0.0},
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def launch(tiny: Path) -> Launch:
    """`launch("batch_size=6", ranks=2, fault="SIGKILL:1:4", restarts=1)` trains `tiny` in other processes."""

    def start(*overrides: str, ranks: int = 1, fault: str | None = None, restarts: int = 0) -> Any:
        command = [sys.executable]
        if ranks > 1:
            command += ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
            command += [f"--max-restarts={restarts}"]
        command += [str(LAUNCHER), "train", str(tiny), *overrides]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | ({"FAULT": fault} if fault else {})
        return subprocess.run(
            command, capture_output=True, text=True, timeout=280, env=environment, start_new_session=True
        )

    return start


@pytest.fixture
def losses() -> Callable[[Path], dict[int, float]]:
    """`losses(folder)`: the loss by step that a run's journal tells."""

    def read(folder: Path) -> dict[int, float]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    return read
