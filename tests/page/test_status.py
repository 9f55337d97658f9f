"""Status: the model, its calibration, the index, latency."""

from __future__ import annotations

import httpx
import pytest
from page.browsing import Visit
from playwright.sync_api import expect


@pytest.mark.usefixtures("known")
def test_status_tells_what_the_service_tells(admin: Visit, client: httpx.Client) -> None:
    model, status = client.get("/v1/model").json(), client.get("/v1/status").json()
    panel = admin.show("status")
    expect(panel.locator(".tile").filter(has_text="Version")).to_contain_text(status["version"])
    expect(panel.locator(".tile").filter(has_text="Faces")).to_contain_text(f"{status['faces']:,}")
    expect(panel.locator(".facts")).to_contain_text(model["model"])
    expect(panel.locator(".facts")).to_contain_text(model["calibration"]["data"])
    rows = model["calibration"]["rows"]
    expect(panel.get_by_role("img", name="Threshold by false match rate")).to_be_visible()
    expect(panel.locator("circle.curve-point")).to_have_count(len(rows))
    heights = [float(point.get_attribute("cy") or "nan") for point in panel.locator("circle.curve-point").all()]
    assert heights == sorted(heights, reverse=True)
    assert len(set(heights)) == len(rows)
    panel.get_by_text("The same as a table").click()
    expect(panel.locator("details tbody tr").first).to_contain_text(f"{rows[0]['threshold']:.3f}")
    index = panel.get_by_role("region", name="Index")
    expect(index).to_contain_text("default")
    expect(panel.locator(".bars li").filter(has_text="Find faces")).to_contain_text("ms")
    expect(panel).to_contain_text("Queue")
