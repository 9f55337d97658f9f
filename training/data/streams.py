"""Byte streams of shards: files, http(s) with resumption, and the output of commands."""

from __future__ import annotations

import io
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO

from training.data.samples import DataError

_ATTEMPTS = 5
_TIMEOUT = 60.0


def is_remote(url: str) -> bool:
    """Whether a shard is not a local file."""
    return url.startswith(("http://", "https://", "pipe:"))


@contextmanager
def open_stream(url: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, of an http(s) URL, or of what `pipe:COMMAND` (run by the shell) prints.

    Raises DataError naming the URL when it cannot be opened, ends early, or the command fails.
    """
    try:
        if url.startswith("pipe:"):
            with _piped(url) as stream:
                yield stream
        elif is_remote(url):
            with io.BufferedReader(_Download(url), 1 << 20) as download:
                yield download
        else:
            with Path(url).open("rb") as file:
                yield file
    except (OSError, HTTPException) as error:
        raise DataError(f"{url}: cannot be read ({error})") from error


@contextmanager
def _piped(url: str) -> Iterator[IO[bytes]]:
    process = subprocess.Popen(url.removeprefix("pipe:"), shell=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    stream = process.stdout
    whole = False
    try:
        yield stream
        while stream.read(1 << 20):  # tar's reader stops at the end mark; a command that still writes must not fail
            pass
        whole = True
    finally:
        if not whole:
            process.kill()
        stream.close()
        status = process.wait()
    if status:
        raise DataError(f"{url}: the command ended with status {status}")


class _Download(io.RawIOBase):
    """An http(s) body that goes on where it was when the connection breaks (by Range); _ATTEMPTS in a row, no more."""

    def __init__(self, url: str) -> None:
        self._url, self._position, self._failures = url, 0, 0
        self._size: int | None = None
        self._response = self._open()

    def _open(self) -> HTTPResponse:
        while True:
            try:
                return self._request()
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
                self._wait(error)
            except (OSError, HTTPException) as error:
                self._wait(error)

    def _request(self) -> HTTPResponse:
        headers = {"Range": f"bytes={self._position}-"} if self._position else {}
        request = urllib.request.Request(self._url, headers=headers)
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
        if not self._position:
            length = response.headers.get("Content-Length")
            self._size = int(length) if length else None
        elif response.status != 206:
            response.close()
            raise DataError(f"{self._url}: the connection broke, and the server cannot go on in the middle (no Range)")
        return response

    def _wait(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == _ATTEMPTS:
            raise error
        time.sleep(0.1 * 2**self._failures)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while True:
            failure: Exception = OSError(f"ended after {self._position} of {self._size} bytes")
            try:
                count = self._response.readinto(buffer)
                if count or self._size is None or self._position == self._size:
                    self._position += count
                    self._failures = 0
                    return count
            except (OSError, HTTPException) as error:
                failure = error
            self._wait(failure)
            self._response.close()
            self._response = self._open()

    def close(self) -> None:
        if not self.closed:
            self._response.close()
        super().close()
