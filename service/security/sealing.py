"""Encryption at rest: AES-256-GCM with keys that the operator keeps outside the data folder."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.gallery.errors import GalleryUnusable
from service.settings import Settings

_KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(GalleryUnusable):
    """What is sealed cannot be opened, or a key cannot be used; the message is one line with the remedy."""


class Sealer:
    """Seals with the newest key, opens with any.

    current: the id of the newest key, the first 16 hex digits of its SHA-256; None: nothing is sealed.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers: Mapping[str, AESGCM] = {_key_id(key): AESGCM(key) for key in keys}
        self.current = _key_id(keys[0]) if keys else None

    @classmethod
    def none(cls) -> Self:
        """Without keys: what is stored stands as it is."""
        return cls(())

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """With the operator's keys. Raises SealError."""
        if settings.encryption_key is not None and settings.encryption_key_file is not None:
            raise SealError("give encryption_key or encryption_key_file, not both")
        if settings.encryption_key_file is not None:
            return cls(read_keys(settings.encryption_key_file))
        if settings.encryption_key is not None:
            texts = settings.encryption_key.get_secret_value().split(",")
            return cls([_decoded(text.strip(), "encryption_key") for text in texts])
        return cls.none()

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Encrypt with the newest key: nonce (12 bytes), ciphertext, tag (16).

        context: what it belongs to; it opens with the same alone, so that it cannot be put in another's place.
        Raises SealError without a key.
        """
        if self.current is None:
            raise SealError("there is no encryption key; name one with encryption_key_file")
        # 96 random bits: NIST SP 800-38D allows 2^32 seals with a key.
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[self.current].encrypt(nonce, data, context)

    def open(self, data: bytes, context: bytes, key_id: str) -> bytes:
        """Decrypt what the key with this id sealed. Raises SealError."""
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            known = ", ".join(self._ciphers) or "none"
            raise SealError(
                f"the gallery is sealed with the encryption key {key_id}, and the keys given are: {known}; "
                "name the file that holds it with encryption_key_file"
            )
        try:
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise SealError(
                f"{context.decode(errors='replace')}: altered since it was sealed with key {key_id}; "
                "restore it from a backup"
            ) from error


def read_keys(file: Path) -> list[bytes]:
    """The keys of a file, newest first: base64 of 32 bytes a line; empty lines and `#` are passed over.

    Raises SealError.
    """
    try:
        lines = [line.strip() for line in file.read_text("ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SealError(f"the encryption keys {file} cannot be read: {reason}") from error
    keys = [_decoded(line, str(file)) for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SealError(f"{file}: holds no encryption key; make one with `facemargin service new-key {file}`")
    return keys


def add_key(file: Path) -> str:
    """Put a new random key first into a file, made if it is missing, readable by its owner alone; the key's id.

    Raises SealError.
    """
    older = file.read_text("ascii") if file.exists() and read_keys(file) else ""
    key = secrets.token_bytes(_KEY_BYTES)
    fresh = file.with_name(f".{file.name}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as written:
            written.write(base64.b64encode(key).decode() + "\n" + older)
            written.flush()
            os.fsync(written.fileno())
        fresh.replace(file)
    except OSError as error:
        raise SealError(f"the encryption keys {file} cannot be written: {error.strerror}") from error
    return _key_id(key)


def _key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]


def _decoded(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise SealError(f"{where}: not an encryption key in base64; `facemargin service new-key` makes one") from error
    if len(key) != _KEY_BYTES:
        raise SealError(f"{where}: an encryption key has {_KEY_BYTES} bytes, not {len(key)}")
    return key
