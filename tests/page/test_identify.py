"""Identify: names for those who are known, and a plain word for those who are not."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from launching.server import ADMIN_KEY, Server
from page.browsing import Visit, visiting
from page.drawn_people import ADA, BEN, CLEO, draw
from PIL import Image
from playwright.sync_api import Browser, expect

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


def test_labels_of_neighbours_keep_apart_on_a_phone(
    browser: Browser, server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    together = Image.new("RGB", (1920, 760))
    for number, person in enumerate((BEN, CLEO, ADA)):
        picture = draw(person, tmp_path / f"{number}.png")
        together.paste(Image.open(picture), (640 * number, 0))
        subject = f"/v1/collections/drawn/subjects/{number}"
        client.put("/v1/collections/drawn", json={"name": "Drawn"}).raise_for_status()
        client.put(subject, json={"name": "A name that is far too long for its face"}).raise_for_status()
        client.post(f"{subject}/faces", files={"image": picture.read_bytes()}).raise_for_status()
    together.save(tmp_path / "together.png")
    with visiting(browser, server.address, viewport={"width": 360, "height": 740}) as visit:
        visit.sign_in(ADMIN_KEY)
        panel = visit.show("identify")
        panel.get_by_label("Collection").select_option("drawn")
        panel.get_by_label("Photos with faces").set_input_files(tmp_path / "together.png")
        tags = panel.locator(".tag.yes")
        expect(tags).to_have_count(3)
        boxes = [box for tag in tags.all() if (box := tag.bounding_box())]
        spans = sorted((box["x"], box["x"] + box["width"]) for box in boxes)
        assert all(end <= start + 1 for (_, end), (start, _) in pairwise(spans))
        assert visit.faults == []


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
