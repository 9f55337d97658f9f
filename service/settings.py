"""Every option of the service, in one place; each may be given as `FACEMARGIN_NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

import models

PRETRAINED = Path(models.__file__).parent / "pretrained"


class Settings(BaseSettings):
    """What the operator decides. The command line overrides the environment."""

    model_config = SettingsConfigDict(env_prefix="FACEMARGIN_", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    data_dir: Path = Field(Path("data"), description="Folder of the database and of the compiled networks.")
    cache_dir: Path = Field(
        default_factory=lambda given: given["data_dir"] / "cache",
        description="Folder of the compiled networks, which may be read-only once they are there.",
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the gallery; by default SQLite in the data folder."
    )
    recogniser: Path = Field(
        PRETRAINED / "facemargin-s.safetensors", description="Checkpoint that turns a face into an embedding."
    )
    detector: Path = Field(PRETRAINED / "facemargin-det.safetensors", description="Checkpoint that finds faces.")
    admin_key: SecretStr | None = Field(
        None, description="Admin key of the first start; without it one is generated and printed once."
    )
    auth: Literal["required", "off"] = Field(
        "required", description="`off` lets everybody do everything; only on a loopback address."
    )
    encryption_key_file: Path | None = Field(
        None, description="File of the keys that seal embeddings and crops, newest first; `facemargin service new-key`."
    )
    encryption_key: SecretStr | None = Field(None, description="The same keys, separated by commas, in place of a file.")
    keep_crops: bool = Field(False, description="Keep the aligned crop of each enrolled face (for thumbnails, reembed).")
    allow_urls: bool = Field(False, description="Accept photos by URL; the server then fetches from public addresses.")
    rate_limit: float = Field(50.0, gt=0, description="Requests a second that one key may send, on average.")
    rate_burst: int = Field(200, ge=1, description="Requests that one key may send at once.")
    threads: int | None = Field(None, ge=1, description="Threads for inference; by default as many as cores.")

    max_request_bytes: int = Field(32 * 2**20, ge=1024, description="Largest request body.")
    max_image_bytes: int = Field(16 * 2**20, ge=1024, description="Largest encoded photo.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest photo, in pixels.")
    max_import_bytes: int = Field(4 * 2**30, ge=1024, description="Largest body of an import.")
    max_pending_bytes: int = Field(512 * 2**20, ge=1024, description="Bytes of request bodies held at once.")
    max_images: int = Field(20, ge=1, description="Most photos in one request.")
    max_faces: int = Field(50, ge=1, le=1000, description="Most faces taken from one photo.")

    default_far: float = Field(1e-4, gt=0, lt=1, description="False match rate of verify when the caller names none.")
    default_fpir: float = Field(
        1e-2,
        gt=0,
        lt=1,
        description="False positive identification rate of identify when none is named.",
    )

    @property
    def gallery_url(self) -> str:
        """The database to open."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'facemargin.db').absolute()}"
