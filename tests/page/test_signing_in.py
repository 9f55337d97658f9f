"""Signing in and out, and what is left behind in the browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
from launching.server import ADMIN_KEY
from page.browsing import Visit
from playwright.sync_api import expect


def test_a_wrong_key_is_refused_in_words_and_forgotten(visit: Visit) -> None:
    visit.expected = {401}
    visit.open()
    visit.page.get_by_label("API key").fill("no such key")
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("This API key is not known.")
    expect(visit.page.get_by_role("tab").first).to_be_hidden()
    assert visit.page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})").find("no such key") < 0


def test_the_key_lasts_for_the_browser_tab_and_no_longer(visit: Visit) -> None:
    visit.sign_in(ADMIN_KEY, "status")
    visit.page.reload()
    expect(visit.panel("status")).to_be_visible()
    expect(visit.page).to_have_title("Status · Facemargin")
    assert ADMIN_KEY in visit.page.evaluate("JSON.stringify({...sessionStorage})")
    assert ADMIN_KEY not in visit.page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
    visit.page.get_by_role("button", name="Sign out").click()
    expect(visit.page.get_by_label("API key")).to_be_focused()
    expect(visit.page).to_have_title("Sign in · Facemargin")
    assert ADMIN_KEY not in visit.page.evaluate("JSON.stringify({...sessionStorage})")
    assert visit.panel("status").inner_html() == ""
    visit.page.reload()
    expect(visit.page.get_by_label("API key")).to_be_visible()


def test_a_key_that_is_revoked_meanwhile_leads_back_to_signing_in(
    visit: Visit, client: httpx.Client, new_key: Callable[..., str]
) -> None:
    visit.expected = {401}
    secret = new_key("read")
    visit.sign_in(secret)
    [key] = [key for key in client.get("/v1/keys").json()["keys"] if secret.startswith(key["prefix"] or "-")]
    client.delete(f"/v1/keys/{key['id']}").raise_for_status()
    visit.page.locator("#tab-status").click()
    expect(visit.page.get_by_role("alert")).to_contain_text("A key that was revoked is no longer known")
    expect(visit.page.get_by_label("API key")).to_be_focused()


def test_an_expired_key_says_so(visit: Visit, new_key: Callable[..., str]) -> None:
    visit.expected = {401}
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    secret = new_key("read", expires_at=expires_at.isoformat())
    visit.open()
    visit.page.wait_for_timeout(1200)
    visit.page.get_by_label("API key").fill(secret)
    visit.page.keyboard.press("Enter")
    expect(visit.page.get_by_role("alert")).to_contain_text("This API key has expired.")


def test_a_key_to_read_is_offered_only_what_it_may_do(visit: Visit, new_key: Callable[..., str], known: str) -> None:
    visit.sign_in(new_key("read"), "gallery")
    gallery = visit.panel("gallery")
    expect(gallery.get_by_role("link", name="Joe Known")).to_be_visible()
    expect(gallery.get_by_role("heading", name="Add a person")).to_have_count(0)
    expect(gallery.get_by_role("button", name="New")).to_be_hidden()
    gallery.get_by_role("link", name="Joe Known").click()
    expect(gallery.get_by_role("heading", name="Joe Known")).to_be_visible()
    expect(gallery.get_by_role("button", name="Delete")).to_have_count(0)
    expect(visit.show("activity")).to_contain_text("Your key has the role read")


def test_a_key_for_one_collection_sees_that_one(
    visit: Visit, client: httpx.Client, new_key: Callable[..., str]
) -> None:
    client.put("/v1/collections/north", json={"name": "North gate"}).raise_for_status()
    visit.sign_in(new_key("admin", collections=["north"]), "gallery")
    choice = visit.panel("gallery").get_by_label("Collection")
    expect(choice.get_by_role("option")).to_have_text(["North gate (north)"])
    expect(visit.panel("gallery").get_by_role("button", name="New")).to_be_hidden()
    expect(visit.show("activity")).to_contain_text("Your key is for some collections only")
