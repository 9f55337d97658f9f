"""What a run tells while it goes: progress bar, metrics.jsonl, TensorBoard, and Weights & Biases if asked."""

from __future__ import annotations

import importlib
import json
import time
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.config import TrainConfig

_SHOWN = ("loss", "accuracy", "images_per_second")


class Journal:
    """Written by the leading rank alone; others pass `leads=False` and every call does nothing."""

    def __init__(
        self, config: TrainConfig, total_steps: int, first_step: int, images_per_step: int, leads: bool
    ) -> None:
        self._leads = leads
        self._images_per_step = images_per_step
        self._since, self._since_step = time.perf_counter(), first_step
        self._wandb = _open_wandb(config) if leads and config.wandb else None
        if leads:
            folder = config.folder
            self._file = (folder / "metrics.jsonl").open("a")
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
            self._bar = tqdm(total=total_steps, initial=first_step, unit="step", smoothing=0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._leads:
            self._bar.close()
            self._board.close()
            self._file.close()
        if self._wandb:
            self._wandb.finish(exit_code=int(error is not None))

    def advance(self) -> None:
        """One optimiser step is done."""
        if self._leads:
            self._bar.update()

    def record(self, step: int, values: dict[str, float]) -> None:
        """One line of metrics at a step, with the images per second since the last."""
        if not self._leads:
            return
        now = time.perf_counter()
        steps = step - self._since_step
        if steps > 0:
            values = values | {"images_per_second": steps * self._images_per_step / (now - self._since)}
        self._since, self._since_step = now, step
        self._file.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(values, step=step)
        shown = {name: f"{value:.4g}" for name, value in values.items() if name in _SHOWN}
        self._bar.set_postfix_str(", ".join(f"{name} {value}" for name, value in shown.items()))


def _open_wandb(config: TrainConfig) -> Any:
    wandb = importlib.import_module("wandb")  # an optional dependency: imported where it is asked for

    return wandb.init(
        project=config.wandb,
        name=config.name,
        id=config.name,
        resume="allow",
        dir=config.folder,
        config=config.model_dump(mode="json"),
    )
