"""`facemargin models use`: the next start loads what was chosen, and no gallery meets another model's embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from models import checkpoint
from models.cli import main
from models.pretrained import DETECTOR, RECOGNISER
from service.gallery.database import open_engine
from service.gallery.records import NewFace
from service.gallery.store import GalleryStore
from service.settings import Settings


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A recogniser with weights of its own."""
    loaded = checkpoint.read(RECOGNISER)
    weights = {name: np.asarray(array * 1.5).astype(array.dtype) for name, array in loaded.weights.items()}
    path = tmp_path / "other.safetensors"
    checkpoint.write(path, weights, loaded.metadata.model_copy(update={"name": "other", "probe": None}))
    return path


def use(model: object, data_dir: Path) -> Result:
    return CliRunner().invoke(main, ["models", "use", str(model), "--data-dir", str(data_dir)])


def test_what_was_chosen_is_loaded_and_what_was_shipped_comes_back(other: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    result = use(other, data_dir)
    assert result.exit_code == 0, result.output
    assert checkpoint.read(other).model_id in result.output
    chosen = Settings(data_dir=data_dir).recogniser
    assert chosen.read_bytes() == other.read_bytes()
    assert Settings(data_dir=data_dir).detector == DETECTOR
    assert Settings(data_dir=data_dir, recogniser=RECOGNISER).recogniser == RECOGNISER
    assert use("shipped-recogniser", data_dir).exit_code == 0
    assert Settings(data_dir=data_dir).recogniser == RECOGNISER


def test_a_gallery_of_another_model_refuses_it(other: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    settings = Settings(data_dir=data_dir)
    shipped = checkpoint.read(RECOGNISER)
    engine = open_engine(settings.gallery_url)
    vector = np.zeros(512, np.float32)
    vector[0] = 1.0
    face = NewFace(vector, 1.0, 1.0, (0.0, 0.0, 9.0, 9.0), "0" * 64)
    GalleryStore(engine, shipped.model_id, 512).enrol("default", "ada", [face], create_subject=True)
    engine.dispose()
    result = use(other, data_dir)
    assert (result.exit_code, shipped.model_id in result.output) == (2, True)
    assert "reembed" in result.output
    assert Settings(data_dir=data_dir).recogniser == RECOGNISER
    assert use("shipped-recogniser", data_dir).exit_code == 0


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    for wrong in (tmp_path / "photo.jpg", tmp_path / "missing", "shipped-anything"):
        result = use(wrong, tmp_path / "data")
        assert result.exit_code == 2
        assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "data" / "models").exists()
