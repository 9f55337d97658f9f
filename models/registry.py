"""One name for every network: a decorator registers a constructor, `build` calls it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import nn

Constructor = TypeVar("Constructor", bound=Callable[..., Any])

_constructors: dict[str, Callable[..., Any]] = {}
# Importing a module of this list registers its networks; done on first use, since they need torch.
_FAMILIES = (
    "models.backbones.mobilefacenet",
    "models.backbones.iresnet",
    "models.backbones.deepid",
    "models.backbones.vit",
    "models.detector.network",
)


class UnknownArchitecture(ValueError):
    """No network is registered under the name asked for."""


def register(name: str) -> Callable[[Constructor], Constructor]:
    """Register a constructor (class or function returning a module) under `name`.

    Raises ValueError when the name is taken by another constructor.
    """

    def remember(constructor: Constructor) -> Constructor:
        if name in _constructors:
            raise ValueError(f"architecture {name!r} is registered twice")
        _constructors[name] = constructor
        return constructor

    return remember


def names() -> list[str]:
    """All registered architecture names, sorted."""
    for family in _FAMILIES:
        importlib.import_module(family)
    return sorted(_constructors)


def build(name: str, **arguments: Any) -> nn.Module:
    """Construct the network registered under `name` with `arguments`.

    Raises UnknownArchitecture for a name nobody registered, and for arguments its constructor refuses.
    """
    known = names()
    if name not in known:
        raise UnknownArchitecture(f"unknown architecture {name!r}; known: {', '.join(known)}")
    try:
        network: nn.Module = _constructors[name](**arguments)
    except (TypeError, ValueError) as error:
        raise UnknownArchitecture(f"architecture {name!r} refuses its arguments {arguments}: {error}") from error
    return network
