"""Pictures of the service's pages for docs/ and README: `python -m tests.page.screenshots`.

They are what Debian's Chromium shows of a real service to which the example `vqe` is uploaded, and
run from its form (`make record`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from tests.page.conftest import chromium
from tests.service.conftest import started

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "images" / "programs" / "vqe"
PICTURES = ROOT / "docs" / "pictures"
INPUTS = {
    "hamiltonian": '{"ZZ": -1.0, "XI": 0.5, "IX": 0.5}',
    "optimizer_options": '{"maxiter": 150}',
    "seed": "7",
}
WITHIN_MS = 60_000
WINDOW = {"width": 1000, "height": 1000}


def main():
    """Write all pictures again."""
    with (
        tempfile.TemporaryDirectory() as place,
        started(Path(place) / "service") as service,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium())
        try:
            page = browser.new_page(viewport=WINDOW)
            page.goto(f"{service.url}/sign-in")
            page.get_by_label("Your token").fill(service.token("alice"))
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/jobs")
            take(page, service.url)
        finally:
            browser.close()


def take(page, url):
    """Upload the program, run it from its form, and take pictures on the way."""
    page.goto(f"{url}/upload")
    page.get_by_label("Files").set_input_files(sorted(PROGRAM.glob("program.*")))
    page.get_by_role("button", name="Upload").click()
    for name, value in INPUTS.items():
        page.locator(f"[name='input.{name}']").fill(value)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=PICTURES / "page-program.png")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#outcome")).to_contain_text("Completed", timeout=WITHIN_MS)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=PICTURES / "page-job.png")


if __name__ == "__main__":
    main()
