"""The training loop: the same on one CPU, one GPU, or many under torchrun, whatever is learned."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from models.checkpoint import Metadata
from training.config import ConfigError, TrainConfig
from training.distributed import Rank, process_group
from training.finiteness import FinitenessWatch, LossNotFinite
from training.journal import Journal
from training.lookahead import lookahead
from training.memory import keep_freed_memory
from training.optimisation import learning_rate
from training.preemption import Notice, Preempted, preemption_notice
from training.prefetch import prefetch
from training.provenance import commit
from training.publishing import refresh_statistics, write_checkpoint
from training.resumption import Progress, resume_run, save_run
from training.state import StateError
from training.stepping import Batch, Outcome, Stepper
from training.tasks.detection import DetectionTask
from training.tasks.recognition import RecognitionTask
from training.tasks.recognition_config import RecognitionConfig

__all__ = ["LossNotFinite", "Preempted", "StateError", "Task", "run"]

# What a resumed run may change: how fast it goes and what it tells. A step may become larger or smaller.
_FREE = frozenset({
    *("device", "threads", "compile", "batch_size", "accumulate", "sync_batch_norm"),
    *("prefetch", "log_every", "save_every", "wandb"),
})  # fmt: skip

_DRAWING, _LEARNING = range(2)  # the stages of a step, each with random numbers of its own


class Task(Protocol):
    """What is learned."""

    @property
    def learner(self) -> nn.Module:
        """Batch in, loss and metrics out; its `network` is what the checkpoint holds."""
        ...

    def batches(self, epoch: int, rank: int, world_size: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
        """The rank's batches of one epoch, from batch `first` on. Draws nothing from torch's global generator."""
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


def run(config: TrainConfig) -> Path:
    """Train as configured, resuming what is there, and write the checkpoint; returns the run folder.

    Raises ConfigError when the run folder belongs to another configuration or this machine cannot do what is asked,
    DataError, LossNotFinite, StateError; Preempted after SIGTERM, with the state saved.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with process_group(config.device) as rank:
        _require_ability(config, rank)
        if rank.device.type == "cpu":
            keep_freed_memory()
        torch.manual_seed(config.seed)
        if rank.leads:
            _claim_folder(config)
        task = _build_task(config, rank)
        with preemption_notice() as notice:  # before there is anything to save, SIGTERM ends the process as usual
            _Run(config, task, rank, notice).train()
    return config.folder


def _build_task(config: TrainConfig, rank: Rank) -> Task:
    if isinstance(config.task, RecognitionConfig):
        threads = config.threads or torch.get_num_threads()
        return RecognitionTask(config.task, config.name, config.batch_size, config.seed, threads, rank.device)
    labels = config.run_dir / "peer-labels"
    return DetectionTask(config.task, config.name, config.batch_size, config.seed, labels)


def _require_ability(config: TrainConfig, rank: Rank) -> None:
    on_cpu = rank.device.type == "cpu"
    if on_cpu and config.precision == "fp16":
        raise ConfigError("precision fp16: many times slower than fp32 on a CPU; use bf16 or fp32")
    if on_cpu and config.sync_batch_norm and rank.world_size > 1:
        raise ConfigError("sync_batch_norm: torch has it for CUDA alone; use larger batches on CPUs")
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise ConfigError(f"wandb={config.wandb}: not installed; pip install wandb, or set it to null")


def _claim_folder(config: TrainConfig) -> None:
    config.folder.mkdir(parents=True, exist_ok=True)
    path = config.folder / "config.yaml"
    if path.exists() and _essence(_stored(path)) != _essence(config):
        raise ConfigError(f"{path}: this folder holds a run of another configuration; choose another name")
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _stored(path: Path) -> TrainConfig | None:
    try:
        return TrainConfig.model_validate(yaml.safe_load(path.read_text()))
    except (ValidationError, yaml.YAMLError):
        return None  # of another version, or no configuration: another one in any case


def _essence(config: TrainConfig | None) -> dict[str, object] | None:
    return None if config is None else config.model_dump(mode="json", exclude=set(_FREE))


class _Run:
    """One training run on one rank."""

    def __init__(self, config: TrainConfig, task: Task, rank: Rank, notice: Notice) -> None:
        self.config, self.task, self.rank, self.notice = config, task, rank, notice
        self.stepper = Stepper(task.learner, config, rank)
        self.steps_per_epoch = task.steps_per_epoch(rank.world_size) // config.accumulate
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"batch_size {config.batch_size}, accumulate {config.accumulate}: a step is larger than a rank's share "
                "of the data"
            )
        self.total_steps = self.steps_per_epoch * config.epochs
        self.images_per_step = config.batch_size * config.accumulate * rank.world_size
        self.progress = Progress(0, self.steps_per_epoch, self.images_per_step)
        self.watch = FinitenessWatch(rank, task.keys if isinstance(task, RecognitionTask) else None)
        self.commit = commit() if rank.leads else ""
        self.saved: int | None = None  # the step of the current state, where it counts steps of this size

    def train(self) -> None:
        """All remaining epochs, then the checkpoint."""
        config, rank = self.config, self.rank
        found = resume_run(config.folder / "state", self.stepper)
        if found is not None:
            self.progress = found.continued(self.steps_per_epoch, self.images_per_step)
            self.saved = found.step if self.progress is found else None
        first = self.progress.step
        with Journal(config, self.total_steps, first, self.images_per_step, rank.leads) as journal:
            if first and first % self.steps_per_epoch == 0:
                self.stepper.start_epoch(first // self.steps_per_epoch - 1)
                # The run may have been killed after its state and before its checkpoint.
                if self._finish_epoch(journal):
                    return
            for epoch in range(first // self.steps_per_epoch, config.epochs):
                self._train_epoch(epoch, journal)
                if self._finish_epoch(journal):
                    return

    def _train_epoch(self, epoch: int, journal: Journal) -> None:
        config, rank = self.config, self.rank
        self.stepper.start_epoch(epoch)
        done = self.progress.step - epoch * self.steps_per_epoch
        first = done * config.accumulate
        source = self.task.batches(epoch, rank.rank, rank.world_size, first)
        with (
            closing(prefetch(source, config.prefetch, rank.device)) as batches,
            closing(lookahead(self._drawn(batches, self.steps_per_epoch - done), self._teach)) as lessons,
        ):
            for read, prepared in lessons:
                self._take_step(read, prepared, journal)

    def _drawn(self, batches: Iterator[Batch], steps: int) -> Iterator[tuple[list[Batch], list[Batch]]]:
        """What is read for each step, and its draws."""
        for step in range(self.progress.step, self.progress.step + steps):
            read = list(islice(batches, self.config.accumulate))
            self._seed(step, _DRAWING)
            yield read, self.stepper.draw(read)

    def _teach(self, step: tuple[list[Batch], list[Batch]]) -> tuple[list[Batch], list[Batch]]:
        read, drawn = step
        return read, self.stepper.teach(drawn)

    def _seed(self, step: int, stage: int) -> None:
        # Seeding by step makes every random draw of a resumed run the one it would have been.
        torch.manual_seed(hash((self.config.seed, self.rank.rank, step, stage)))

    def _take_step(self, batches: list[Batch], prepared: list[Batch], journal: Journal) -> None:
        config, progress = self.config, self.progress
        self._seed(progress.step, _LEARNING)
        rate = learning_rate(progress.step, self.total_steps, config.optimiser, self.images_per_step)
        outcome = self.stepper.learn(prepared, rate)
        progress.step += 1
        self.watch.observe(progress.step, outcome.loss, batches)
        journal.advance()
        if progress.step % config.log_every == 0:
            self._log(journal, outcome)
        stop = self.rank.any(self.notice.given)
        if stop or progress.step % config.save_every == 0 or progress.step == self.total_steps:
            self._save()
        if stop:
            raise Preempted(progress.step, config.folder)

    def _save(self) -> None:
        if self.saved == self.progress.step:
            return  # what is there is this very state
        # Weights that are not finite must not replace a good state.
        self.watch.check(self.progress.step, self.stepper.learner.parameters())
        save_run(self.config.folder / "state", self.stepper, self.progress)
        self.saved = self.progress.step

    def _finish_epoch(self, journal: Journal) -> bool:
        """Measure and write the checkpoint; whether the run is to stop early."""
        config, progress = self.config, self.progress
        patient = True
        if self.rank.leads:
            batches = islice(self.task.batches(0, 0, 1), config.statistics_batches)
            refresh_statistics(self.stepper, batches, config.seed)
            network = self.stepper.average.module.eval()
            measured = self.task.evaluate(network)
            if measured:
                journal.record(progress.step, measured)
            if self._note(measured):
                self._write_checkpoint(network)
            patient = config.patience is None or progress.without_improvement < config.patience
        stop = self.rank.any(not patient)
        if stop:
            self._save()
        return stop

    def _note(self, measured: dict[str, float]) -> bool:
        """Keep count of the development measure; whether this network is the one to publish."""
        if self.config.patience is None:
            return True
        if measured[self.config.measure] > self.progress.best:
            self.progress.best, self.progress.without_improvement = measured[self.config.measure], 0
            return True
        self.progress.without_improvement += 1
        return False

    def _write_checkpoint(self, network: nn.Module) -> None:
        facts = {"steps": self.progress.step, "batch": self.images_per_step, "commit": self.commit}
        path = self.config.folder / "checkpoint.safetensors"
        write_checkpoint(path, network, self.task.metadata(), self.config, facts)

    def _log(self, journal: Journal, outcome: Outcome) -> None:
        self.watch.check(self.progress.step)
        values = {"loss": outcome.loss} | outcome.metrics
        values |= {} if outcome.norm is None else {"gradient_norm": outcome.norm}
        rate = self.stepper.optimiser.param_groups[0]["lr"]
        extra = {"learning_rate": rate, "epoch": self.progress.step / self.steps_per_epoch}
        journal.record(self.progress.step, {name: float(value) for name, value in values.items()} | extra)
