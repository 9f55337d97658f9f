"""The recipe: unknown keys, wrong values and wrong overrides are errors that name the key."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from training.commands.train import train
from training.config import ConfigError, TrainConfig, load
from training.losses.registry import OBJECTIVES, objective_arguments
from training.tasks.detection_config import DetectionConfig

SHIPPED = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))
RECIPES = [path for path in SHIPPED if "task" in yaml.safe_load(path.read_text())]  # others are grids of `ablate`

MINIMAL = """
name: run
task:
  kind: recognition
  sources: [{folder: faces}]
  objective: {name: cosface, scale: 32, margin: 0.2}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert load(path).name in (path.stem, f"facemargin-{path.stem}", "facemargin-det", "facemargin-s")


def test_the_looks_of_the_detector_start_from_what_its_search_wrote() -> None:
    search, looks = (load(path) for path in SHIPPED if path.stem.startswith("detector-"))
    assert isinstance(search.task, DetectionConfig)
    assert isinstance(looks.task, DetectionConfig)
    assert search.task.initial is None
    assert looks.task.initial == search.folder / "checkpoint.safetensors"


def made(target: str, recipes: str) -> tuple[str, list[Path]]:
    """What `make` would call, and where the recipes write: a slip shows after hours."""
    root = SHIPPED[0].parents[2]
    make = ["make", "-n", target, "SET=threads=4"]
    told = subprocess.run(make, cwd=root, capture_output=True, text=True, check=True).stdout
    assert f" train {recipes} threads=4\n" in told
    return told, [load(path).folder for path in sorted(root.glob(recipes))]


def test_make_goes_on_with_what_the_recipe_of_the_recogniser_writes() -> None:
    told, [run] = made("recogniser", "training/configs/recogniser.yaml")
    assert f"facemargin fit-means {run / 'checkpoint.safetensors'} " in told
    fitted = run / "fitted.safetensors"
    assert f"--output {fitted}\n" in told
    assert f"facemargin fit-int8 {fitted} " in told
    assert f"facemargin calibrate {fitted} " in told


def test_make_goes_on_with_what_both_stages_of_the_detector_write() -> None:
    told, [search, looks] = made("detector", "training/configs/detector-*.yaml")
    assert f"facemargin fit-statistics {search / 'checkpoint.safetensors'} " in told
    assert f"--looks {looks / 'checkpoint.safetensors'} " in told
    fitted = search / "fitted.safetensors"
    assert f"--output {fitted}\n" in told
    assert f"facemargin fit-int8 {fitted} " in told


def test_overrides_come_last_and_reach_into_lists(recipe: Path) -> None:
    config = load(recipe, ("batch_size=7", "optimiser.name=adamw", "task.sources.0.folder=other"))
    assert (config.batch_size, config.optimiser.name) == (7, "adamw")
    assert config.task.kind == "recognition"
    assert config.task.sources[0].folder == Path("other")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("batchsize=7", "batchsize"),
        ("batch_size=many", "batch_size"),
        ("batch_size", "key=value"),
        ("task.objective.name=softmin", "objective"),
        ("task.objective=null", "objective"),
        ("task.kind=generation", "task"),
        ("task.sources.0.shards=x.tar", "exactly one of folder"),
        ("task.sources.5.folder=x", "no such place"),
        ("name.first=x", "no such place"),
        ("task.distillation.weight=1", "either teacher"),
        ("batch_size=[", "batch_size"),
    ],
)
def test_a_wrong_override_is_refused_by_name(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(recipe, (override,))


def test_a_missing_or_malformed_recipe_is_named(tmp_path: Path) -> None:
    for text in ("- a list", "{", ""):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ConfigError, match=r"bad\.yaml"):
            load(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")


def test_every_field_of_the_settings_can_be_dumped_and_read_again(recipe: Path) -> None:
    config = load(recipe)
    assert TrainConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.objective={name: cosface, scale: 32, sharpness: 2}", r"no argument 'sharpness'.*margin"),
        ("task.objective={name: arcface, margin: wide}", "margin='wide'"),
        ("task.objective={name: cosface, classes: 5}", "classes is counted"),
        ("task.objective={name: arcface, weight: 0}", "weight"),
        ("task.objective={name: softmax, verification: {weight: 0.1, edge: 1}}", r"verification\.edge"),
        ("task.head.name=dens", r"head\.name"),
        ("task.head={name: sampled, rate: 2}", r"head\.rate"),
        ("task.backbone.freeze=half", r"backbone\.freeze"),
        ("accumulate=0", "accumulate"),
        ("patience=3", r"task\.development"),
        ("precision=fp8", "precision"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_at_load_time(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(recipe, (override,))


def test_arguments_of_the_objective_stand_beside_its_name(recipe: Path) -> None:
    config = load(recipe, ("task.objective={name: arcface, gradient: detached, margin: 0.4, weight: 0.5}",))
    assert config.task.kind == "recognition"
    assert config.task.objective is not None
    assert config.task.objective.arguments == {"gradient": "detached", "margin": 0.4}
    again = TrainConfig.model_validate(config.model_dump(mode="json"))
    assert again == config


def test_explain_prints_every_option_and_every_argument_of_every_objective() -> None:
    printed = CliRunner().invoke(train, ["--explain"])
    assert printed.exit_code == 0, printed.output
    lines = printed.output.splitlines()
    assert all(len(line) <= 120 for line in lines)
    names = {line.strip().partition(":")[0] for line in lines}
    assert names >= {"precision", "accumulate", "learning_rate", "initial", "rate", "embeddings", "grids"}
    assert "  warmup_steps: 200 (whole number) # linear warm-up from zero [>= 0]" in lines
    for name in OBJECTIVES:
        start = next(number for number, line in enumerate(lines) if line.startswith(f"{name}: {{"))
        assert all(
            f"{argument}: " in " ".join(lines[start : start + 2]) for argument in list(objective_arguments(name))[:3]
        )


def test_every_option_of_a_recognition_run_is_described() -> None:
    def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for field in model.model_fields.values():
            for part in (field.annotation, *get_args(field.annotation)):
                if isinstance(part, type) and issubclass(part, BaseModel) and part is not DetectionConfig:
                    yield from models(part)

    for model in models(TrainConfig):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
