"""What a student learns from a teacher: its embeddings, the cosines between them, and maps of its inside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.config import ConfigError
from training.losses.distillation import embedding_regression, relation_regression, spread, unexplained
from training.tasks.recognition_config import DistillationConfig
from training.teachers import Teacher

_MAP, _SPREAD = "hint ", "spread "  # of the hinted module named after it, in a lesson
_PROBE = 112  # side of the image by which the maps' shapes are found out


class Distillation(nn.Module):
    """The losses towards a teacher, through a learned projection into the teacher's space.

    Each map is learned through a 1x1 convolution of its own (FitNets, Romero et al. 2015, arXiv:1412.6550); these
    and the projection are forgotten after training. centres: (C, T) of unit length, what the teacher thinks of each
    identity on the average; None: not used. Raises ConfigError when the maps of a hint differ in size.
    """

    def __init__(
        self,
        config: DistillationConfig,
        network: nn.Module,
        embedding_size: int,
        teacher: Teacher,
        centres: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.config, self.teacher = config, teacher
        self.centres: Tensor | None
        self.register_buffer("centres", centres, persistent=False)
        self.projection = nn.Linear(embedding_size, teacher.embedding_size, bias=False)
        nn.init.orthogonal_(self.projection.weight)
        self.hinted = tuple(config.hints)
        self.translations = _translations(network, teacher, config.hints)

    def lesson(self, views: Tensor, index: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), (B,), (B,) with -1 unknown -> `targets` (B, T) of unit length, and the maps of the hints.

        The target of a known identity is drawn to its centre. A teacher places a profile far from the same person's
        frontal views; the average of them knows better.
        """
        given, maps = self.teacher(views, index)
        lesson = {}
        for name, map in zip(self.hinted, maps, strict=True):
            # In the order in memory that the student's maps have; other threads than the student's may do it.
            lesson[_MAP + name] = map.contiguous(memory_format=torch.channels_last)
            lesson[_SPREAD + name] = spread(map)
        if self.centres is None:
            return lesson | {"targets": given}
        drawn = normalize(torch.lerp(given, self.centres[labels.clamp(min=0)], self.config.centre_share), dim=1)
        return lesson | {"targets": torch.where(labels[:, None] >= 0, drawn, given)}

    def forward(
        self, embeddings: Tensor, maps: Sequence[Tensor], lesson: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, D), the student's maps in the order of `hinted`, and a lesson -> the weighted sum, and each loss."""
        config, targets = self.config, lesson["targets"]
        with torch.autocast(embeddings.device.type, enabled=False):
            projected = self.projection(embeddings.float())
        parts = {
            "regression": embedding_regression(projected, targets),
            "relation": relation_regression(embeddings, targets),
        }
        total = config.weight * parts["regression"] + config.relation_weight * parts["relation"]
        if maps:
            hints = zip(self.hinted, self.translations, maps, strict=True)
            left = [unexplained(said(map), lesson[_MAP + name], lesson[_SPREAD + name]) for name, said, map in hints]
            parts["hint"] = torch.stack(left).mean()
            total = total + config.hint_weight * parts["hint"]
        return total, parts


@contextmanager
def watched(network: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """A list into which the named modules put what they give, in their order, while the network runs once."""
    found: dict[str, Tensor] = {}
    maps: list[Tensor] = []

    def watch(name: str) -> None:
        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            found[name] = output

        handles.append(network.get_submodule(name).register_forward_hook(keep))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    try:
        for name in names:
            watch(name)
        yield maps
    finally:
        for handle in handles:
            handle.remove()
    maps.extend(found[name] for name in names)


@torch.no_grad()
def _translations(network: nn.Module, teacher: Teacher, hints: Mapping[str, str]) -> nn.ModuleList:
    if not hints:
        return nn.ModuleList()
    modules = dict(network.named_modules())
    if unknown := [name for name in hints if name not in modules]:
        raise ConfigError(f"task.distillation.hints: the backbone has no module {unknown[0]!r}")
    image = torch.zeros(1, 3, _PROBE, _PROBE)
    training = network.training
    network.eval()
    with watched(network, tuple(hints)) as maps:
        network(image)
    network.train(training)
    _, wanted = teacher(image, torch.zeros(1, dtype=torch.long))
    translations = nn.ModuleList()
    for name, map, target in zip(hints, maps, wanted, strict=True):
        if map.dim() != 4 or map.shape[2:] != target.shape[2:]:
            raise ConfigError(
                f"task.distillation.hints: {name} gives {tuple(map.shape[1:])}, "
                f"{hints[name]} {tuple(target.shape[1:])}: the maps must be of one height and width"
            )
        translations.append(nn.Conv2d(map.shape[1], target.shape[1], 1))
    return translations
