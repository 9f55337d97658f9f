"""The page's files as they are served."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

REVALIDATED = {"Cache-Control": "no-cache"}
"""A browser may keep the file, but asks each time whether it still is the newest: an update is seen at once."""


class PageFiles(StaticFiles):
    """Files that say nothing of people, so that browsers may keep them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """The file, or 304 if the browser has it."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(REVALIDATED)
        return response
