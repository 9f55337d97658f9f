"""What a run needs to go on: the tensors of learner, average, optimiser and loss scale, and how far it has come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from training.heads.head import Head
from training.state import Rows, SavedState, StateError, save_state
from training.stepping import Stepper


@dataclass
class Progress:
    """How far a run has come, in steps and in what a step was; and the best development measure so far.

    without_improvement: development measures since the best.
    """

    step: int = 0
    steps_per_epoch: int = 1
    images_per_step: int = 1
    best: float = float("-inf")
    without_improvement: int = 0

    def continued(self, steps_per_epoch: int, images_per_step: int) -> Progress:
        """The same place in the data where steps are of another size: as many images into the epoch, rounded up."""
        if (steps_per_epoch, images_per_step) == (self.steps_per_epoch, self.images_per_step):
            return self
        epoch, steps = divmod(self.step, self.steps_per_epoch)
        inside = min(-(-steps * self.images_per_step // images_per_step), steps_per_epoch)
        step = epoch * steps_per_epoch + inside
        return Progress(step, steps_per_epoch, images_per_step, self.best, self.without_improvement)


def save_run(folder: Path, stepper: Stepper, progress: Progress) -> None:
    """Save the run's state from all ranks."""
    whole, sharded = {}, {}
    for name, tensor in stepper.learner.state_dict().items():
        if (head := stepper.sharded.get(name)) is not None:
            sharded[f"learner/{name}"] = Rows(_rows(head).start, tensor)
        else:
            whole[f"learner/{name}"] = tensor
    whole |= {f"average/{name}": tensor for name, tensor in stepper.average.state_dict().items()}
    for name, parameter in stepper.learner.named_parameters():
        for key, value in stepper.optimiser.state.get(parameter, {}).items():
            if not isinstance(value, Tensor):
                continue  # SGD's momentum before its first step
            if name in stepper.sharded and value.shape == parameter.shape:
                sharded[f"optimiser/{name}/{key}"] = Rows(_rows(stepper.sharded[name]).start, value)
            else:
                whole[f"optimiser/{name}/{key}"] = value
    whole |= {f"scaler/{name}": torch.tensor(float(value)) for name, value in stepper.scaler.state_dict().items()}
    whole |= {
        f"progress/{name}": torch.tensor(float(value), dtype=torch.float64) for name, value in asdict(progress).items()
    }
    # The same step of another size is another state: the current one must not be written over.
    name = f"step-{progress.step}x{progress.images_per_step}"
    save_state(folder, name, whole, sharded, stepper.rank.leads)


def resume_run(folder: Path, stepper: Stepper) -> Progress | None:
    """Load the last state of the folder, whatever number of ranks saved it; None when there is none.

    Raises StateError when it is damaged or of another learner.
    """
    saved = SavedState.find(folder)
    if saved is None:
        return None
    tensors = saved.whole()
    parts: dict[str, dict[str, Tensor]] = {"learner": {}, "average": {}, "optimiser": {}, "scaler": {}, "progress": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = tensor
    if not parts["progress"]:
        raise StateError(f"{saved.path}: written by another version of Facemargin; start under another name")
    _load_rows(saved, stepper, parts)
    try:
        stepper.learner.load_state_dict(parts["learner"])
        stepper.average.load_state_dict(parts["average"])
    except RuntimeError as error:
        raise StateError(f"{saved.path}: of another learner ({error}); start under another name") from error
    _load_optimiser(stepper, parts["optimiser"])
    if parts["scaler"] and stepper.scaler.is_enabled():
        values = {name: float(value) for name, value in parts["scaler"].items()}
        counts = {"growth_interval", "_growth_tracker"}
        stepper.scaler.load_state_dict({n: int(v) if n in counts else v for n, v in values.items()})
    values = {name: float(value) for name, value in parts["progress"].items()}
    best = values.pop("best")
    return Progress(best=best, **{name: int(value) for name, value in values.items()})


def _rows(head: Head) -> range:
    classes, count = head.local_classes, head.objective.centres_per_class
    return range(classes.start * count, classes.stop * count)


def _load_rows(saved: SavedState, stepper: Stepper, parts: dict[str, dict[str, Tensor]]) -> None:
    # What was sharded by rows may be whole here, on one rank, and the other way round.
    heads = {f"{name}.centres": head for name, head in stepper.learner.named_modules() if isinstance(head, Head)}
    for name in saved.sharded():
        part, _, rest = name.partition("/")
        owner = rest if part == "learner" else rest.rpartition("/")[0]
        if owner in heads:
            parts[part][rest] = saved.rows(name, _rows(heads[owner]))
    for name, head in stepper.sharded.items():
        rows = slice(_rows(head).start, _rows(head).stop)
        count = head.classes * head.objective.centres_per_class
        for part in ("learner", "optimiser"):
            for rest, tensor in parts[part].items():
                owner = rest if part == "learner" else rest.rpartition("/")[0]
                if owner == name and tensor.ndim and len(tensor) == count and len(tensor) != rows.stop - rows.start:
                    parts[part][rest] = tensor[rows]


def _load_optimiser(stepper: Stepper, tensors: dict[str, Tensor]) -> None:
    parameters: dict[str, nn.Parameter] = dict(stepper.learner.named_parameters())
    stepper.optimiser.state.clear()
    for name, tensor in tensors.items():
        owner, _, key = name.rpartition("/")
        parameter = parameters[owner]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)  # in the parameter's own layout
        stepper.optimiser.state[parameter][key] = tensor
