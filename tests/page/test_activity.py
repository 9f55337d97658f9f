"""Activity: who did what, checked and exported; and bulk work."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import httpx
from launching.server import ADMIN_KEY
from page.browsing import Visit
from playwright.sync_api import expect


def test_the_audit_log_is_filtered_checked_and_exported(admin: Visit, client: httpx.Client, tmp_path: Path) -> None:
    client.put("/v1/collections/audited").raise_for_status()
    client.put("/v1/collections/audited/subjects/ada").raise_for_status()
    panel = admin.show("activity")
    rows = panel.get_by_role("table", name="Audit log").locator("tbody tr")
    expect(rows.first).to_contain_text("subject.put")
    expect(rows.first).to_contain_text("audited / ada")
    expect(rows.first).to_contain_text("201")
    panel.get_by_label("Action").select_option("collection.put")
    expect(rows.first).to_contain_text("collection.put")
    panel.get_by_label("Collection").select_option("audited")
    expect(rows).to_have_count(1)
    panel.get_by_label("Action").select_option("import")
    expect(panel).to_contain_text("No entry fits these filters.")
    panel.get_by_role("button", name="Reset").click()
    expect(rows.first).to_contain_text("subject.put")
    rows.first.get_by_role("button").click()
    expect(panel.get_by_label("Key id")).not_to_have_value("")
    panel.get_by_role("button", name="Check the chain").click()
    expect(panel).to_contain_text("Intact: all")
    with admin.page.expect_download() as download:
        panel.get_by_role("button", name="Export").click()
    exported = tmp_path / "audit.ndjson"
    download.value.save_as(exported)
    actions = [json.loads(line).get("action") for line in exported.read_text().splitlines()]
    assert "collection.put" in actions
    assert ADMIN_KEY not in exported.read_text()


def test_bulk_work_shows_its_progress(admin: Visit, client: httpx.Client, demo: Path) -> None:
    client.put("/v1/collections/bulk").raise_for_status()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(demo / "obama.jpg", "ada/1.jpg")
        archive.write(demo / "017_0.jpg", "ada/2.jpg")
    panel = admin.show("activity")
    expect(panel).to_contain_text("No bulk work lately")
    kind = {"Content-Type": "application/zip"}
    client.post("/v1/collections/bulk/import", content=packed.getvalue(), headers=kind).raise_for_status()
    admin.show("verify")
    job = admin.show("activity").get_by_role("article")
    expect(job).to_contain_text("Photo import into bulk")
    expect(job).to_contain_text("2 of 2 · 1 rejected")
    expect(job.locator(".badge")).to_have_text("done")
    expect(job.get_by_role("progressbar")).to_have_attribute("value", "2")
    expect(job.get_by_role("button", name="Stop")).to_have_count(0)


def test_bulk_work_is_stopped(admin: Visit, client: httpx.Client, demo: Path) -> None:
    client.put("/v1/collections/endless").raise_for_status()
    portrait = (demo / "obama.jpg").read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(400):
            archive.writestr(f"ada/{number}.jpg", portrait + number.to_bytes(2, "big"))
    kind = {"Content-Type": "application/zip"}
    client.post("/v1/collections/endless/import", content=packed.getvalue(), headers=kind).raise_for_status()
    panel = admin.show("activity")
    job = panel.get_by_role("article").filter(has_text="Photo import into endless")
    job.get_by_role("button", name="Stop").click()
    admin.page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(job.locator(".badge")).to_have_text("stopped")
    expect(job.get_by_role("button", name="Stop")).to_have_count(0)
    panel.get_by_label("Action").select_option("job.cancel")
    expect(panel.get_by_role("table", name="Audit log").locator("tbody tr").first).to_contain_text("job.cancel")
