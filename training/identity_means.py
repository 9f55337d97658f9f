"""Closing step of a recogniser in closed form: a linear map of its embeddings towards the mean of their identity.

Ridge regression (Hoerl and Kennard 1970) of what each embedding lacks to the mean of its identity. What it finds to
shrink is what varies within an identity, as within-class covariance normalisation does (Hatch et al. 2006). The map is
folded into the last layer, so it costs nothing.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.embedding import unit

_WEIGHT: Final = "embedding.weight"
_NORM: Final = ("normalisation.weight", "normalisation.bias", "normalisation.running_mean", "normalisation.running_var")
_EPSILON: Final = 1e-5  # of torch's batch norm


class IdentityMeansError(ValueError):
    """The map cannot be fitted or folded; the message says why and what would do."""


def fit_map(
    raw: NDArray[np.float32], identities: NDArray[np.int64], share: float, penalty: float
) -> NDArray[np.float64]:
    """Embeddings (N, D) of any length and the identity of each -> M (D, D), to be applied as M @ embedding.

    M = 1 + share * R, where R takes unit embeddings to what they lack to the unit mean of their identity, with the
    least squared error plus penalty * |R|^2. Identities of one image take no part.
    Raises IdentityMeansError when fewer images are left than an embedding has numbers.
    """
    several = np.bincount(identities)[identities] > 1
    if several.sum() <= raw.shape[1]:
        raise IdentityMeansError(
            f"only {int(several.sum())} images have another of their person, more than {raw.shape[1]} must: give more"
        )
    units, people = unit(raw[several]).astype(np.float64), identities[several]
    sums = np.zeros((int(people.max()) + 1, units.shape[1]))
    np.add.at(sums, people, units)
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    lacking = means[people] - units
    regression = np.linalg.solve(units.T @ units + penalty * np.eye(units.shape[1]), units.T @ lacking)
    mapped: NDArray[np.float64] = np.eye(units.shape[1]) + share * regression.T
    return mapped


def fold(
    weights: dict[str, NDArray[Any]], mapping: NDArray[np.float64], raw: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """The weights of a network that gives mapping @ embedding, in the dtypes they had.

    raw: embeddings (N, D) that the network gave before; the batch norm's statistics become those of what they are
    mapped to, so that training can go on. Raises IdentityMeansError for a network that does not end in a linear layer
    `embedding` and a batch norm `normalisation`.
    """
    if missing := [name for name in (_WEIGHT, *_NORM) if name not in weights]:
        raise IdentityMeansError(
            f"the network has no {missing[0]}: it must end in a linear layer named embedding and a batch norm named "
            "normalisation"
        )
    old = {name: array.astype(np.float64) for name, array in weights.items() if name.startswith(("embed", "norm"))}
    gain = old[_NORM[0]] / np.sqrt(old[_NORM[3]] + _EPSILON)
    bias = old.get("embedding.bias", 0.0)
    shift = mapping @ (gain * (bias - old[_NORM[2]]) + old[_NORM[1]])
    mapped = raw.astype(np.float64) @ mapping.T
    mean, variance = mapped.mean(axis=0), mapped.var(axis=0)
    fresh = {
        _WEIGHT: mapping @ (gain[:, None] * old[_WEIGHT]),
        _NORM[0]: np.sqrt(variance + _EPSILON),
        _NORM[1]: mean,
        _NORM[2]: mean - shift + bias,
        _NORM[3]: variance,
    }
    return weights | {name: array.astype(weights[name].dtype) for name, array in fresh.items()}
