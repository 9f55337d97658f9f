"""Optimiser, learning-rate schedule, gradient norm and moving average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.config import OptimiserConfig
from training.distributed import Rank


def build_optimiser(network: nn.Module, rest: Sequence[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over the network and the rest (head, projection), whose rate is times head_learning_rate_ratio.

    One-dimensional parameters (biases, normalisation, PReLU slopes) do not decay. Each group keeps its `ratio`.
    """
    trained = [(parameter, 1.0) for parameter in network.parameters()]
    trained += [(parameter, config.head_learning_rate_ratio) for parameter in rest]
    groups = [
        {
            "params": [p for p, own in trained if own == ratio and (p.ndim > 1) == decays],
            "weight_decay": config.weight_decay if decays else 0.0,
            "ratio": ratio,
        }
        for ratio in dict.fromkeys(ratio for _, ratio in trained)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))


def learning_rate(step: int, total_steps: int, config: OptimiserConfig, images_per_step: int | None = None) -> float:
    """Linear warm-up, then half a cosine down to final_ratio; a function of the optimiser step alone.

    With config.scale_with_batch all of it is times images_per_step / scale_with_batch (Goyal et al. 2017,
    arXiv:1706.02677, section 2.1).
    """
    peak = config.learning_rate
    if config.scale_with_batch and images_per_step:
        peak *= images_per_step / config.scale_with_batch
    if step < config.warmup_steps:
        return peak * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * (config.final_ratio + (1 - config.final_ratio) * cosine)


def clip_gradients(shared: Sequence[Tensor], sharded: Sequence[Tensor], limit: float, rank: Rank) -> Tensor:
    """Scale all gradients so that their joint length is at most `limit`; the length before, alike on every rank.

    shared: parameters whose gradients all ranks hold alike; sharded: those of which each rank holds its own part,
    whose squares are summed over the ranks.
    """
    gradients = [p.grad for p in shared if p.grad is not None]
    norm = get_total_norm(gradients)
    if sharded:
        own = get_total_norm([p.grad for p in sharded if p.grad is not None]).to(rank.device)
        norm = torch.sqrt(norm**2 + rank.sum(own**2))
    clip_grads_with_norm_([*shared, *sharded], limit, norm)
    return norm


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of the parameters; buffers are the network's own. Decay 0 follows the network."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
