"""Faces that need no data: coloured patterns by which the whole training path can be tried on any machine.

Each identity has its own skin, background, hair line, eyes and mouth; each image of it its own light, shift and
noise. A network learns to tell them apart in a minute. Nothing learnt from them says anything about people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.alignment import SIZE, TEMPLATE
from training.data.samples import BrokenImage, coded, in_order


class SyntheticConfig(BaseModel):
    """How many invented identities, and images of each."""

    model_config = ConfigDict(extra="forbid")

    identities: int = Field(20, gt=0, le=1_000_000, description="invented people")
    images: int = Field(10, gt=0, le=10_000, description="of each")
    seed: int = Field(0, ge=0, description="another seed invents other people")


class SyntheticSource:
    """A random-access source of SyntheticConfig's images: the same pixels for the same key, always."""

    def __init__(self, config: SyntheticConfig) -> None:
        self.name = f"synthetic ({config.identities} x {config.images})"
        self._config = config
        self.keys: Sequence[str] = [
            f"synthetic-{identity:06d}/{number:04d}"
            for identity in range(config.identities)
            for number in range(config.images)
        ]
        self.identities, self.codes = coded(self.keys)

    def image(self, position: int) -> NDArray[np.uint8]:
        """The image at a position, (112, 112, 3) uint8 RGB."""
        identity, number = divmod(range(len(self.keys))[position], self._config.images)
        return synthetic_face(self._config.seed, identity, number)

    def images(self) -> Iterator[tuple[int, NDArray[np.uint8] | BrokenImage]]:
        """All images, identity by identity."""
        return in_order(self)


@dataclass(frozen=True)
class _Person:
    """What stays the same in all images of an identity; colours are (3,) in [0, 1], lengths in pixels."""

    background: NDArray[np.float64]
    skin: NDArray[np.float64]
    hair: NDArray[np.float64]
    iris: NDArray[np.float64]
    lips: NDArray[np.float64]
    half_width: float
    half_height: float
    hair_line: float
    eye_size: float
    mouth_width: float
    features: NDArray[np.float64]  # (5, 2) eyes, nose, mouth corners, near the alignment's template


def synthetic_face(seed: int, identity: int, number: int) -> NDArray[np.uint8]:
    """Image `number` of an invented person: (112, 112, 3) uint8 RGB, a function of the three numbers alone."""
    person = _person(np.random.default_rng((seed, identity)))
    generator = np.random.default_rng((seed, identity, number + 1))
    canvas = _paint(person, shift=generator.normal(0, 1.5, 2))
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    direction = generator.uniform(0, 2 * np.pi)
    light = 1 + generator.uniform(0, 0.4) * (np.cos(direction) * columns + np.sin(direction) * rows)
    canvas *= light[..., None] * generator.uniform(0.8, 1.15)
    canvas += generator.normal(0, 0.02, canvas.shape)
    return (np.clip(canvas, 0, 1) * 255).round().astype(np.uint8)


def _person(generator: np.random.Generator) -> _Person:
    tone = generator.uniform(0.3, 0.95)
    return _Person(
        background=generator.uniform(0, 1, 3),
        skin=np.array([tone, tone * generator.uniform(0.65, 0.85), tone * generator.uniform(0.5, 0.75)]),
        hair=generator.uniform(0, 0.8, 3),
        iris=generator.uniform(0, 0.7, 3),
        lips=np.array([generator.uniform(0.4, 0.9), *generator.uniform(0.1, 0.4, 2)]),
        half_width=generator.uniform(34, 48),
        half_height=generator.uniform(48, 60),
        hair_line=generator.uniform(8, 34),
        eye_size=generator.uniform(3, 7),
        mouth_width=generator.uniform(2, 6),
        features=TEMPLATE.astype(np.float64) + generator.normal(0, 2, TEMPLATE.shape),
    )


def _paint(person: _Person, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """(112, 112, 3) float64: background, head, hair, eyes, nose and mouth, each over the one before."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    columns, rows = columns - shift[0], rows - shift[1]

    def ellipse(centre: NDArray[np.float64], half_width: float, half_height: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = ((columns - centre[0]) / half_width) ** 2 + (
            (rows - centre[1]) / half_height
        ) ** 2 <= 1
        return inside

    left_eye, right_eye, nose, left_corner, right_corner = person.features
    head = ellipse(np.array([56.0, 60.0]), person.half_width, person.half_height)
    canvas = np.broadcast_to(person.background, (SIZE, SIZE, 3)).copy()
    canvas[head] = person.skin
    canvas[head & (rows < person.hair_line)] = person.hair
    for eye in (left_eye, right_eye):
        canvas[ellipse(eye, 1.8 * person.eye_size, person.eye_size)] = 0.95
        canvas[ellipse(eye, 0.8 * person.eye_size, 0.8 * person.eye_size)] = person.iris
    canvas[ellipse(nose, 5, 9)] = person.skin * 0.8
    mouth = (left_corner + right_corner) / 2
    canvas[ellipse(mouth, float(np.linalg.norm(right_corner - left_corner)) / 2, person.mouth_width)] = person.lips
    return canvas
