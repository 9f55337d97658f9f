"""For everybody: by keyboard, by screen reader, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from launching.server import ADMIN_KEY, Server
from page.browsing import TABS, Visit, visiting
from playwright.sync_api import Browser, expect

pytestmark = pytest.mark.usefixtures("known")


def fill(visit: Visit, demo: Path) -> None:
    """Bring every kind of answer onto the page."""
    verify = visit.show("verify")
    verify.get_by_label("First photo", exact=True).set_input_files(demo / "obama.jpg")
    verify.get_by_label("Second photo", exact=True).set_input_files(demo / "biden.jpg")
    expect(verify.locator(".verdict")).to_be_visible()
    identify = visit.show("identify")
    identify.get_by_label("Photos with faces").set_input_files([demo / "biden.jpg", demo / "011_3.jpg"])
    expect(identify.locator(".persons")).to_have_count(2)
    gallery = visit.show("gallery")
    expect(gallery.locator(".people li").first).to_be_visible()
    expect(visit.show("activity").locator(".audit tbody tr").first).to_be_visible()
    expect(visit.show("status").locator(".tile").first).to_be_visible()


def grave(visit: Visit) -> list[str]:
    """What axe-core finds serious or worse, in the state that is shown."""
    found = Axe().run(visit.page).response["violations"]
    return [
        f"{fault['id']}: {node['html']} {node.get('failureSummary', '')}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Browser, server: Server, demo: Path, scheme: str) -> None:
    with visiting(browser, server.address, color_scheme=scheme, reduced_motion="reduce") as visit:
        visit.open()
        expect(visit.page.get_by_label("API key")).to_be_visible()
        assert grave(visit) == []
        visit.sign_in(ADMIN_KEY)
        fill(visit, demo)
        for tab in TABS:
            visit.show(tab)
            assert grave(visit) == [], tab
        visit.open("#/gallery/default/joe")
        expect(visit.page.locator(".face")).to_have_count(1)
        assert grave(visit) == [], "person"
        visit.page.locator(".person-head").get_by_role("button", name="Merge").click()
        assert grave(visit) == [], "dialog"
        assert visit.faults == []


def test_everything_fits_a_phone(browser: Browser, server: Server, demo: Path) -> None:
    phone = {"width": 360, "height": 740}
    with visiting(browser, server.address, viewport=phone, is_mobile=True, has_touch=True) as visit:
        visit.sign_in(ADMIN_KEY)
        fill(visit, demo)
        for tab in TABS:
            visit.show(tab)
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= phone["width"], tab
            box = visit.page.locator(f"#tab-{tab}").bounding_box()
            assert box is not None
            assert box["width"] >= 44
            assert box["height"] >= 44
            assert box["y"] + box["height"] <= phone["height"]
        assert visit.faults == []


@pytest.mark.parametrize("width", [1280, 1100, 965, 955, 880, 725])
def test_the_bar_fits_a_window_of_any_width(browser: Browser, server: Server, width: int) -> None:
    with visiting(browser, server.address, viewport={"width": width, "height": 800}) as visit:
        visit.sign_in(ADMIN_KEY)
        # A name of a key as long as they may be.
        visit.page.locator(".who").evaluate(
            "element => element.textContent = 'the key of a whole department '.repeat(3)"
        )
        box = visit.page.get_by_role("button", name="Sign out").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def ground(visit: Visit) -> int:
    """The brightness of the page's ground, 0 to 255."""
    colour = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return max(int(part) for part in colour[4:-1].split(","))


def test_the_theme_follows_the_system_until_it_is_chosen(browser: Browser, server: Server) -> None:
    with visiting(browser, server.address, color_scheme="dark") as visit:
        visit.open()
        assert ground(visit) < 60
        visit.page.get_by_role("button", name="Switch to the light theme").click()
        assert ground(visit) > 200
        visit.page.reload()
        assert ground(visit) > 200
        visit.page.get_by_role("button", name="Switch to the dark theme").click()
        visit.page.emulate_media(color_scheme="light")
        assert ground(visit) > 200
        assert visit.faults == []


def focused(visit: Visit) -> str:
    """The name of what has the focus."""
    return str(
        visit.page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
    )


def test_the_page_is_walked_by_keyboard_alone(visit: Visit) -> None:
    visit.open()
    press = visit.page.keyboard.press
    expect(visit.page.get_by_label("API key")).to_be_focused()
    visit.page.keyboard.type(ADMIN_KEY)
    press("Enter")
    expect(visit.panel("verify")).to_be_visible()
    press("Tab")
    assert focused(visit).startswith("Service default")  # on with the content, not back at the top
    visit.page.reload()
    expect(visit.panel("verify")).to_be_visible()
    press("Tab")
    assert focused(visit) == "Skip to content"
    press("Tab")
    press("Tab")
    assert focused(visit) == "Verify"
    for name in ("Identify", "Gallery", "Activity", "Status", "Verify"):
        press("ArrowRight")
        assert focused(visit) == name
        expect(visit.panel(name.lower())).to_be_visible()
        expect(visit.page).to_have_title(f"{name} · Facemargin")
    press("End")
    assert focused(visit) == "Status"
    press("Home")
    press("ArrowLeft")
    press("ArrowLeft")
    with visit.page.expect_response(lambda answer: "/subjects" in answer.url):  # the list is drawn anew
        press("ArrowLeft")
    assert focused(visit) == "Gallery"
    visit.page.wait_for_timeout(500)
    expect(visit.panel("gallery").get_by_role("link", name="Joe Known")).to_be_visible()
    outline = visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    walk_to(visit, lambda: focused(visit).find("Joe Known") >= 0)
    press("Enter")
    expect(visit.panel("gallery").get_by_role("heading", name="Joe Known")).to_be_visible()
    walk_to(visit, lambda: focused(visit) == "Merge")
    press("Enter")
    expect(visit.dialog.get_by_label("Search")).to_be_focused()
    press("Escape")
    expect(visit.dialog).to_be_hidden()
    assert focused(visit) == "Merge"


def walk_to(visit: Visit, arrived: Callable[[], bool]) -> None:
    """Press Tab until the focus has arrived."""
    for _ in range(30):
        if arrived():
            return
        visit.page.keyboard.press("Tab")
    raise AssertionError(f"the focus is on {focused(visit)!r}")
