"""Optimiser, learning-rate schedule and moving average."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.config import OptimiserConfig


def build_optimiser(modules: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """SGD or AdamW; one-dimensional parameters (biases, normalisation, PReLU slopes) do not decay."""
    trained = [parameter for parameter in modules.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(config.momentum, 0.999))


def learning_rate(step: int, total_steps: int, config: OptimiserConfig) -> float:
    """Linear warm-up, then half a cosine down to final_ratio; a function of the optimiser step alone."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.learning_rate * (config.final_ratio + (1 - config.final_ratio) * cosine)


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of the parameters; buffers are the network's own. Decay 0 follows the network."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
