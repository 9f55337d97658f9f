"""Every option of the service, in one place; each may be given as `FACEMARGIN_NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.detector.find import SCORE_THRESHOLD
from models.pretrained import DETECTOR, RECOGNISER

SHIPPED = {"recogniser": RECOGNISER, "detector": DETECTOR}


def chosen_model(data_dir: Path, slot: str) -> Path:
    """Where `facemargin models use` puts a data folder's own recogniser or detector."""
    return data_dir / "models" / f"{slot}.safetensors"


def _model(data_dir: Path, slot: str) -> Path:
    chosen = chosen_model(data_dir, slot)
    return chosen if chosen.exists() else SHIPPED[slot]


class Settings(BaseSettings):
    """What the operator decides. The command line overrides the environment."""

    model_config = SettingsConfigDict(env_prefix="FACEMARGIN_", env_ignore_empty=True, extra="ignore", frozen=True)

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
        default_factory=lambda given: _model(given["data_dir"], "recogniser"),
        description="Checkpoint that turns a face into an embedding; by default what `facemargin models use` chose, "
        "or the shipped one.",
    )
    detector: Path = Field(
        default_factory=lambda given: _model(given["data_dir"], "detector"),
        description="Checkpoint that finds faces; by default as for the recogniser.",
    )
    admin_key: SecretStr | None = Field(
        None, description="Admin key of the first start; without it one is generated and printed once."
    )
    admin_key_file: Path | None = Field(None, description="File that holds the admin key, in place of the key itself.")
    database_url_file: Path | None = Field(None, description="File that holds the database URL, in place of the URL.")
    auth: Literal["required", "off"] = Field(
        "required", description="`off` lets everybody do everything; only on a loopback address."
    )
    encryption_key_file: Path | None = Field(
        None, description="File of the keys that seal embeddings and crops, newest first; `facemargin service new-key`."
    )
    encryption_key: SecretStr | None = Field(
        None, description="The same keys, separated by commas, in place of a file."
    )
    keep_crops: bool = Field(
        False, description="Keep the aligned crop of each enrolled face (for thumbnails, reembed)."
    )
    allow_urls: bool = Field(False, description="Accept photos by URL; the server then fetches from public addresses.")
    rate_limit: float = Field(50.0, gt=0, description="Requests a second that one key may send, on average.")
    rate_burst: int = Field(200, ge=1, description="Requests that one key may send at once.")
    threads: int | None = Field(None, ge=1, description="Threads for inference; by default as many as cores.")
    precision: Literal["auto", "f32"] = Field(
        "auto", description="Of both networks: `auto` is int8 and bf16 where the processor has instructions for them."
    )

    log_format: Literal["auto", "text", "json"] = Field(
        "auto", description="Log lines as text or JSON; `auto` is text on a terminal and JSON elsewhere."
    )
    otlp_endpoint: str | None = Field(
        None, description="OTLP/HTTP address that takes traces, as http://127.0.0.1:4318/v1/traces; none by default."
    )
    snapshot_seconds: float = Field(300.0, gt=0, description="Seconds between snapshots of a changed index.")
    drain_notice: float = Field(
        0.0, ge=0, description="Seconds that a stopping service still takes requests while /readyz says `draining`."
    )
    drain_seconds: float = Field(
        30.0, ge=0, description="Seconds that a stopping service lets running requests finish."
    )

    max_request_bytes: int = Field(32 * 2**20, ge=1024, description="Largest request body.")
    max_image_bytes: int = Field(16 * 2**20, ge=1024, description="Largest encoded photo.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest photo, in pixels.")
    max_import_bytes: int = Field(4 * 2**30, ge=1024, description="Largest body of an import.")
    max_pending_bytes: int = Field(512 * 2**20, ge=1024, description="Bytes of bodies and fetched photos held at once.")
    max_images: int = Field(20, ge=1, description="Most photos in one request.")
    max_faces: int = Field(50, ge=1, le=1000, description="Most faces taken from one photo.")

    detection_threshold: float = Field(
        SCORE_THRESHOLD, gt=0, lt=1, description="Least score of a face; lower finds more, and more that is none."
    )
    default_far: float = Field(1e-4, gt=0, lt=1, description="False match rate of verify when the caller names none.")
    default_fpir: float = Field(
        1e-2,
        gt=0,
        lt=1,
        description="False positive identification rate of identify when none is named.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secrets(cls, given: Any) -> Any:
        """Take `admin_key` and `database_url` from their files, where files are named."""
        values = dict(given)
        for name in ("admin_key", "database_url"):
            file = values.get(f"{name}_file")
            if file is None:
                continue
            if values.get(name):
                raise ValueError(f"give {name} or {name}_file, not both")
            values[name] = _secret(name, Path(file))
        return values

    @model_validator(mode="after")
    def _room_for_one(self) -> Self:
        if self.max_pending_bytes < self.max_request_bytes:
            raise ValueError("max_pending_bytes must be at least max_request_bytes: one request must fit")
        return self

    @property
    def index_dir(self) -> Path:
        """The folder of index snapshots."""
        return self.data_dir / "index"

    @property
    def gallery_url(self) -> str:
        """The database to open."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'facemargin.db').absolute()}"


def _secret(name: str, file: Path) -> str:
    """The one line of a secret's file. Raises ValueError."""
    try:
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f"{name}_file {file} cannot be read: {reason}") from error
    if not text:
        raise ValueError(f"{name}_file {file} is empty")
    return text
