"""The log: one line an event, as JSON for programs or as text for people."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

_FIELDS: Final = "facemargin"
# What these have to say at INFO is either in our own lines or of no use to an operator.
_CHATTY: Final = ("alembic", "httpx", "httpcore", "uvicorn")


def configure(form: Literal["auto", "text", "json"]) -> None:
    """Send the log to standard error; `auto` is text on a terminal and JSON elsewhere."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TextLines() if readable else _JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def log_fields(logger: logging.Logger, message: str, fields: Mapping[str, Any]) -> None:
    """One line at INFO with fields of its own; those that are None are left out."""
    logger.info(message, extra={_FIELDS: {name: value for name, value in fields.items() if value is not None}})


class _TextLines(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The message, and its fields behind it."""
        fields = getattr(record, _FIELDS, {})
        return super().formatMessage(record) + "".join(f" {name}={value}" for name, value in fields.items())


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message and the trace hold."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True)
