"""Gallery: people enrolled, found, renamed, merged and erased."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from page.browsing import Visit, drop
from playwright.sync_api import Locator, expect


@pytest.fixture
def gallery(admin: Visit, client: httpx.Client) -> Iterator[Locator]:
    """The panel, on a collection of the test's own."""
    client.put("/v1/collections/people", json={"name": "People"}).raise_for_status()
    admin.open("#/gallery/people")
    panel = admin.panel("gallery")
    expect(panel).to_contain_text("Nobody here yet")
    yield panel
    client.delete("/v1/collections/people").raise_for_status()


def enrol(client: httpx.Client, subject: str, name: str, *photos: Path) -> None:
    address = f"/v1/collections/people/subjects/{subject}"
    client.put(address, json={"name": name}).raise_for_status()
    for photo in photos:
        with photo.open("rb") as file:
            client.post(f"{address}/faces", files={"image": file}).raise_for_status()


def test_dropped_photos_are_enrolled_one_by_one_with_reasons(gallery: Locator, admin: Visit, demo: Path) -> None:
    admin.expected = {422}
    drop(gallery.locator(".drop"), demo / "obama.jpg")
    expect(gallery.get_by_role("alert")).to_contain_text("Type a name first")
    gallery.get_by_label("Name", exact=True).fill("Zoë d'Arc")
    expect(gallery.get_by_label("Id", exact=True)).to_have_value("zoe-d-arc")
    photos = ("obama.jpg", "obama3.jpg", "017_0.jpg", "011_3.jpg")
    drop(gallery.locator(".drop"), *(demo / name for name in photos))
    outcomes = gallery.locator(".outcome")
    expect(outcomes).to_have_count(4)
    expect(outcomes.nth(0)).to_contain_text("added")
    expect(outcomes.nth(2)).to_contain_text("No face was found.")
    expect(outcomes.nth(3)).to_contain_text("Several faces; choose which to take.")
    expect(gallery).to_contain_text("2 of 4 photos added.")
    person = gallery.get_by_role("link", name="Zoë d'Arc")
    expect(person).to_contain_text("zoe-d-arc · 2 faces")
    expect(person.locator(".portrait img")).to_be_visible()
    person.click()
    expect(admin.page).to_have_url(re.compile("#/gallery/people/zoe-d-arc$"))
    expect(gallery.get_by_role("img", name="Face 1 of Zoë d'Arc")).to_be_visible()


def test_people_are_searched_and_shown_part_by_part(gallery: Locator, admin: Visit, client: httpx.Client) -> None:
    for number in range(53):
        client.put(f"/v1/collections/people/subjects/p{number:02}", json={"name": f"Person {number:02}"})
    admin.page.reload()
    people = gallery.locator(".people li")
    expect(people).to_have_count(50)
    gallery.get_by_role("button", name="Show more").click()
    expect(people).to_have_count(53)
    expect(gallery.get_by_role("button", name="Show more")).to_be_hidden()
    gallery.get_by_label("Search by name or id").fill("PERSON 4")
    expect(people).to_have_count(10)
    gallery.get_by_label("Search by name or id").fill("nobody of this name")
    expect(gallery).to_contain_text("Nobody found")


def test_a_person_is_renamed_and_merged(gallery: Locator, admin: Visit, client: httpx.Client, demo: Path) -> None:
    enrol(client, "a", "Ada", demo / "obama.jpg")
    enrol(client, "b", "Ada again", demo / "obama3.jpg")
    admin.open("#/gallery/people/b")
    admin.page.reload()
    gallery.locator(".person-head").get_by_role("button", name="Rename").click()
    admin.dialog.get_by_label("Name").fill("Ada, twice")
    admin.dialog.get_by_role("button", name="Rename").click()
    expect(gallery.get_by_role("heading", name="Ada, twice")).to_be_visible()
    gallery.get_by_role("button", name="Merge").click()
    admin.dialog.get_by_role("button", name="Merge").click()
    expect(admin.dialog.get_by_role("alert")).to_contain_text("Choose the person who takes the faces.")
    admin.dialog.get_by_label("Into").select_option("a")
    admin.dialog.get_by_role("button", name="Merge").click()
    expect(gallery.get_by_role("heading", name="Ada", exact=True)).to_be_visible()
    expect(gallery.locator(".face")).to_have_count(2)
    [left] = client.get("/v1/collections/people/subjects").json()["subjects"]
    assert (left["subject_id"], left["faces"]) == ("a", 2)


def test_faces_people_and_collections_are_erased_after_a_question(
    gallery: Locator, admin: Visit, client: httpx.Client, demo: Path
) -> None:
    enrol(client, "a", "Ada", demo / "obama.jpg", demo / "obama3.jpg")
    admin.open("#/gallery/people/a")
    admin.page.reload()
    gallery.get_by_role("button", name="Delete face 1").click()
    expect(admin.dialog.get_by_role("button", name="Cancel")).to_be_focused()
    admin.page.keyboard.press("Escape")
    expect(gallery.locator(".face")).to_have_count(2)
    gallery.get_by_role("button", name="Delete face 1").click()
    admin.dialog.get_by_role("button", name="Delete").click()
    expect(gallery.locator(".face")).to_have_count(1)
    gallery.locator(".person-head").get_by_role("button", name="Delete").click()
    expect(admin.dialog).to_contain_text("1 face and everything known of this person")
    admin.dialog.get_by_role("button", name="Delete").click()
    expect(gallery).to_contain_text("Nobody here yet")
    gallery.get_by_role("button", name="New").click()
    admin.dialog.get_by_label("Name").fill("South gate")
    admin.dialog.get_by_role("button", name="Create").click()
    expect(gallery.get_by_label("Collection")).to_have_value("south-gate")
    gallery.get_by_role("button", name="Delete").click()
    admin.dialog.get_by_label("Type south-gate to confirm").fill("south")
    admin.dialog.get_by_role("button", name="Delete").click()
    expect(admin.dialog.get_by_role("alert")).to_contain_text("That is not its id.")
    admin.dialog.get_by_label("Type south-gate to confirm").fill("south-gate")
    admin.dialog.get_by_role("button", name="Delete").click()
    expect(gallery.get_by_label("Collection")).to_have_value("default")
    assert client.get("/v1/collections/south-gate").status_code == 404
