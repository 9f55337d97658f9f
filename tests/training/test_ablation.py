"""`facemargin ablate`: a small grid on real faces is trained, measured, resumed; bad grids are refused by name."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from models import checkpoint
from training.ablation import load_grid
from training.commands.ablate import ablate
from training.config import ConfigError, load
from training.evaluation.pairs import COLUMNS
from training.losses.registry import OBJECTIVES

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


@pytest.fixture(scope="module")
def faces(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 4 real identities with 6 images each."""
    root = tmp_path_factory.mktemp("faces")
    kept: dict[str, int] = {}
    with tarfile.open(shared / "data/faces-train-identified.tar.gz") as archive:
        for member in archive:
            identity = Path(member.name).parent.name
            if not member.isfile() or (identity not in kept and len(kept) == 4):
                continue
            kept[identity] = kept.get(identity, 0) + 1
            if kept[identity] <= 6:
                archive.extract(member, root, filter="data")
            if len(kept) == 4 and min(kept.values()) >= 6:
                break
    return root


@pytest.fixture(scope="module")
def pairs(unpacked: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Crops of 8 other people, and two folds of pairs of them."""
    folder = tmp_path_factory.mktemp("pairs")
    names = sorted(path.name for path in unpacked("cfp-dev").iterdir())[:8]
    lines = [",".join(COLUMNS)]
    for number, name in enumerate(names):
        (folder / "crops" / name).mkdir(parents=True)
        for image in ("frontal_01", "frontal_02"):
            shutil.copy(unpacked("cfp-dev") / name / f"{image}.webp", folder / "crops" / name)
        lines.append(f"{number % 2},{name},frontal_01,{name},frontal_02,1")
        lines.append(f"{number % 2},{name},frontal_01,{names[(number + 2) % 8]},frontal_01,0")
    (folder / "pairs.csv").write_text("\n".join(lines))
    return folder / "crops", folder / "pairs.csv"


@pytest.fixture
def grid(faces: Path, pairs: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    """A grid document; its recipe lies in tmp_path."""
    recipe = {
        "name": "tiny",
        "run_dir": str(tmp_path / "runs"),
        "device": "cpu",
        "threads": 1,
        "precision": "fp32",
        "batch_size": 12,
        "epochs": 3,
        "optimiser": {"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 1},
        "task": {
            "kind": "recognition",
            "sources": [{"folder": str(faces)}],
            "backbone": {"name": "mobilefacenet", "embedding_size": 32, "arguments": {"activation": "relu"}},
            "objective": {"name": "cosface", "scale": 16, "margin": 0.1},
        },
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    return {
        "name": "margins",
        "base": "tiny.yaml",
        "overrides": ["epochs=1"],
        "grid": {"small": ["task.objective.margin=0.0"], "large": ["task.objective.margin=0.4"]},
        "evaluate": [{"name": "FF", "images": str(pairs[0]), "pairs": str(pairs[1])}],
    }


def _write(document: object, tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))  # cells come in the order of the file
    return path


def _ablate(*arguments: object) -> Result:
    return CliRunner().invoke(ablate, [str(argument) for argument in arguments])


def test_every_cell_is_trained_once_and_measured_on_the_same_pairs(grid: dict[str, Any], tmp_path: Path) -> None:
    path, output = _write(grid, tmp_path), tmp_path / "out" / "grid.json"
    first = _ablate(path, "--json", output, "--markdown", tmp_path / "grid.md")
    assert first.exit_code == 0, first.output
    document = json.loads(output.read_text())
    assert [cell["cell"] for cell in document["cells"]] == ["small", "large"]
    assert document["machine"]["threads"] == 1
    for cell in document["cells"]:
        figures = cell["evaluations"]["FF"]
        low, high = figures["intervals"]["accuracy_mean"]
        assert 0 <= low <= figures["accuracy_mean"] <= high <= 1
        assert figures["pairs"] == 16
        assert cell["seconds"] > 0
        assert cell["training"]["steps"] == 2
        loaded = checkpoint.read(tmp_path / "runs" / cell["run"] / "checkpoint.safetensors")
        assert cell["model"] == loaded.model_id
    assert len({cell["model"] for cell in document["cells"]}) == 2
    table = (tmp_path / "grid.md").read_text()
    assert table.strip() in first.stdout
    rows = table.splitlines()
    assert rows[0] == "| cell | FF accuracy | FF EER | parameters | minutes |"
    assert [row.split(" | ")[0] for row in rows[2:4]] == ["| small", "| large"]
    assert f"{100 * document['cells'][1]['evaluations']['FF']['accuracy_mean']:.2f} [" in rows[3]

    trained = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("checkpoint.safetensors")}
    grid["grid"]["larger"] = ["task.objective.margin=0.5"]
    again = _ablate(_write(grid, tmp_path), "--json", output)
    assert again.exit_code == 0, again.output
    extended = json.loads(output.read_text())
    assert extended["cells"][:2] == document["cells"]
    assert extended["cells"][2]["cell"] == "larger"
    assert all(p.stat().st_mtime_ns == modified for p, modified in trained.items())


def test_a_cell_that_diverges_is_a_line_of_the_table(grid: dict[str, Any], tmp_path: Path) -> None:
    diverging = ["optimiser.name=sgd", "optimiser.learning_rate=1e30", "optimiser.clip_norm=null", "epochs=2"]
    grid["grid"] = {"hot": diverging, "calm": []}
    result = _ablate(_write(grid, tmp_path), "--json", tmp_path / "grid.json")
    assert result.exit_code == 0, result.output
    hot, calm = json.loads((tmp_path / "grid.json").read_text())["cells"]
    assert "learning_rate" in hot["failure"]
    assert hot["evaluations"] is None
    assert calm["failure"] is None
    assert "| hot | diverged | diverged |" in result.stdout


def test_axes_make_a_cell_of_each_combination(grid: dict[str, Any], tmp_path: Path) -> None:
    grid["grid"] = {
        "objective": {"cos": ["task.objective.name=cosface"], "arc": ["task.objective.name=arcface"]},
        "rate": {"slow": ["optimiser.learning_rate=0.001"], "fast": ["optimiser.learning_rate=0.01"]},
    }
    cells = load_grid(_write(grid, tmp_path)).cells
    assert [cell.name for cell in cells] == ["cos_slow", "cos_fast", "arc_slow", "arc_fast"]
    last = cells[3].config
    assert (last.name, last.epochs, last.optimiser.learning_rate) == ("margins-arc_fast", 1, 0.01)
    assert last.task.kind == "recognition"
    assert last.task.objective is not None
    assert last.task.objective.name == "arcface"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": {}}, "grid"),
        ({"grid": {"a": ["batchsize=3"]}}, "cell a: .*batchsize"),
        ({"grid": {"a": ["epochs"]}}, "cell a: .*key=value"),
        ({"grid": {"a": [], "b": {"c": []}}}, "either all cells"),
        ({"grid": {"a": {}}}, "without values"),
        ({"grid": {"a b": []}}, "cell a b: .*name"),
        ({"evaluate": []}, "evaluate"),
        ({"evaluat": 1}, "evaluat"),
        ({"base": "none.yaml"}, r"none\.yaml"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_a_bad_grid_is_refused_before_anything_is_trained(
    grid: dict[str, Any], tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = _write({**grid, **change}, tmp_path)
    with pytest.raises(ConfigError, match=words) as raised:
        load_grid(path)
    assert str(raised.value).startswith(str(path))
    assert not (tmp_path / "runs").exists()


def test_the_command_reports_what_the_caller_can_mend(grid: dict[str, Any], tmp_path: Path) -> None:
    grid["evaluate"][0]["images"] = str(tmp_path / "nowhere")
    result = _ablate(_write(grid, tmp_path), "--json", tmp_path / "grid.json")
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    result = _ablate(_write(["a", "list"], tmp_path), "--json", tmp_path / "grid.json")
    assert result.exit_code == 2
    assert "mapping" in result.stderr


def test_the_shipped_grid_holds_every_objective_and_its_cells_are_valid() -> None:
    document = yaml.safe_load((CONFIGS / "ablation-objectives.yaml").read_text())
    names = set()
    for cell, overrides in document["grid"].items():
        config = load(CONFIGS / document["base"], tuple(overrides))
        assert config.task.kind == "recognition"
        assert config.task.objective is not None
        names.add("deepid2" if config.task.objective.verification else config.task.objective.name)
        assert cell in names
    assert names == {*OBJECTIVES, "deepid2"}
