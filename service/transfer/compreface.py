"""The photos that a CompreFace kept, out of its PostgreSQL (tables subject, embedding, img; CompreFace 1.0 to 1.2).

Its embeddings are of its own models, so only photos are taken, and embedded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from service.transfer.errors import TransferError
from service.transfer.photos import ImportedPhoto, Unreadable, Unusable, subject_named

PHOTO_NOT_KEPT: Final = "photo_not_kept"
"""CompreFace kept the embedding alone (SAVE_IMAGES_TO_DB=false), which is of its own model."""

_SERVICES: Final = sa.text(
    "SELECT DISTINCT s.api_key, m.name FROM subject s LEFT JOIN model m ON m.api_key = s.api_key ORDER BY m.name"
)
_FACES: Final = sa.text(
    "SELECT e.id, s.subject_name, e.img_id FROM embedding e JOIN subject s ON s.id = e.subject_id "
    "WHERE s.api_key = :api_key ORDER BY s.subject_name, e.id"
)
_PHOTO: Final = sa.text("SELECT content FROM img WHERE id = :id")
_SIZE: Final = sa.text("SELECT length(content) FROM img WHERE id = :id")


class CompreFaceDatabase:
    """The photos of one of its recognition services, named by `service`; with only one it need not be named.

    largest: bytes that a photo may have. Nothing is written. Raises TransferError.
    """

    def __init__(self, url: str, service: str | None, largest: int) -> None:
        self._engine = _engine(url)
        self._largest = largest
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.text("SET TRANSACTION READ ONLY"))
                api_key = _chosen(connection.execute(_SERVICES).all(), service)
                self._rows = connection.execute(_FACES, {"api_key": api_key}).all()
        except sa.exc.DBAPIError as error:
            self.close()
            reason = str(error.orig).splitlines()[0]
            raise TransferError(f"CompreFace's database cannot be read: {reason}") from error
        except TransferError:
            self.close()
            raise

    def __len__(self) -> int:
        """How many faces it has enrolled."""
        return len(self._rows)

    def __iter__(self) -> Iterator[ImportedPhoto | Unusable]:
        """By subject."""
        for row in self._rows:
            label = f"{row.subject_name}/{row.id}"
            subject = subject_named(row.subject_name or "")
            if subject is None:
                yield Unusable(label, "invalid_subject")
            elif row.img_id is None:
                yield Unusable(label, PHOTO_NOT_KEPT)
            else:
                yield ImportedPhoto(label, subject, partial(self._read, row.img_id))

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _read(self, image: Any) -> bytes:
        try:
            with self._engine.begin() as connection:
                size = connection.scalar(_SIZE, {"id": image})
                if size is None:
                    raise Unreadable("unreadable")
                if size > self._largest:
                    raise Unreadable("too_many_bytes")
                return bytes(connection.scalar(_PHOTO, {"id": image}))
        except sa.exc.DBAPIError as error:
            raise Unreadable("unreadable") from error


def _engine(url: str) -> sa.Engine:
    try:
        address = sa.make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        return sa.create_engine(address)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise TransferError(
            "SOURCE must be the address of CompreFace's database: postgresql://USER:PASSWORD@HOST/frs"
        ) from error
    except ModuleNotFoundError as error:
        raise TransferError("reading PostgreSQL needs: pip install 'facemargin[postgres]'") from error


def _chosen(services: Any, wanted: str | None) -> str:
    """The API key of the recognition service to read. Raises TransferError when it is not clear which."""
    names = ", ".join(repr(row.name) for row in services) or "none"
    found = [row.api_key for row in services if wanted is None or wanted in (row.name, row.api_key)]
    if len(found) == 1:
        return str(found[0])
    if not services:
        raise TransferError("CompreFace's database holds no subjects")
    raise TransferError(f"say which recognition service with --service; those with subjects are {names}")
