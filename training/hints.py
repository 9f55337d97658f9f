"""Maps of a teacher's inside that maps of the student's inside learn (FitNets, Romero et al. 2015, arXiv:1412.6550)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from training.config import ConfigError
from training.losses.distillation import spread, unexplained

_MAP, _SPREAD = "hint ", "spread "  # of the hinted module named after it, in a lesson


class Hints(nn.Module):
    """For each hint a 1x1 convolution from the student's map to the teacher's, forgotten after training.

    hints: module of the student -> tensor of the teacher's graph. teacher: what those tensors are, in this order, for
    an image (1, 3, S, S). Raises ConfigError when a module is unknown or two maps differ in size.
    """

    def __init__(
        self, network: nn.Module, hints: Mapping[str, str], side: int, teacher: Callable[[Tensor], Sequence[Tensor]]
    ) -> None:
        super().__init__()
        self.names = tuple(hints)
        self.translations = nn.ModuleList()
        if not hints:
            return
        modules = dict(network.named_modules())
        if unknown := [name for name in hints if name not in modules]:
            raise ConfigError(f"hints: the network has no module {unknown[0]!r}")
        image = torch.zeros(1, 3, side, side)
        training = network.training
        network.eval()
        with torch.no_grad(), self.watched(network) as maps:
            network(image)
        network.train(training)
        for name, map, target in zip(hints, maps, teacher(image), strict=True):
            if map.dim() != 4 or map.shape[2:] != target.shape[2:]:
                raise ConfigError(
                    f"hints: {name} gives {tuple(map.shape[1:])}, {hints[name]} {tuple(target.shape[1:])}: "
                    "the maps must be of one height and width"
                )
            translation = nn.Conv2d(map.shape[1], target.shape[1], 1)
            # From zero: until a translation has begun to learn, it asks nothing of the maps it reads, and a network
            # that is trained further keeps what it knows.
            nn.init.zeros_(translation.weight)
            self.translations.append(translation)

    @contextmanager
    def watched(self, network: nn.Module) -> Iterator[list[Tensor]]:
        """A list that holds the student's maps, in the order of the hints, once the network has run in its context."""
        found: dict[str, Tensor] = {}
        maps: list[Tensor] = []

        def watch(name: str) -> torch.utils.hooks.RemovableHandle:
            def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
                found[name] = output

            return network.get_submodule(name).register_forward_hook(keep)

        handles = [watch(name) for name in self.names]
        try:
            yield maps
        finally:
            for handle in handles:
                handle.remove()
        maps.extend(found[name] for name in self.names)

    def lesson(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        """What `forward` needs to know of the teacher's maps; another thread than the student's may find it out."""
        lesson = {}
        for name, map in zip(self.names, maps, strict=True):
            # In the order in memory that the student's maps have.
            lesson[_MAP + name] = map.contiguous(memory_format=torch.channels_last)
            lesson[_SPREAD + name] = spread(map)
        return lesson

    def forward(self, maps: Sequence[Tensor], lesson: Mapping[str, Tensor]) -> Tensor:
        """The student's maps (B, C, h, w) and a lesson -> the mean share of the teacher's that they do not tell."""
        hints = zip(self.names, self.translations, maps, strict=True)
        left = [unexplained(said(map), lesson[_MAP + name], lesson[_SPREAD + name]) for name, said, map in hints]
        return torch.stack(left).mean()
