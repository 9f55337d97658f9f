"""The training loop: the same on one CPU, one GPU, or many under torchrun, whatever is learned."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import update_bn

from models import checkpoint, probe
from models.checkpoint import Metadata
from models.network import torch_forward, weights_of
from training.config import ConfigError, TrainConfig
from training.distributed import Rank, process_group
from training.journal import Journal
from training.optimisation import build_optimiser, learning_rate, moving_average
from training.state import load_state, save_state
from training.tasks.detection import DetectionTask
from training.tasks.recognition import RecognitionTask
from training.tasks.recognition_config import RecognitionConfig


class Task(Protocol):
    """What is learned."""

    @property
    def learner(self) -> nn.Module:
        """Batch in, loss and metrics out; its `network` is what the checkpoint holds."""
        ...

    def batches(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rank's batches of one epoch, from batch `first` on."""
        ...

    def steps_per_epoch(self, world_size: int) -> int:
        """Batches a rank sees in one epoch."""
        ...

    def metadata(self) -> Metadata:
        """What the checkpoint says of itself besides what the engine adds."""
        ...

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """A cheap development measure; empty when there is none."""
        ...


class LossNotFinite(RuntimeError):
    """The loss became NaN or infinite."""


def run(config: TrainConfig) -> Path:
    """Train as configured, resuming what is there, and write the checkpoint; returns the run folder.

    Raises ConfigError when the run folder belongs to another configuration, DataError, LossNotFinite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with process_group(config.device) as rank:
        torch.manual_seed(config.seed)
        if rank.leads:
            _claim_folder(config)
        _Run(config, _build_task(config), rank).train()
    return config.folder


def _build_task(config: TrainConfig) -> Task:
    if isinstance(config.task, RecognitionConfig):
        threads = config.threads or torch.get_num_threads()
        return RecognitionTask(config.task, config.name, config.batch_size, config.seed, threads)
    return DetectionTask(config.task, config.name, config.batch_size, config.seed)


def _claim_folder(config: TrainConfig) -> None:
    config.folder.mkdir(parents=True, exist_ok=True)
    path = config.folder / "config.yaml"
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    if path.exists() and path.read_text() != resolved:
        raise ConfigError(f"{path}: this folder holds a run of another configuration; choose another name")
    path.write_text(resolved)


class _Run:
    """One training run on one rank."""

    def __init__(self, config: TrainConfig, task: Task, rank: Rank) -> None:
        self.config, self.task, self.rank = config, task, rank
        task.learner.to(rank.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network = task.learner.network
        assert isinstance(network, nn.Module)
        self.optimiser = build_optimiser(task.learner, config.optimiser)
        self.average = moving_average(network, config.ema_decay)
        self.steps_per_epoch = task.steps_per_epoch(rank.world_size)
        if self.steps_per_epoch == 0:
            raise ConfigError(f"batch_size {config.batch_size}: larger than a rank's share of the data")
        self.total_steps = self.steps_per_epoch * config.epochs
        self.step = 0
        self.learner = task.learner if rank.world_size == 1 else DistributedDataParallel(task.learner)

    def train(self) -> None:
        """All remaining epochs, then the checkpoint."""
        config, rank = self.config, self.rank
        self.step = self._resume()
        images = config.batch_size * rank.world_size
        with Journal(config.folder, self.total_steps, self.step, images, rank.leads) as journal:
            if self.step and self.step % self.steps_per_epoch == 0:
                self._publish(journal)  # the run may have been killed after its state and before its checkpoint
            for epoch in range(self.step // self.steps_per_epoch, config.epochs):
                self._train_epoch(epoch, journal)
                self._publish(journal)

    def _train_epoch(self, epoch: int, journal: Journal) -> None:
        config, rank = self.config, self.rank
        self.learner.train()
        first = self.step - epoch * self.steps_per_epoch
        for batch in self.task.batches(epoch, rank.rank, rank.world_size, first):
            # Seeding by step makes every random draw of a resumed run the one it would have been.
            torch.manual_seed(hash((config.seed, rank.rank, self.step)))
            loss, metrics, norm = self._optimise(batch)
            self.step += 1
            journal.advance()
            if self.step % config.log_every == 0:
                values = {"loss": loss} | metrics | ({} if norm is None else {"gradient_norm": norm})
                self._log(journal, {name: float(value) for name, value in values.items()})
            if self.step % config.save_every == 0 or self.step == self.total_steps:
                self._require_finite(float(loss))  # weights that are not finite must not replace a good state
                save_state(config.folder / "state", self.step, self._state(), rank.leads)

    def _optimise(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
        config, device = self.config, self.rank.device
        rate = learning_rate(self.step, self.total_steps, config.optimiser)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        with self._autocast():
            loss, metrics = self.learner(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = None
        if config.optimiser.clip_norm:
            norm = nn.utils.clip_grad_norm_(self.learner.parameters(), config.optimiser.clip_norm)
        self.optimiser.step()
        self.average.update_parameters(self.task.learner.network)  # type: ignore[arg-type]
        return loss.detach(), {name: value.detach() for name, value in metrics.items()}, norm

    def _publish(self, journal: Journal) -> None:
        if not self.rank.leads:
            return
        self._refresh_statistics()
        network = self.average.module.eval()
        if measured := self.task.evaluate(network):
            journal.record(self.step, measured)
        self._write_checkpoint(network)

    def _refresh_statistics(self) -> None:
        # The batch-norm statistics of averaged weights are not the average of the statistics: measure them anew
        # (Izmailov et al. 2018, arXiv:1803.05407, section 3.2), on the first batches of the data, not at random.
        learner, trained = self.task.learner, self.task.learner.network
        batches = islice(self.task.batches(0, 0, 1), self.config.statistics_batches)
        learner.network = self.average.module
        torch.manual_seed(self.config.seed)
        with self._autocast():
            update_bn(({name: tensor.to(self.rank.device) for name, tensor in b.items()} for b in batches), learner)
        learner.network = trained

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.rank.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise LossNotFinite(
                f"the loss is {loss} at step {self.step}; lower optimiser.learning_rate or optimiser.clip_norm "
                "under another name: the last resume state is of a step before"
            )

    def _log(self, journal: Journal, values: dict[str, float]) -> None:
        self._require_finite(values["loss"])
        rate = self.optimiser.param_groups[0]["lr"]
        journal.record(self.step, values | {"learning_rate": rate, "epoch": self.step / self.steps_per_epoch})

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.task.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def _resume(self) -> int:
        # The optimiser has no state to load into before its first step: give it one that changes nothing.
        for group in self.optimiser.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimiser.step()
        state = self._state()
        step = load_state(self.config.folder / "state", state)
        if step is None:
            self.optimiser.state.clear()
            return 0
        self.task.learner.load_state_dict(state["learner"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        return step

    def _write_checkpoint(self, network: nn.Module) -> None:
        metadata = self.task.metadata()
        config_document = self.config.model_dump_json()
        training = metadata.training | {
            "config_sha256": hashlib.sha256(config_document.encode()).hexdigest(),
            "steps": self.step,
            "batch": self.config.batch_size * self.rank.world_size,
            "date": datetime.now(UTC).date().isoformat(),
        }
        # The probe must be of the very weights stored, which half precision rounds.
        stored = weights_of(network)
        rounded = {name: torch.from_numpy(array).float() for name, array in stored.items()}
        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        network.load_state_dict(rounded, strict=False)
        expected = probe.make(torch_forward(network), metadata.input.width, metadata.input.height)
        network.load_state_dict(kept)
        checkpoint.write(
            self.config.folder / "checkpoint.safetensors",
            stored,
            metadata.model_copy(update={"training": training, "probe": expected}),
        )
