"""Every option of the service, in one place; each may be given as `FACEMARGIN_NAME`."""

from __future__ import annotations

from pathlib import Path

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
    threads: int | None = Field(None, ge=1, description="Threads for inference; by default as many as cores.")

    max_request_bytes: int = Field(32 * 2**20, ge=1024, description="Largest request body.")
    max_image_bytes: int = Field(16 * 2**20, ge=1024, description="Largest encoded photo.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest photo, in pixels.")
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
