"""Take the pictures of docs/screenshots anew: `PYTHONPATH=bench:tests python tests/page/screenshots.py`.

Everybody on them is drawn; the faces are found and compared by the service as those of photos are.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
from launching.server import ADMIN_KEY, Server
from page.browsing import Visit, launch, visiting
from page.drawn_people import ADA, BEN, CLEO, DrawnPerson, draw
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
_LARGEST = 150_000  # bytes
_DESKTOP = {"width": 1280, "height": 820}
_PHONE = {"width": 360, "height": 740}
_PEOPLE = {"ada-lovelace": ("Ada Lovelace", ADA), "ben-okri": ("Ben Okri", BEN)}


def verify(visit: Visit, drawings: dict[str, Path]) -> None:
    """Two pictures of one person."""
    panel = visit.show("verify")
    panel.get_by_label("First photo", exact=True).set_input_files(drawings["ada"])
    panel.get_by_label("Second photo", exact=True).set_input_files(drawings["ada-turned"])
    expect(panel.locator(".verdict")).to_be_visible()


def identify(visit: Visit, drawings: dict[str, Path]) -> None:
    """Two known people and an unknown one."""
    panel = visit.show("identify")
    panel.get_by_label("Wrong names allowed").select_option("0.001")
    panel.get_by_label("Photos with faces").set_input_files(drawings["group"])
    expect(panel.locator(".persons b")).to_have_text(["Ben Okri", "Ada Lovelace", "Unknown"])


def gallery(visit: Visit, drawings: dict[str, Path]) -> None:
    """People, and photos that were just added."""
    panel = visit.show("gallery")
    panel.get_by_label("Name", exact=True).fill("Cleo Hart")
    chosen = [drawings["cleo"], drawings["cleo-turned"], drawings["group"]]
    panel.get_by_label("Photos of this person").set_input_files(chosen)
    expect(panel.locator(".enrolled")).to_be_visible()
    expect(panel.locator(".portrait img")).to_have_count(3)


def person(visit: Visit, drawings: dict[str, Path]) -> None:
    """One of them."""
    panel = visit.show("gallery")
    panel.get_by_role("link", name="Cleo Hart").click()
    expect(panel.locator(".face-picture img")).to_have_count(2)


def activity(visit: Visit, drawings: dict[str, Path]) -> None:
    """The audit log."""
    panel = visit.show("activity")
    panel.get_by_role("button", name="Check the chain").click()
    expect(panel).to_contain_text("Intact")


def status(visit: Visit, drawings: dict[str, Path]) -> None:
    """The model and how the service is doing."""
    expect(visit.show("status").locator(".tile").first).to_be_visible()


SCENES: dict[str, Callable[[Visit, dict[str, Path]], None]] = {
    "verify": verify,
    "identify": identify,
    "gallery": gallery,
    "person": person,
    "activity": activity,
    "status": status,
}


def main() -> None:
    """Start a server and a browser, and take every picture."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        drawings = draw_everybody(folder)
        environment = {"FACEMARGIN_ADMIN_KEY": ADMIN_KEY, "FACEMARGIN_KEEP_CROPS": "true"}
        server = Server(folder / "data", folder / "log", 0, **environment)
        try:
            with server.wait_until_ready().client() as client:
                enrol(client, folder)
            browser = launch(playwright)
            photograph(browser, server.address, drawings, folder)
            browser.close()
        finally:
            server.stop()


def draw_everybody(folder: Path) -> dict[str, Path]:
    """Pictures by name, alone and together."""
    drawings = {}
    for name, person in (("ada", ADA), ("ben", BEN), ("cleo", CLEO)):
        drawings[name] = draw(person, folder / f"{name}.png")
        drawings[f"{name}-turned"] = draw(person, folder / f"{name}-turned.png", 12)
    together = Image.new("RGB", (1920, 760))
    for number, name in enumerate(("ben-turned", "cleo", "ada-turned")):
        together.paste(Image.open(drawings[name]), (640 * number, 0))
    drawings["group"] = folder / "group.png"
    together.save(drawings["group"])
    return drawings


def enrol(client: httpx.Client, folder: Path) -> None:
    """Those whom the gallery knows, each by one picture."""
    for subject, (name, person) in _PEOPLE.items():
        address = f"/v1/collections/default/subjects/{subject}"
        client.put(address, json={"name": name}).raise_for_status()
        client.post(f"{address}/faces", files={"image": _bytes(person, folder)}).raise_for_status()


def photograph(browser: Browser, address: str, drawings: dict[str, Path], folder: Path) -> None:
    """Three scenes on a phone in the dark, side by side, and every one on a desktop in the light."""
    phone = {"viewport": _PHONE, "device_scale_factor": 1, "is_mobile": True, "has_touch": True}
    with visiting(browser, address, color_scheme="dark", reduced_motion="reduce", **phone) as visit:
        visit.sign_in(ADMIN_KEY)
        pictures = []
        for scene in (verify, identify, status):
            scene(visit, drawings)
            visit.page.wait_for_timeout(300)
            pictures.append(Image.open(io.BytesIO(visit.page.screenshot())))
    beside = Image.new("RGB", (len(pictures) * (_PHONE["width"] + 24) - 24, _PHONE["height"]), (128, 136, 132))
    for number, picture in enumerate(pictures):
        beside.paste(picture, (number * (_PHONE["width"] + 24), 0))
    save(beside, "phone")
    with visiting(browser, address, viewport=_DESKTOP, color_scheme="light", reduced_motion="reduce") as visit:
        visit.open()
        expect(visit.page.get_by_label("API key")).to_be_visible()
        save(Image.open(io.BytesIO(visit.page.screenshot())), "sign-in")
        visit.sign_in(ADMIN_KEY)
        for name, prepare in SCENES.items():
            prepare(visit, drawings)
            visit.page.wait_for_timeout(300)
            save(Image.open(io.BytesIO(visit.page.screenshot())), name)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture with a palette, which is a third of the size. Raises AssertionError if it is too large."""
    path = FOLDER / f"{name}.png"
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    assert path.stat().st_size < _LARGEST, f"{path.name}: {path.stat().st_size} bytes"


def _bytes(person: DrawnPerson, folder: Path) -> bytes:
    return draw(person, folder / "enrolled.png", -10).read_bytes()


if __name__ == "__main__":
    main()
