"""Objectives by name."""

from __future__ import annotations

import inspect
from typing import get_type_hints

from pydantic import TypeAdapter, ValidationError

from training.losses.adacos import AdaCos
from training.losses.adaface import AdaFace
from training.losses.arcface import ArcFace
from training.losses.combined import Combined
from training.losses.cosface import CosFace
from training.losses.curricularface import CurricularFace
from training.losses.elasticface import ElasticFace
from training.losses.lsoftmax import LSoftmax
from training.losses.magface import MagFace
from training.losses.mv_softmax import MVSoftmax
from training.losses.normface import NormFace
from training.losses.objective import Objective
from training.losses.softmax import Softmax
from training.losses.sphereface import SphereFace
from training.losses.sphereface2 import SphereFace2
from training.losses.sphereface_r import SphereFaceR
from training.losses.subcenter_arcface import SubCenterArcFace
from training.losses.uniface import UniFace

OBJECTIVES: dict[str, type[Objective]] = {
    "softmax": Softmax,
    "normface": NormFace,
    "cosface": CosFace,
    "arcface": ArcFace,
    "combined": Combined,
    "lsoftmax": LSoftmax,
    "sphereface": SphereFace,
    "sphereface-r": SphereFaceR,
    "sphereface2": SphereFace2,
    "subcenter-arcface": SubCenterArcFace,
    "curricularface": CurricularFace,
    "mv-softmax": MVSoftmax,
    "magface": MagFace,
    "adaface": AdaFace,
    "elasticface": ElasticFace,
    "uniface": UniFace,
    "adacos": AdaCos,
}


class UnknownObjective(ValueError):
    """No such objective, no such argument of it, or a value that the argument does not take."""


def build_objective(name: str, *, classes: int | None = None, **arguments: object) -> Objective:
    """The objective of that name. classes: the number of identities, which only those get that ask for it.

    Raises UnknownObjective, naming the culprit and what is known or accepted instead.
    """
    accepted = objective_arguments(name)
    kind = OBJECTIVES[name]
    hints = get_type_hints(kind.__init__, include_extras=True)
    values: dict[str, object] = {}
    for key, value in arguments.items():
        if key not in accepted:
            takes = ", ".join(accepted) or "none"
            raise UnknownObjective(f"objective {name} has no argument {key!r}; it takes: {takes}")
        try:
            values[key] = TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise UnknownObjective(f"objective {name}: {key}={value!r}: {reason}") from None
    if "classes" in hints:
        if classes is None:
            raise UnknownObjective(f"objective {name} needs the number of classes; give classes=")
        values["classes"] = classes
    try:
        return kind(**values)
    except ValueError as error:
        raise UnknownObjective(f"objective {name}: {error}") from error


def objective_arguments(name: str) -> dict[str, object]:
    """Argument -> default, of the objective's own (not `classes`, which the data decide)."""
    if name not in OBJECTIVES:
        raise UnknownObjective(f"no objective {name!r}; known: {', '.join(sorted(OBJECTIVES))}")
    parameters = inspect.signature(OBJECTIVES[name]).parameters.values()
    keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "classes"]
    return {parameter.name: parameter.default for parameter in keywords}
