"""One optimiser step, whatever it is made of: several batches, several ranks, half precision, sharded centres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.nn.parallel import DistributedDataParallel

from training.config import TrainConfig
from training.distributed import Rank
from training.heads.head import Head
from training.optimisation import build_optimiser, clip_gradients, moving_average

Batch = dict[str, Tensor]


@runtime_checkable
class StagedLearner(Protocol):
    """A learner that makes its random draws before its forward pass, so that a step's batches can be weighed."""

    def start_epoch(self, epoch: int) -> bool:
        """Freeze or release parameters for this epoch; whether that changed anything."""
        ...

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the network is shown of a batch, and its labels."""
        ...

    def draw(self, batch: Batch) -> Batch:
        """The views of a batch and what belongs to them; all random draws before the forward pass are made here."""
        ...

    def teach(self, drawn: Batch) -> Batch:
        """What the forward pass takes: the views, and what a teacher says of them. Draws nothing, learns nothing."""
        ...

    def known(self, prepared: Batch) -> Tensor:
        """How many samples the part of the loss that `share` multiplies is the mean of."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What a step gave, still on the device: the loss, its parts for the log, the gradient's length before clipping."""

    loss: Tensor
    metrics: dict[str, Tensor]
    norm: Tensor | None


class Stepper:
    """Learner, optimiser, loss scale and moving average of one rank."""

    def __init__(self, learner: nn.Module, config: TrainConfig, rank: Rank) -> None:
        self.config, self.rank = config, rank
        self.learner: nn.Module = learner.to(rank.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.heads = [module for module in learner.modules() if isinstance(module, Head)]
        self.sharded = {
            f"{name}.centres": head
            for name, head in learner.named_modules()
            if isinstance(head, Head) and head.sharded and rank.world_size > 1
        }
        # Copied before batch norms synchronise or the network is compiled: the leading rank runs the average alone.
        self.average = moving_average(self.network, config.ema_decay)
        if config.sync_batch_norm and rank.world_size > 1:
            learner.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)  # type: ignore[no-untyped-call]
        if config.compile:
            self.network.compile()
        inside = {id(parameter) for parameter in self.network.parameters()}
        rest = [parameter for parameter in learner.parameters() if id(parameter) not in inside]
        self.optimiser = build_optimiser(self.network, rest, config.optimiser)
        self.scaler = self._build_scaler()
        self._parallel: nn.Module = learner
        self._shared = {id(p) for name, p in learner.named_parameters() if name not in self.sharded}

    @property
    def network(self) -> nn.Module:
        """What the checkpoint holds."""
        network = self.learner.network
        assert isinstance(network, nn.Module)
        return network

    def start_epoch(self, epoch: int) -> None:
        """Training mode, with what this epoch freezes."""
        changed = isinstance(self.learner, StagedLearner) and self.learner.start_epoch(epoch)
        if self.rank.world_size > 1 and (changed or self._parallel is self.learner):
            self._parallel = self._distribute()
        self._parallel.train()

    def draw(self, batches: Sequence[Batch]) -> list[Batch]:
        """The batches where the learner is, with their random draws made."""
        on_device = [self.on_device(batch) for batch in batches]
        if not isinstance(self.learner, StagedLearner):
            return on_device
        with self.autocast():
            return [self.learner.draw(batch) for batch in on_device]

    def teach(self, drawn: Sequence[Batch]) -> list[Batch]:
        """What `learn` takes. Another thread may do this while the last step is being learned."""
        if not isinstance(self.learner, StagedLearner):
            return list(drawn)
        return [self.learner.teach(batch) for batch in drawn]

    def learn(self, prepared: Sequence[Batch], rate: float) -> Outcome:
        """Learn from the prepared batches as from one that holds them all.

        Exactly so for a mean over samples, also where only some count (`StagedLearner.known`); what a batch's samples
        have to do with each other (batch norm, relation and verification losses) stays within each.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["ratio"]
        if len(prepared) > 1 and isinstance(self.learner, StagedLearner):
            known = [self.rank.sum(self.learner.known(batch)) for batch in prepared]
            total = torch.stack(known).sum().clamp(min=1)
            for batch, count in zip(prepared, known, strict=True):
                batch["share"] = count * len(prepared) / total
        self.optimiser.zero_grad(set_to_none=True)
        losses, metrics = [], []
        for number, batch in enumerate(prepared, start=1):
            with self._unsynchronised() if number < len(prepared) else nullcontext():
                with self.autocast():
                    loss, parts = self._parallel(batch)
                loss = loss / len(prepared) if len(prepared) > 1 else loss
                self.scaler.scale(loss).backward()
            losses.append(loss.detach())
            metrics.append({name: part.detach() for name, part in parts.items()})
        norm = self._descend()
        mean = {name: torch.stack([parts[name] for parts in metrics]).mean() for name in metrics[0]}
        return Outcome(torch.stack(losses).sum(), mean, norm)

    def autocast(self) -> torch.autocast:
        """The precision of forward passes."""
        dtype = torch.float16 if self.config.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.rank.device.type, dtype, enabled=self.config.precision != "fp32")

    def network_inputs(self, batches: Iterator[Batch]) -> Iterator[Tensor] | None:
        """What the network is shown of the batches; None for a learner that must run whole."""
        learner = self.learner
        if not isinstance(learner, StagedLearner):
            return None
        return (learner.views(self.on_device(batch))[0] for batch in batches)

    def on_device(self, batch: Batch) -> Batch:
        """The batch where the learner is."""
        return {name: tensor.to(self.rank.device, non_blocking=True) for name, tensor in batch.items()}

    def _descend(self) -> Tensor | None:
        for head in self.heads:
            head.prepare_step(self.optimiser)
        self.scaler.unscale_(self.optimiser)
        norm = None
        if self.config.optimiser.clip_norm:
            held = [p for group in self.optimiser.param_groups for p in group["params"]]  # a sampled head puts its own
            shared = [p for p in held if not self.sharded or id(p) in self._shared]
            sharded = [p for p in held if self.sharded and id(p) not in self._shared]
            norm = clip_gradients(shared, sharded, self.config.optimiser.clip_norm, self.rank)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        for head in self.heads:
            head.finish_step(self.optimiser)
        self.average.update_parameters(self.network)
        return norm

    def _unsynchronised(self) -> AbstractContextManager[None]:
        parallel = self._parallel
        return parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else nullcontext()

    def _distribute(self) -> nn.Module:
        shared = [p for name, p in self.learner.named_parameters() if name not in self.sharded]
        if not any(parameter.requires_grad for parameter in shared):
            return self.learner  # sharded centres alone are learned: there is nothing to average
        # Each rank has its own rows of sharded centres, whose gradients are whole already.
        ignore = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
        ignore(self.learner, list(self.sharded))  # type: ignore[no-untyped-call]
        return DistributedDataParallel(self.learner)

    def _build_scaler(self) -> torch.amp.GradScaler:
        enabled = self.config.precision == "fp16"
        if enabled and self.rank.world_size > 1:  # infinities in one rank's shard are every rank's
            return ShardedGradScaler(self.rank.device.type)
        return torch.amp.GradScaler(self.rank.device.type, enabled=enabled)
