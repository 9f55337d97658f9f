"""How the page is delivered: all of it from here, nothing inline, cached but never stale."""

from __future__ import annotations

import re

import httpx
import pytest
from page.browsing import Visit
from playwright.sync_api import expect


def test_the_policy_is_strict_and_the_document_holds_nothing_inline(client: httpx.Client) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?://", answer.text)


def test_every_file_that_the_document_names_is_there(client: httpx.Client) -> None:
    named = re.findall(r'(?:href|src)="([^"]+)"', client.get("/").text)
    assert len(named) > 5
    assert [path for path in named if client.get(path).status_code != 200] == []


@pytest.mark.parametrize("path", ["/", "/static/app/main.js", "/static/styles/base.css"])
def test_files_are_kept_by_the_browser_and_asked_about(client: httpx.Client, path: str) -> None:
    first = client.get(path)
    assert first.headers["Cache-Control"] == "no-cache"
    etag = {"If-None-Match": first.headers["ETag"]}
    assert client.get(path, headers=etag).status_code == (200 if path == "/" else 304)


def test_the_page_is_small_and_shows_soon(admin: Visit) -> None:
    sizes = admin.page.evaluate(
        "performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/static/'))"
        ".reduce((sum, entry) => sum + entry.decodedBodySize, 0)"
    )
    assert 20_000 < sizes < 150_000
    expect(admin.page.locator("link[rel=icon]")).to_have_attribute("href", "/static/favicon.svg")


def test_an_unknown_address_shows_the_first_tab(admin: Visit) -> None:
    admin.open("#/no-such-tab/%E0%A4%A")
    expect(admin.panel("verify")).to_be_visible()
