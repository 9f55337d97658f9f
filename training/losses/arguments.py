"""Types of the arguments that objectives share, with their ranges; the registry checks them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Angle = Annotated[float, Field(ge=0, lt=3.141592653589793)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

Gradient = Literal["exact", "detached"]
"""exact: the derivative of the margin. detached: the derivative of the plain cosine, as where acos and cos run under
no_grad (arcface_torch, OpenSphere): s whatever the angle. Published figures of those projects come from detached."""
