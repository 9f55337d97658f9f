"""Identify: names for those who are known, and a plain word for those who are not."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from page.browsing import Visit
from playwright.sync_api import expect

pytestmark = pytest.mark.usefixtures("known")


def test_several_photos_name_the_known_and_state_the_unknown(admin: Visit, demo: Path) -> None:
    panel = admin.show("identify")
    panel.get_by_label("Photos with faces").set_input_files(
        [demo / "biden.jpg", demo / "011_3.jpg", demo / "017_0.jpg"]
    )
    known = panel.get_by_role("article", name="biden.jpg")
    expect(known.locator(".tag.yes")).to_have_text("Joe Known > 99.9%")
    expect(known.locator(".persons")).to_contain_text("Joe Known")
    expect(known).to_contain_text("About 1 in 100 searches for a stranger gives a wrong name.")
    strangers = panel.get_by_role("article", name="011_3.jpg")
    expect(strangers.locator(".persons b")).to_have_text(["Unknown", "Unknown", "Unknown"])
    expect(strangers.locator("rect.box.plain")).to_have_count(3)
    expect(panel.get_by_role("article", name="017_0.jpg")).to_contain_text("No face in this photo.")
    panel.get_by_role("button", name="Remove 011_3.jpg").click()
    expect(strangers).to_have_count(0)


def test_another_collection_is_searched_anew(admin: Visit, client: httpx.Client, demo: Path) -> None:
    client.put("/v1/collections/nobody-here", json={"name": "Nobody here"}).raise_for_status()
    panel = admin.show("identify")
    panel.get_by_label("Photos with faces").set_input_files(demo / "biden.jpg")
    expect(panel.locator(".persons")).to_contain_text("Joe Known")
    panel.get_by_label("Collection").select_option("nobody-here")
    expect(panel.locator(".persons")).to_contain_text("Unknown")
    expect(panel).to_contain_text("searched among 0 people")


def test_the_camera_names_whom_it_sees_at_a_bounded_rate(admin: Visit) -> None:
    panel = admin.show("identify")
    searches: list[str] = []
    admin.page.on("request", lambda request: searches.append(request.url) if "/v1/identify" in request.url else None)
    panel.get_by_role("button", name="Use the camera").click()
    live = panel.get_by_role("article", name="Live camera")
    expect(live.locator(".tag.yes")).to_contain_text("Joe Known")
    before = len(searches)
    admin.page.wait_for_timeout(2000)
    assert 1 <= len(searches) - before <= 5
    admin.show("verify")
    stopped = len(searches)
    admin.page.wait_for_timeout(800)
    assert len(searches) <= stopped
    admin.show("identify")
    expect(live).to_be_hidden()
    expect(panel.get_by_role("button", name="Use the camera")).to_be_visible()
