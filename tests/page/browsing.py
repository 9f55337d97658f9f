"""The page in a real browser: found, started, and watched for what must never happen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Playwright, expect

TABS = ("verify", "identify", "gallery", "activity", "status")
_PATIENCE = 20_000  # milliseconds: the machine may be busy


def launch(playwright: Playwright, camera: Path | None = None) -> Browser:
    """Start Chromium, its camera showing an MJPEG file. Fails where there is no Chromium."""
    executable = shutil.which("chromium")
    if executable is None:
        raise AssertionError("the page's tests need `chromium` on the PATH")
    arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    if camera is not None:
        arguments.append(f"--use-file-for-fake-video-capture={camera}")
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses root otherwise
    return playwright.chromium.launch(executable_path=executable, args=arguments)


class Visit:
    """Somebody at the page.

    faults: what the console complained of (but for answers of `expected` status), errors of scripts, broken
    security policies, and requests to anywhere else.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.expected: set[int] = set()
        self.faults: list[str] = []
        page.set_default_timeout(_PATIENCE)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: self._asked(request.url))

    def open(self, hash_: str = "") -> Visit:
        """Go to the page."""
        self.page.goto(f"{self.address}/{hash_}")
        return self

    def sign_in(self, key: str, tab: str = "verify") -> Visit:
        """Open a tab and sign in."""
        self.open(f"#/{tab}")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.panel(tab).get_by_role("heading", level=1)).to_be_visible()
        return self

    def show(self, tab: str) -> Locator:
        """Choose a tab; its panel."""
        self.page.locator(f"#tab-{tab}").click()
        expect(self.panel(tab)).to_be_visible()
        return self.panel(tab)

    def panel(self, tab: str) -> Locator:
        """A tab's panel."""
        return self.page.locator(f"#panel-{tab}")

    @property
    def dialog(self) -> Locator:
        """The question that is asked."""
        return self.page.get_by_role("dialog")

    def _said(self, message: ConsoleMessage) -> None:
        answered = any(f"status of {status} " in message.text for status in self.expected)
        if message.type in ("error", "warning") and not answered:
            self.faults.append(f"console: {message.text}")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and f"{parts.scheme}://{parts.netloc}" != self.address:
            self.faults.append(f"request to {url}")


@contextmanager
def visiting(browser: Browser, address: str, **context: Any) -> Iterator[Visit]:
    """A visit with a context of its own: no other visit's key, theme or files."""
    opened = browser.new_context(**context)
    try:
        yield Visit(opened.new_page(), address)
    finally:
        opened.close()


def drop(target: Locator, *photos: Path) -> None:
    """Drop photos on an element, as from the file manager."""
    transfer = _transfer(target.page, photos)
    target.dispatch_event("dragover", {"dataTransfer": transfer})
    target.dispatch_event("drop", {"dataTransfer": transfer})


def paste(page: Page, *photos: Path) -> None:
    """Paste photos into the page."""
    page.evaluate(
        "(clipboardData) => document.body.dispatchEvent("
        "new ClipboardEvent('paste', {clipboardData, bubbles: true, cancelable: true}))",
        _transfer(page, photos),
    )


def _transfer(page: Page, photos: tuple[Path, ...]) -> Any:
    """A DataTransfer with the photos; their bytes go through a file input, the only way in for real files."""
    page.evaluate(
        "() => { const input = document.createElement('input'); input.type = 'file'; input.multiple = true;"
        " input.id = 'for-tests'; input.hidden = true; document.body.append(input); }"
    )
    chooser = page.locator("#for-tests")
    chooser.set_input_files(list(photos))
    return chooser.evaluate_handle(
        "(input) => { const transfer = new DataTransfer();"
        " for (const file of input.files) transfer.items.add(file); input.remove(); return transfer; }"
    )
