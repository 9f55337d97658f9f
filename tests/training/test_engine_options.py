"""What a recipe may ask of the engine, and what it is told when that cannot be."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from torch import Tensor, nn

from models import checkpoint
from models.checkpoint import CheckpointError
from models.network import weights_of
from training.commands.train import train
from training.config import ConfigError, load
from training.data.batches import MemoryBatches
from training.distributed import Rank
from training.engine import LossNotFinite, run
from training.finiteness import FinitenessWatch
from training.tasks.recognition import RecognitionTask

Losses = Callable[[Path], dict[int, float]]


def test_a_checkpoint_says_where_it_comes_from(tiny: Path) -> None:
    trained = checkpoint.read(run(load(tiny, ("epochs=1",))) / "checkpoint.safetensors").metadata.training
    assert trained["data"] == ["synthetic"]
    assert (trained["identities"], trained["images"], trained["steps"], trained["batch"]) == (6, 60, 5, 12)
    assert trained["started_from"] == "random weights"
    assert len(trained["commit"].removesuffix("-dirty")) == 40 or trained["commit"].startswith("facemargin ")
    assert len(trained["config_sha256"]) == 64
    assert "/" not in str(trained["data"])


def test_fine_tuning_starts_from_a_checkpoint_and_a_new_head(tiny: Path, tmp_path: Path, losses: Losses) -> None:
    start = run(load(tiny, ("name=start",))) / "checkpoint.safetensors"
    tuned = run(
        load(
            tiny,
            (
                f"task.backbone.initial={start}",
                "task.backbone.freeze=backbone",
                "task.sources.0.synthetic={identities: 4, images: 12, seed: 9}",
                "epochs=1",
            ),
        )
    )
    loaded = checkpoint.read(tuned / "checkpoint.safetensors")
    assert loaded.metadata.training["started_from"] == checkpoint.read(start).model_id
    for name, array in checkpoint.read(start).weights.items():
        np.testing.assert_array_equal(loaded.weights[name], array)  # the head alone was learned
    learned = list(losses(tuned).values())
    assert learned[-1] < learned[0]


def test_fine_tuning_from_another_network_or_from_nothing_is_refused(tiny: Path, tmp_path: Path) -> None:
    start = run(load(tiny, ("name=start", "epochs=1"))) / "checkpoint.safetensors"
    with pytest.raises(ConfigError, match=r"checkpoint\.safetensors holds tiny"):
        run(load(tiny, (f"task.backbone.initial={start}", "task.backbone.embedding_size=24")))
    with pytest.raises(CheckpointError, match="absent"):
        run(load(tiny, ("name=other", f"task.backbone.initial={tmp_path / 'absent.safetensors'}")))


def _measuring(values: list[float], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """The development measure takes these values in turn; returns the weights that were measured."""
    measured: list[dict[str, np.ndarray]] = []

    def evaluate(self: RecognitionTask, network: nn.Module) -> dict[str, float]:
        measured.append(weights_of(network))
        return {"auc": values[len(measured) - 1], "accuracy": 0.5}

    monkeypatch.setattr(RecognitionTask, "evaluate", evaluate)
    return measured


PATIENT = ("epochs=8", "patience=2", "task.development={images: dev, pairs: dev.csv}")


def test_a_run_stops_when_patience_ends_and_keeps_the_best(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _measuring([0.6, 0.8, 0.7, 0.8, 0.9], monkeypatch)
    folder = run(load(tiny, PATIENT))
    assert len(measured) == 4
    loaded = checkpoint.read(folder / "checkpoint.safetensors")
    assert loaded.metadata.training["steps"] == 10
    for name, array in loaded.weights.items():
        np.testing.assert_array_equal(array, measured[1][name])


def test_patience_outlives_a_restart(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = _measuring([0.6, 0.8, 0.7, 0.7], monkeypatch)
    original, calls = RecognitionTask.evaluate, 0

    def broken(self: RecognitionTask, network: nn.Module) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return original(self, network)

    monkeypatch.setattr(RecognitionTask, "evaluate", broken)
    with pytest.raises(KeyboardInterrupt):
        run(load(tiny, PATIENT))
    folder = run(load(tiny, PATIENT))  # from step 14: the third epoch ends again
    assert len(measured) == 4
    assert checkpoint.read(folder / "checkpoint.safetensors").metadata.training["steps"] == 10


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("precision=fp16",), "fp16"),
        (("task.resident=true",), "resident"),
        (("task.memory=false", "task.images_per_identity=5"), "batch of 12"),
        (("accumulate=6",), "accumulate 6"),
        (("wandb=faces",), "pip install wandb"),
    ],
)
def test_what_cannot_be_done_is_refused_at_the_start(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], message: str
) -> None:
    from training.data.sources import DataError

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises((ConfigError, DataError), match=message):
        run(load(tiny, overrides))


def test_a_head_that_cannot_compute_the_objective_is_refused_by_name(tiny: Path) -> None:
    overrides = ("task.objective={name: curricularface}", "task.head={name: fused, implementation: triton}")
    with pytest.raises(ConfigError, match=r"task\.head: .*CurricularFace"):
        run(load(tiny, overrides))


def test_weights_and_biases_is_told_the_same_as_the_journal(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, losses: Losses
) -> None:
    told: dict[int, dict[str, float]] = {}
    opened: dict[str, object] = {}

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            told[step] = values

        def finish(self, exit_code: int) -> None:
            opened["exit_code"] = exit_code

    module = ModuleType("wandb")
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("wandb", None)
    module.init = lambda **options: opened.update(options) or Run()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    folder = run(load(tiny, ("wandb=faces", "epochs=1")))
    assert (opened["project"], opened["id"], opened["exit_code"]) == ("faces", "tiny", 0)
    assert {step: values["loss"] for step, values in told.items()} == pytest.approx(losses(folder), rel=1e-5)


def test_a_loss_that_is_not_finite_names_step_and_images_and_spares_the_state(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network breaks at one image; the run ends at the next look, with the state of before."""
    from training.state import SavedState

    original = MemoryBatches.epoch
    seen: list[list[str]] = []

    def epoch(self: MemoryBatches, epoch: int, rank: int, world_size: int, first: int = 0):  # type: ignore[no-untyped-def]
        for number, batch in enumerate(original(self, epoch, rank, world_size, first)):
            if (epoch, number) == (0, 3):
                seen.append([self.data.keys[index] for index in batch["index"].tolist()])
                yield batch | {"images": batch["images"].float() * float("nan")}
            else:
                yield batch

    monkeypatch.setattr(MemoryBatches, "epoch", epoch)
    with pytest.raises(LossNotFinite, match=r"not finite at step 4.*learning_rate") as caught:
        run(load(tiny, ("log_every=5",)))
    assert all(key in str(caught.value) for key in seen[0][:4])
    assert "and 8 more" in str(caught.value)
    saved = SavedState.find(load(tiny).folder / "state")
    assert saved is not None
    assert saved.path.name == "step-2x12"


def test_weights_that_are_not_finite_are_noticed_though_no_loss_was() -> None:
    watch = FinitenessWatch(Rank(0, 1, torch.device("cpu")), None)
    watch.observe(1, torch.tensor(0.5), [{"index": torch.arange(2)}])
    watch.check(1, [torch.ones(3)])
    with pytest.raises(LossNotFinite, match="weights are not finite at step 7"):
        watch.check(7, [torch.ones(3), torch.tensor([1.0, float("inf")])])


def test_the_rate_grows_with_the_step(tiny: Path, losses: Losses) -> None:
    import json

    scaled = ("optimiser.scale_with_batch=48", "optimiser.warmup_steps=0", "epochs=1", "batch_size=6", "accumulate=2")
    folder = run(load(tiny, scaled))
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert first["learning_rate"] == pytest.approx(1e-2 * 12 / 48)


def test_a_compiled_network_is_the_same_network(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling is asked of the network alone; names of weights stay as they are."""
    asked: list[type] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: asked.append(type(self)))
    folder = run(load(tiny, ("compile=true", "epochs=1")))
    assert [kind.__name__ for kind in asked] == ["Tiny"]
    assert "embedding.weight" in checkpoint.read(folder / "checkpoint.safetensors").weights


def test_deepid2_adds_its_verification_signal(tiny: Path) -> None:
    import json

    objective = "task.objective={name: softmax, verification: {weight: 0.1, margin: 4.0}}"
    folder = run(load(tiny, (objective, "task.images_per_identity=4", "epochs=1")))
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        values = json.loads(line)
        total = values["identification"] + 0.1 * values["verification"]
        assert values["loss"] == pytest.approx(total, rel=1e-4)


def test_the_head_sees_embeddings_of_their_own_length(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MagFace and AdaFace read quality from it."""
    from training.losses.magface import MagFace

    seen: list[Tensor] = []
    original = MagFace.context
    monkeypatch.setattr(
        MagFace, "context", lambda self, norms, target: seen.append(norms.detach()) or original(self, norms, target)
    )
    run(load(tiny, ("task.objective={name: magface}", "epochs=1")))
    assert all(float((norms - 1).abs().max()) > 1e-2 for norms in seen)
    assert all(float(norms.std()) > 0 for norms in seen)


def test_several_recipes_are_run_one_after_the_other(tiny: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.yaml"
    start = tmp_path / "runs/tiny/checkpoint.safetensors"
    document = yaml.safe_load(tiny.read_text()) | {"name": "second"}
    document["task"]["backbone"]["initial"] = str(start)
    second.write_text(yaml.safe_dump(document))
    command = [str(tiny), str(second), f"run_dir={tmp_path / 'runs'}", "epochs=1"]
    for _ in range(2):  # the second time all is there already
        result = CliRunner().invoke(train, command)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines() == [str(tmp_path / "runs/tiny"), str(tmp_path / "runs/second")]
    trained = checkpoint.read(tmp_path / "runs/second/checkpoint.safetensors").metadata.training
    assert trained["started_from"] == checkpoint.read(start).model_id


def test_a_slip_in_a_later_recipe_shows_before_the_first_is_run(tiny: Path, tmp_path: Path) -> None:
    slip = tmp_path / "slip.yaml"
    slip.write_text(tiny.read_text().replace("epochs", "epoch"))
    result = CliRunner().invoke(train, [str(tiny), str(slip), f"run_dir={tmp_path / 'runs'}"])
    assert result.exit_code == 2
    assert "slip.yaml: epoch" in result.stderr
    assert not (tmp_path / "runs").exists()
    assert CliRunner().invoke(train, ["epochs=1"]).exit_code == 2
