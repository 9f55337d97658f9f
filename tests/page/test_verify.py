"""Verify: two photos, one decision, and what it rests on."""

from __future__ import annotations

import re
from pathlib import Path

from page.browsing import Visit, drop, paste
from playwright.sync_api import expect


def test_the_same_photo_twice_matches(admin: Visit, demo: Path) -> None:
    panel = admin.panel("verify")
    panel.get_by_label("First photo", exact=True).set_input_files(demo / "obama.jpg")
    expect(panel).to_contain_text("Add the other photo to compare.")
    panel.get_by_label("Second photo", exact=True).set_input_files(demo / "obama.jpg")
    expect(panel.get_by_text("Match", exact=True)).to_be_visible()
    expect(panel.get_by_role("img", name=re.compile(r"Similarity 1\.000, threshold 0\.\d{3}"))).to_be_visible()
    expect(panel).to_contain_text("this threshold lets about 1 in 10,000 pass as the same")
    expect(panel).to_contain_text("> 99.9%")
    for slot in panel.locator(".slot").all():
        face = slot.locator("rect.box").bounding_box()
        photo = slot.locator("canvas").bounding_box()
        assert face is not None
        assert photo is not None
        assert photo["x"] <= face["x"] < face["x"] + face["width"] <= photo["x"] + photo["width"]
        assert photo["y"] <= face["y"] < face["y"] + face["height"] <= photo["y"] + photo["height"]
        landmarks = slot.locator("path.dot").get_attribute("d") or ""
        assert landmarks.count("M") == 5


def test_two_people_do_not_match_and_the_error_rate_can_be_chosen(admin: Visit, demo: Path) -> None:
    panel = admin.panel("verify")
    drop(panel.locator(".drop").nth(0), demo / "obama.jpg")
    drop(panel.locator(".drop").nth(1), demo / "biden.jpg")
    expect(panel.get_by_text("No match", exact=True)).to_be_visible()
    strict = panel.get_by_role("img", name="Similarity").get_attribute("aria-label")
    panel.get_by_label("False matches allowed").select_option("0.01")
    expect(panel).to_contain_text("this threshold lets about 1 in 100 pass as the same")
    assert panel.get_by_role("img", name="Similarity").get_attribute("aria-label") != strict
    expect(panel.get_by_label("False matches allowed")).to_contain_text("1 in 1,000,000 (estimated)")


def test_pasted_photos_fill_the_places_and_every_face_of_the_second_is_compared(admin: Visit, demo: Path) -> None:
    panel = admin.panel("verify")
    paste(admin.page, demo / "obama.jpg")
    paste(admin.page, demo / "011_3.jpg")
    expect(panel).to_contain_text("3 faces in the second photo")
    expect(panel.locator(".slot").nth(1).locator(".tag")).to_have_count(3)
    panel.get_by_role("button", name="Remove: Second photo").click()
    expect(panel.locator(".slot").nth(1).locator("canvas")).to_have_count(0)
    expect(panel).to_contain_text("Add the other photo to compare.")


def test_a_photo_without_a_face_says_which_and_what_to_do(admin: Visit, demo: Path) -> None:
    admin.expected = {422}
    panel = admin.panel("verify")
    panel.get_by_label("First photo", exact=True).set_input_files(demo / "017_0.jpg")
    panel.get_by_label("Second photo", exact=True).set_input_files(demo / "obama.jpg")
    problem = panel.get_by_role("alert")
    expect(problem).to_contain_text("Source: no face was found in the photo.")
    expect(problem).to_contain_text("Use a photo where a face is well lit")
