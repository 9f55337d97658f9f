"""Answers that end a request before its route has run, or while it runs."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response


class Answered(Exception):
    """This is the answer; nothing more is to be done."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"answered with {response.status_code}")
        self.response = response


def install_early_answers(app: FastAPI) -> None:
    """Make the application send the answer that an `Answered` carries."""

    @app.exception_handler(Answered)
    async def _answered(_: Request, early: Answered) -> Response:
        return early.response
