"""What can go wrong between a photo's bytes and its embeddings, as one small tree of exceptions."""

from __future__ import annotations

from typing import ClassVar


class ImageError(ValueError):
    """The sender's photo cannot be used. `code` is stable, part of the API; `status` is for HTTP."""

    code: ClassVar[str] = "malformed_image"
    status: ClassVar[int] = 400


class MalformedImage(ImageError):
    """The bytes claim to be a supported format but are empty, truncated or damaged."""


class UnsupportedFormat(ImageError):
    """The bytes are no image of a supported format."""

    code = "unsupported_format"
    status = 415


class TooManyBytes(ImageError):
    """The file is larger than the limit."""

    code = "too_many_bytes"
    status = 413


class TooManyPixels(ImageError):
    """The header announces more pixels than the limit; nothing was decoded."""

    code = "too_many_pixels"
    status = 413


class Overloaded(RuntimeError):
    """The bounded queue is full, or the work waited too long. `retry_after` is in whole seconds."""

    code: ClassVar[str] = "overloaded"
    status: ClassVar[int] = 503

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EngineError(RuntimeError):
    """The inference engine cannot run the checkpoint; the message holds the remedy."""


class GraphMissing(EngineError):
    """No exported graph is cached, and torch, which would export it, is not installed."""


class GraphDamaged(EngineError):
    """The inference engine refuses a graph that was just exported."""
