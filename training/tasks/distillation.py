"""What a student learns from a teacher: its embeddings, the cosines between them, and maps of its inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.hints import Hints
from training.losses.distillation import embedding_regression, relation_regression
from training.tasks.recognition_config import DistillationConfig
from training.teachers import Teacher

_PROBE = 112  # side of the image by which the maps' shapes are found out


class Distillation(nn.Module):
    """The losses towards a teacher, through a learned projection into the teacher's space.

    centres: (C, T) of unit length, what the teacher thinks of each identity on the average; None: not used.
    Raises ConfigError when a hint fits no map.
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
        self.hints = Hints(
            network, config.hints, _PROBE, lambda image: teacher(image, torch.zeros(1, dtype=torch.long))[1]
        )

    def lesson(self, views: Tensor, index: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), (B,), (B,) with -1 unknown -> `targets` (B, T) of unit length, and the maps of the hints.

        The target of a known identity is drawn to its centre. A teacher places a profile far from the same person's
        frontal views; the average of them knows better.
        """
        given, maps = self.teacher(views, index)
        lesson = self.hints.lesson(maps)
        if self.centres is None:
            return lesson | {"targets": given}
        drawn = normalize(torch.lerp(given, self.centres[labels.clamp(min=0)], self.config.centre_share), dim=1)
        return lesson | {"targets": torch.where(labels[:, None] >= 0, drawn, given)}

    def forward(
        self, embeddings: Tensor, maps: Sequence[Tensor], lesson: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(B, D), the student's maps in the order of the hints, and a lesson -> the weighted sum, and each loss."""
        config, targets = self.config, lesson["targets"]
        with torch.autocast(embeddings.device.type, enabled=False):
            projected = self.projection(embeddings.float())
        parts = {
            "regression": embedding_regression(projected, targets),
            "relation": relation_regression(embeddings, targets),
        }
        total = config.weight * parts["regression"] + config.relation_weight * parts["relation"]
        if maps:
            parts["hint"] = self.hints(maps, lesson)
            total = total + config.hint_weight * parts["hint"]
        return total, parts
