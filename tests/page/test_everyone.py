"""The pages for everyone: axe's rules, dark, light and narrow, by keyboard, and light in weight."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.page.conftest import PROGRAMS

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "narrow": {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
}
TWICE = """() => {
    const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
    return ids.filter((id, n) => ids.indexOf(id) !== n);
}"""
KIB = 1024
PAINTED_MS = 100
TRIES = 20
BLANK_MS = 50  # what one line from the service takes at most where its pages can be judged


@pytest.fixture(scope="module")
def pages(service):
    """The path of every kind of page, by a name for it."""
    service.token("alice", "--operator")
    ticker = service.upload(program="ticker", directory=PROGRAMS, name="ticker")
    good = service.run(ticker, messages=300)
    failed = service.run(service.upload(program="echo"), messages=[1], fail="a fault", lines=["x"])
    running = service.run(ticker, messages=120, pause_s=250)
    for job in (good, failed):
        service.wait(job)
    yield {
        "jobs": "/jobs",
        "no jobs": "/jobs?program=nothing",
        "good": f"/jobs/{good}",
        "failed": f"/jobs/{failed}",
        "running": f"/jobs/{running}",
        "edit": f"/jobs/{good}/edit",
        "programs": "/programs",
        "program": f"/programs/{ticker}",
        "upload": "/upload",
        "machine": "/machine",
        "unknown": "/jobs/nothing",
    }
    service.client("alice").post(f"{service.url}/v1/jobs/{running}/cancel")


def faults(page):
    """Return what axe finds wrong with a page, in words."""
    answer = Axe().run(page, options={"runOnly": RULES}).response
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        for each in answer["violations"]
    ]


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_any_page(visitors, pages, look, tmp_path):
    visitor = visitors(**LOOKS[look])
    visitor.see("/sign-in")
    found = {"sign-in": faults(visitor.page)}
    visitor.sign_in("alice", "--operator")
    for name, path in pages.items():
        visitor.see(path)
        if name == "running":
            expect(visitor.page.locator("#live")).to_have_text("Live")
        found[name] = faults(visitor.page)
        assert visitor.page.evaluate(TWICE) == [], f"{name} has ids twice"
        wide = visitor.page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide, f"{name} is wider than the window"
    for name, make in (("form", mistake_in_a_form), ("upload", mistake_in_an_upload)):
        make(visitor, pages, tmp_path)
        found[f"{name} with a mistake"] = faults(visitor.page)
    assert {name: each for name, each in found.items() if each} == {}


def mistake_in_a_form(visitor, pages, _):
    visitor.see(pages["program"])
    visitor.page.get_by_label("messages").fill("{")
    visitor.page.get_by_role("button", name="Run", exact=True).click()
    expect(visitor.page.locator("#mistakes")).to_be_visible()


def mistake_in_an_upload(visitor, _, directory):
    manifest = directory / "program.yaml"
    manifest.write_text("name: it\nspec:\n  parameters: {type: nothing}\n")
    program = directory / "program.py"
    program.write_text("def main(backend, user_messenger): pass\n")
    visitor.see("/upload")
    visitor.page.get_by_label("Files").set_input_files([program, manifest])
    visitor.page.get_by_role("button", name="Upload").click()
    expect(visitor.page.locator("#excerpt mark")).to_be_visible()


def test_axe_would_find_something(visitor):
    visitor.see("/sign-in")
    visitor.page.evaluate("document.querySelector('label').remove()")
    visitor.page.evaluate("document.documentElement.removeAttribute('lang')")
    found = "\n".join(faults(visitor.page))
    assert "label" in found
    assert "html-has-lang" in found


def test_a_program_can_be_run_by_keyboard_alone(visitor, service, pages):
    page = visitor.page
    visitor.see("/sign-in")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type(service.token("alice"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs")
    visitor.see(pages["program"])
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", focused
        if page.evaluate("document.activeElement.textContent") == "Run":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/*")
    expect(page.locator("#outcome")).to_contain_text("Completed")


PAINT = """() => new Promise((found) => new PerformanceObserver((list) => {
    const [paint] = list.getEntriesByName("first-contentful-paint");
    if (paint) found(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
WEIGHT = """() => Object.fromEntries(
    ["navigation", "resource"]
        .flatMap((type) => performance.getEntriesByType(type))
        .filter((each) => each.initiatorType !== "xmlhttprequest" && each.initiatorType !== "fetch")
        .map((each) => [new URL(each.name).pathname, each.decodedBodySize]))"""


def test_pages_are_painted_at_once(visitor, pages):
    visitor.sign_in("alice", "--operator")
    late = {}
    for name, path in pages.items():
        painted, blank = [], []
        while len(painted) < TRIES and not (painted and min(painted) <= PAINTED_MS):
            visitor.see("/healthz")
            blank.append(visitor.page.evaluate(PAINT))
            visitor.see(path)  # on a busy machine, the quickest is the page's own
            painted.append(visitor.page.evaluate(PAINT))
        if min(painted) > PAINTED_MS:
            late[name] = min(painted), min(blank)
    if late and min(blank for _, blank in late.values()) > BLANK_MS:
        pytest.skip(f"the machine is too busy: page and one line of text take, in ms, {late}")
    assert late == {}


def test_pages_weigh_little(visitor, pages):
    visitor.sign_in("alice", "--operator")
    for name, path in pages.items():
        visitor.see(path)
        sizes = visitor.page.evaluate(WEIGHT)
        assert {Path(each).suffix for each in sizes} >= {".css", ".js"}
        assert all(sizes.values()), sizes
        assert sum(sizes.values()) <= 150 * KIB, (name, sizes)
        assert max(size for each, size in sizes.items() if each.endswith(".css")) <= 20 * KIB
