"""The recipe: unknown keys, wrong values and wrong overrides are errors that name the key."""

from pathlib import Path

import pytest

from training.config import ConfigError, TrainConfig, load

RECIPES = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))

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
    assert load(path).name.startswith("facemargin-")


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
        ("task.sources.0.shards=x.tar", "either folder or shards"),
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
