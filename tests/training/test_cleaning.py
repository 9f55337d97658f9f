"""Cleaning: a run on people of whom some images are another's finds those, and leaves them out of its data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from training.cli import main
from training.config import load
from training.data.collection import FaceData
from training.data.sources import SourceConfig
from training.data.synthetic import SyntheticConfig, SyntheticSource
from training.engine import run


@pytest.fixture
def mislabelled(tmp_path: Path) -> Path:
    """Six invented people with ten images each; one image of each is filed under the next one's name."""
    source = SyntheticSource(SyntheticConfig(identities=6, images=10))
    root = tmp_path / "people"
    for position, image in source.images():
        assert isinstance(image, np.ndarray)
        identity, name = source.keys[position].split("/")
        if position % 10 == 0:
            identity = source.identities[(source.identities.index(identity) + 1) % 6]
            name = f"wrong-{name}"
        (root / identity).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / identity / f"{name}.png")
    return root


def test_what_is_filed_under_anothers_name_is_left_out(tiny: Path, mislabelled: Path, tmp_path: Path) -> None:
    overrides = (f"task.sources=[{{folder: {mislabelled}}}]", "epochs=12", "optimiser.learning_rate=0.02")
    objective = "task.objective={name: subcenter-arcface, scale: 16, margin: 0.1, centres_per_class: 2}"
    folder = run(load(tiny, (*overrides, objective)))
    arguments = ["clean", str(folder), "--output", str(tmp_path / "clean"), "--minor", "drop", "--degrees", "60"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    cleaned = FaceData([SourceConfig(packed=tmp_path / "clean")], 112)
    dropped = set(FaceData([SourceConfig(folder=mislabelled)], 112).keys) - set(cleaned.keys)
    wrong = {key for key in dropped if "wrong-" in key}
    assert len(wrong) >= 4
    assert len(dropped - wrong) <= 6
    assert cleaned.identities == sorted(path.name for path in mislabelled.iterdir())


def test_a_run_without_centres_or_state_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = run(load(tiny, ("epochs=1",)))
    shutil.rmtree(folder / "state")
    result = CliRunner().invoke(main, ["clean", str(folder), "--output", str(tmp_path / "clean")])
    assert result.exit_code == 2
    assert "no state with class centres" in result.output
    assert not (tmp_path / "clean").exists()
