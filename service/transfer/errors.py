"""What can go wrong with a whole import; single faces and photos are reported instead."""

from __future__ import annotations

from typing import ClassVar


class TransferError(Exception):
    """An import that cannot begin or go on; the message is one line with the remedy. `code` is stable."""

    code: ClassVar[str] = "invalid_import"
    status: ClassVar[int] = 400


class NotPortable(TransferError):
    """The first line is no header of the portable format."""


class NotAnArchive(TransferError):
    """The bytes are no zip archive that can be read safely."""

    code = "invalid_archive"


class OtherModel(TransferError):
    """The embeddings are of another model than the served one."""

    code = "model_mismatch"
    status = 409


def other_model(theirs: str, ours: str) -> OtherModel:
    """The refusal of embeddings of model `theirs`."""
    return OtherModel(
        f"the embeddings are of model {theirs}, but this gallery is of {ours}; embeddings of different models cannot "
        "be compared: import the photos themselves, or serve the checkpoint of that model (--recogniser)"
    )
