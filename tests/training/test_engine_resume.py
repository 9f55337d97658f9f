"""A run goes on as if nothing had been: after a notice to stop, a restart by torchrun, on more or fewer ranks."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from training.config import ConfigError, load
from training.engine import Preempted, StateError, run
from training.resumption import Progress
from training.state import SavedState
from training.stepping import Outcome, Stepper

Losses = Callable[[Path], dict[int, float]]


def _weights(folder: Path) -> dict[str, np.ndarray]:
    return checkpoint.read(folder / "checkpoint.safetensors").weights


def _step(folder: Path) -> int:
    saved = SavedState.find(folder / "state")
    assert saved is not None
    return int(saved.whole()["progress/step"])


def _signal_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original, taken = Stepper.learn, 0

    def signalled(self: Stepper, batches: list[dict[str, torch.Tensor]], rate: float) -> Outcome:
        nonlocal taken
        taken += 1
        if taken == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batches, rate)

    monkeypatch.setattr(Stepper, "learn", signalled)


@pytest.mark.parametrize("step", [1, 5, 8])
def test_sigterm_finishes_the_step_and_saves_it(
    tiny: Path, tmp_path: Path, losses: Losses, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    undisturbed = run(load(tiny, (f"run_dir={tmp_path / 'undisturbed'}",)))
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        _signal_at(step, patch)
        with pytest.raises(Preempted, match=f"SIGTERM after step {step}"):
            run(load(tiny))
    assert signal.getsignal(signal.SIGTERM) is before
    folder = tmp_path / "runs" / "tiny"
    assert _step(folder) == step
    run(load(tiny))
    assert losses(folder) == losses(undisturbed)
    for name, array in _weights(undisturbed).items():
        np.testing.assert_array_equal(_weights(folder)[name], array)


def test_sigterm_to_the_whole_group_leaves_the_readers_alive_until_the_state_is_saved(
    launch: Callable[..., object], tmp_path: Path, losses: Losses
) -> None:
    stopped = launch("task.memory=false", "task.workers=1", "batch_size=2", "prefetch=0", fault="SIGTERM:group:6")
    assert stopped.returncode == 0, stopped.stderr[-3000:]
    assert stopped.stdout.startswith("stopped by SIGTERM after step 6")
    folder = tmp_path / "runs" / "tiny"
    assert _step(folder) == 6
    assert list(losses(folder)) == list(range(1, 7))


def test_a_killed_rank_is_restarted_by_torchrun_and_loses_nothing(
    launch: Callable[..., object], tmp_path: Path, losses: Losses
) -> None:
    recipe = (
        "batch_size=6",
        "task.head.name=sharded",
        "task.augmentation.erase=0.5",
        "task.backbone.arguments={normalised: true}",
    )
    undisturbed = launch(*recipe, f"run_dir={tmp_path / 'undisturbed'}", ranks=2)
    assert undisturbed.returncode == 0, undisturbed.stderr[-9000:]
    finished = launch(*recipe, ranks=2, fault="SIGKILL:1:8", restarts=1)
    assert finished.returncode == 0, finished.stderr[-9000:]
    assert "SIGKILL" in finished.stderr or "exitcode: -9" in finished.stderr or "Signal 9" in finished.stderr
    folder = tmp_path / "runs" / "tiny"
    assert losses(folder) == losses(tmp_path / "undisturbed" / "tiny")
    for name, array in _weights(tmp_path / "undisturbed" / "tiny").items():
        np.testing.assert_array_equal(_weights(folder)[name], array)
    assert checkpoint.read(folder / "checkpoint.safetensors").metadata.training["batch"] == 12


def test_sharded_centres_and_their_moments_follow_the_number_of_ranks(
    tiny: Path, launch: Callable[..., object], tmp_path: Path, losses: Losses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 rank to step 4, 2 ranks to step 9 (told to stop on one of them), 1 rank to the end: one trajectory."""
    overrides = ("task.head.name=sharded", "task.sources.0.synthetic={identities: 5, images: 12}")
    undisturbed = run(load(tiny, (*overrides, f"run_dir={tmp_path / 'undisturbed'}")))
    folder = tmp_path / "runs" / "tiny"
    with monkeypatch.context() as patch:
        _signal_at(4, patch)
        with pytest.raises(Preempted):
            run(load(tiny, overrides))
    stopped = launch(*overrides, "batch_size=6", ranks=2, fault="SIGTERM:1:5")
    assert stopped.returncode == 0, stopped.stderr[-9000:]
    assert stopped.stdout.startswith("stopped by SIGTERM after step 9")
    assert _step(folder) == 9
    saved = SavedState.find(folder / "state")
    assert saved is not None
    assert saved.sharded() >= {"learner/identification.head.centres", "optimiser/identification.head.centres/exp_avg"}
    run(load(tiny, overrides))
    resumed = losses(folder)
    assert list(resumed) == list(range(1, 16))
    assert list(resumed.values()) == pytest.approx(list(losses(undisturbed).values()), rel=1e-4)
    for name, array in _weights(undisturbed).items():
        np.testing.assert_allclose(_weights(folder)[name], array, rtol=2e-3, atol=2e-4)


def test_another_size_of_steps_goes_on_at_the_same_place_in_the_data() -> None:
    saved = Progress(step=25, steps_per_epoch=10, images_per_step=12, best=0.5, without_improvement=1)
    assert saved.continued(10, 12) is saved
    halved = saved.continued(20, 6)
    assert (halved.step, halved.best, halved.without_improvement) == (50, 0.5, 1)
    assert saved.continued(5, 24).step == 2 * 5 + 3  # 60 images are two and a half steps: the third was begun
    assert Progress(step=20, steps_per_epoch=10, images_per_step=12).continued(3, 40).step == 2 * 3


def test_batches_may_change_between_two_parts_of_a_run_and_nothing_learned_may(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _signal_at(2, patch)
        with pytest.raises(Preempted):
            run(load(tiny))
    with pytest.raises(ConfigError, match="another configuration"):
        run(load(tiny, ("optimiser.learning_rate=0.5",)))
    folder = run(load(tiny, ("batch_size=4", "accumulate=2", "prefetch=0", "save_every=5")))
    trained = checkpoint.read(folder / "checkpoint.safetensors").metadata.training
    assert (trained["batch"], trained["steps"]) == (8, 21)


def test_a_state_that_cannot_be_used_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(load(tiny, ("epochs=1",)))
    (state,) = (folder / "state").glob("step-*")
    (state / ".metadata").unlink()
    with pytest.raises(StateError, match="step-5"):
        run(load(tiny, ("epochs=1",)))


def test_a_step_of_another_size_never_takes_the_place_of_the_current_state(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of twice the size count to the numbers of the old states again; no state is written over or skipped."""
    with monkeypatch.context() as patch:
        _signal_at(4, patch)
        with pytest.raises(Preempted):
            run(load(tiny, ("batch_size=6", "save_every=100")))  # step 4 of 6 images: 24 images seen
    with monkeypatch.context() as patch:
        _signal_at(2, patch)
        with pytest.raises(Preempted, match="after step 4"):
            run(load(tiny, ("batch_size=12", "save_every=100")))  # from step 2 of 12 images
    saved = SavedState.find(load(tiny).folder / "state")
    assert saved is not None
    assert saved.path.name == "step-4x12"
    assert float(saved.whole()["progress/images_per_step"]) == 12
