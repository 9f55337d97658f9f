"""Every recipe that comes with the project loads, and names what exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from models.registry import build
from training.config import load
from training.data.samples import DataError
from training.data.synthetic import SyntheticConfig, SyntheticSource
from training.heads.registry import build_head
from training.losses.registry import build_objective
from training.tasks.recognition_config import RecognitionConfig

FOLDER = Path(__file__).resolve().parents[2] / "training" / "configs"
# What `facemargin ablate` takes is a grid over a recipe, and no recipe itself.
RECIPES = sorted(path for path in FOLDER.glob("*.yaml") if "task" in yaml.safe_load(path.read_text()))


def test_the_promised_recipes_are_there() -> None:
    promised = {"ms1mv3-r50", "glint360k-r100", "webface-mobilefacenet", "casia-r18", "deepid-celebfaces"}
    assert promised | {"vit-webface", "smoke"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_its_parts_exist(path: Path) -> None:
    config = load(path)
    task = config.task
    if not isinstance(task, RecognitionConfig):
        return
    backbone = task.backbone
    with torch.device("meta"):  # no weights: only whether the arguments are taken
        build(backbone.name, embedding_size=backbone.embedding_size, **backbone.arguments)
    if task.objective is not None:
        objective = build_objective(task.objective.name, classes=50, **task.objective.arguments)
        build_head(task.head.name, backbone.embedding_size, 50, objective, rate=task.head.rate, chunk=task.head.chunk)


def test_a_recipe_says_where_its_values_come_from() -> None:
    for path in RECIPES:
        assert path.read_text().startswith("# "), path.name


def test_invented_faces_are_the_same_everywhere_and_differ_by_person() -> None:
    source = SyntheticSource(SyntheticConfig(identities=8, images=3))
    again = SyntheticSource(SyntheticConfig(identities=8, images=3))
    assert len(source.keys) == 24
    assert source.keys[4] == "synthetic-000001/0001"
    assert source.codes.tolist() == [number // 3 for number in range(24)]
    images = np.stack([image for _, image in source.images()]).astype(np.float64)
    assert images.shape == (24, 112, 112, 3)
    np.testing.assert_array_equal(images[7], again.image(7))
    assert np.abs(images[0] - SyntheticSource(SyntheticConfig(seed=1)).image(0)).mean() > 10
    flat = images.reshape(24, -1)
    flat = (flat - flat.mean(axis=1, keepdims=True)) / flat.std(axis=1, keepdims=True)
    alike = flat @ flat.T / flat.shape[1]
    same = source.codes[:, None] == source.codes[None]
    assert alike[same].mean() > alike[~same].mean() + 0.2
    assert min(np.abs(images[i] - images[j]).mean() for i in range(3) for j in range(i)) > 1
    with pytest.raises(IndexError):
        source.image(24)


def test_the_smoke_recipe_needs_no_data() -> None:
    (source,) = load(FOLDER / "smoke.yaml").task.sources
    try:
        opened = source.open()
    except DataError as error:
        pytest.fail(str(error))
    assert len(opened.keys) == 200
