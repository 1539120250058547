"""What programs and people write is text on every page: a canary in each of them would be heard.

A canary is a function that only these tests have put into the browser; hostile texts try to call
it, to change the page, or to reach another host.  The last test shows that they can, where nothing
hinders them.
"""

from __future__ import annotations

import contextlib
import http.server
import importlib.util
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Error, expect

from tests.page.conftest import PROGRAMS, Visitor, watch

CORPUS = Path(__file__).parents[1] / "security" / "corpus"
TEXTS = (
    "<script>canary('script')</script>",
    "<img src=x onerror=\"canary('img')\">",
    "\"'><svg onload=\"canary('svg')\">",
    "' autofocus onfocus='canary(\"attribute\")' x='",
    "</code></pre></textarea></title></select><img src=x onerror=\"canary('closed')\">",
    "<iframe srcdoc=\"<script>parent.canary('frame')</script>\"></iframe>",
    "<details open ontoggle=\"canary('toggle')\">x</details>",
    "<style>main { display: none } html { background: url(http://evil.invalid/style) }</style>",
    '<link rel="stylesheet" href="http://evil.invalid/link">',
    '<meta http-equiv="refresh" content="0;url=http://evil.invalid/refresh">',
    '<base href="http://evil.invalid/"><form action="http://evil.invalid/form"><button>x</button>',
    "<a id='main' name='job' href=\"javascript:canary('link')\">click</a>",
    "&lt;script&gt;canary('entity')&lt;/script&gt; &#60;b&#62;",
    "<!-- ]]> --!> {{ 7 * 7 }} {% raw %} ${7*7} <%= 7 %>",
    "\\u003cscript\\u003ecanary('escape')\\u003c/script\\u003e",
)
SINGING = {"script", "img", "svg", "attribute", "closed", "frame", "toggle"}
"""The canaries that sing by themselves where nothing hinders them."""


def corpus_texts():
    """Return the texts with which a program of the corpus attacks terminals and CI systems."""
    path = CORPUS / "output-terminal-and-ci-commands" / "program.py"
    spec = importlib.util.spec_from_file_location("hostile_lines", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.LINES


STRUCTURE = """() => {
    const main = document.querySelector("main");
    const foreign = "script, style, link, meta, base, iframe, img, object, embed, b b, i, a[name]";
    return {
        foreign: [...main.querySelectorAll(foreign)].map((each) => each.outerHTML),
        handlers: [...document.querySelectorAll("*")].flatMap((each) =>
            each.getAttributeNames().filter((name) => name.startsWith("on"))),
        addresses: [...document.querySelectorAll("[href], [src], [action]")].map((each) =>
            each.getAttribute("href") ?? each.getAttribute("src") ?? each.getAttribute("action")),
        hidden: main.innerText.match(/[\\u202a-\\u202e\\u0007\\u001b\\u009b]/g) ?? [],
    };
}"""


def check(visitor):
    """Fail if a page has anything in it that a hostile text could have made."""
    found = visitor.page.evaluate(STRUCTURE)
    assert found["foreign"] == []
    assert found["handlers"] == []
    assert found["hidden"] == []
    for address in found["addresses"]:
        assert address.startswith(("/", "?", "#", "data:,", visitor.service.url)), address


@pytest.fixture(scope="module")
def said(service):
    """Jobs and programs of alice in which all hostile texts stand, by what they are for."""
    texts = [*TEXTS, *corpus_texts()]
    program = service.upload(program="hostile", directory=PROGRAMS, name="hostile")
    failed = service.run(program, texts=texts)
    good = service.run(program, texts=texts, fail=False)
    running = service.run(service.upload(program="echo"), messages=texts, lines=texts, seconds=250)
    for job in (failed, good):
        service.wait(job)
    client = service.client("alice")
    yield {"program": program, "failed": failed, "good": good, "running": running, "texts": texts}
    client.post(f"{service.url}/v1/jobs/{running}/cancel")


@pytest.mark.parametrize("which", ["failed", "good", "running"])
def test_what_a_job_says_is_text_on_its_page(service, visitor, said, which):
    visitor.sign_in("alice")
    visitor.see(f"/jobs/{said[which]}")
    if which == "running":
        expect(visitor.page.locator("#messages li")).to_have_count(len(said["texts"]))
    check(visitor)
    content = visitor.page.locator("main").text_content()
    for each in TEXTS:
        assert each.replace('"', '\\"') in content or each in content
    visitor.page.get_by_label("Search the log").fill("<script>canary")
    check(visitor)


def test_messages_that_come_live_are_text(service, visitor, said):
    visitor.sign_in("alice")
    visitor.see(f"/jobs/{service.run(said['program'], texts=said['texts'], wait_s=3)}")
    expect(visitor.page.locator("#live")).to_have_text("Live")
    expect(visitor.page.locator("#messages li")).to_have_count(3 * len(said["texts"]))
    expect(visitor.page.locator("#series figure")).to_have_count(4)
    check(visitor)
    expect(visitor.page.locator("#outcome")).to_contain_text("ValueError")
    check(visitor)


def test_lists_forms_and_refusals_show_text(service, visitor, said):
    visitor.sign_in("alice", "--operator")
    for each in said["texts"]:
        quoted = quote(each, safe="")
        for path in ("/jobs?program=", "/jobs?tag=", "/jobs/", "/programs/", "/nothing/"):
            answer = visitor.see(path + quoted)
            assert answer.headers["x-content-type-options"] == "nosniff"
            check(visitor)
    for path in ("/jobs", "/programs", f"/programs/{said['program']}", "/upload", "/machine"):
        visitor.see(path)
        check(visitor)
    visitor.see(f"/jobs/{said['failed']}/edit")
    check(visitor)


def test_what_is_typed_into_a_form_comes_back_as_text(service, visitor, said):
    visitor.sign_in("alice")
    visitor.see(f"/programs/{said['program']}")
    page = visitor.page
    for each in TEXTS:
        page.locator("#field-1").fill(each)
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator("#field-1-mistake")).to_be_visible()
        assert page.locator("#field-1").input_value() == each
        check(visitor)


def test_a_hostile_manifest_is_refused_and_accepted_as_text(service, visitor, tmp_path):
    visitor.sign_in("alice")
    page = visitor.page
    source = tmp_path / "program.py"
    source.write_text((PROGRAMS / "hostile.py").read_text())
    manifest = tmp_path / "program.yaml"
    for each in TEXTS:
        manifest.write_text(f"name: {each!r}\n{each!r}: 1\n")
        visitor.see("/upload")
        page.get_by_label("Files").set_input_files([source, manifest])
        page.get_by_role("button", name="Upload").click()
        expect(page.locator("#mistake")).to_be_visible()
        check(visitor)


def test_not_even_a_script_of_the_page_can_make_markup_of_a_string(service, visitor):
    visitor.see("/sign-in")
    for way in ("main.innerHTML = text", "document.write(text)"):
        code = f"(text) => {{ const main = document.querySelector('main'); {way}; }}"
        with pytest.raises(Error, match="TrustedHTML"):
            visitor.page.evaluate(code, TEXTS[1])
    assert visitor.page.locator("main img").count() == 0
    expect(visitor.page.get_by_label("Your token")).to_be_visible()
    assert any("TrustedHTML" in each for each in visitor.complaints)
    visitor.complaints.clear()  # they were meant


def test_without_policy_and_escaping_the_canaries_sing(browser):
    """The test of the tests: the same texts, in pages that protect themselves in no way."""
    texts = {str(number): text for number, text in enumerate(TEXTS)}

    class Careless(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = texts.get(self.path.removeprefix("/"), "")
            page = f"<!doctype html><body>{text}<input value='{text}'>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    try:
        visitor = Visitor(context.new_page(), None)
        watch(visitor)
        for number in texts:
            with contextlib.suppress(Error):  # one of the texts leads elsewhere
                visitor.page.goto(f"http://127.0.0.1:{server.server_port}/{number}")
                visitor.page.wait_for_timeout(500)
    finally:
        context.close()
        server.shutdown()
        server.server_close()
    assert set(visitor.canaries) >= SINGING
    said = "\n".join(visitor.complaints)
    assert all(f"evil.invalid/{each}" in said for each in ("style", "link", "refresh")), said
