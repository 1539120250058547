"""A real browser in front of a real service; each visitor is a person with a browser of their own.

Whatever a test does, its visitors' browsers must find nothing to complain of: no error in a console
or a script, nothing that the page's own policy forbids, no request to another host.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.service.conftest import Service, started

MUST_WORK = "QRUNNER_PAGE_MUST_WORK"
PROGRAMS = Path(__file__).parent / "programs"
CONFIG = "[service]\ngrace_s = 1\n"  # tests leave jobs behind that would run for minutes
WITHIN_MS = 30_000
BLOCKED_MS = 50
"""The longest that a page's main thread may work without letting its user in."""

expect.set_options(timeout=WITHIN_MS)

ON_EVERY_PAGE = """
addEventListener("securitypolicyviolation", (event) =>
    complain(`policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


def chromium():
    """Return where Chromium is, None if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; not for longer than a module: its event loop would be in others' way."""
    if not chromium():
        reason = "needs Debian's package chromium: `make test-page` installs it"
        (pytest.fail if os.environ.get(MUST_WORK) == "1" else pytest.skip)(reason)
    with sync_playwright() as playwright:
        started_ = playwright.chromium.launch(executable_path=chromium())
        yield started_
        started_.close()


@pytest.fixture(scope="module")
def service(browser, tmp_path_factory):
    """A service in plain text on loopback, shared by the tests of a module."""
    with started(tmp_path_factory.mktemp("service"), config=CONFIG) as running:
        yield running


@dataclass
class Visitor:
    """A person's browser with one tab; `complaints` is what it did not like."""

    page: Page
    service: Service
    complaints: list[str] = field(default_factory=list)
    canaries: list[str] = field(default_factory=list)

    def sing(self, canary):
        self.canaries.append(canary)

    def complain(self, what):
        self.complaints.append(what)

    def see(self, path=""):
        """Load a page of the service and return the answer."""
        return self.page.goto(self.service.url + path)

    def sign_in(self, name, *options):
        """Sign in as this user, who is added at the first call."""
        self.see("/sign-in")
        self.page.get_by_label("Your token").fill(self.service.token(name, *options))
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/jobs")
        return self


@contextlib.contextmanager
def longest_task_ms(page):
    """Provide a list that has, after the block, how long a page's main thread worked at most.

    In milliseconds of the thread's own time: on a busy machine, everything waits longer.
    """
    browser, found = page.context.browser, []
    browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline"])
    try:
        yield found
    finally:
        events = json.loads(browser.stop_tracing())["traceEvents"]
    mains = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"]["name"] == "CrRendererMain"
    }
    tasks = (each for each in events if each["name"].endswith("RunTask") and "tdur" in each)
    found.append(max(each["tdur"] / 1000 for each in tasks if (each["pid"], each["tid"]) in mains))


@pytest.fixture
def visitors(browser, service):
    """A function that lets one more person come; how their browser is, is Playwright's to know."""
    with contextlib.ExitStack() as leaving:
        come = []

        def visitor(of=service, **how):
            context = browser.new_context(**how)
            leaving.callback(context.close)
            context.set_default_timeout(WITHIN_MS)
            new = Visitor(context.new_page(), of)
            watch(new)
            come.append(new)
            return new

        yield visitor
        complaints = [each for visitor in come for each in visitor.complaints]
    assert complaints == []
    assert [each for visitor in come for each in visitor.canaries] == []


@pytest.fixture
def visitor(visitors):
    """One person."""
    return visitors()


def watch(visitor):
    """Note what a visitor's browser complains of, and every canary that sings."""
    page = visitor.page
    page.expose_function("canary", visitor.sing)
    page.expose_function("complain", visitor.complain)
    page.add_init_script(ON_EVERY_PAGE)
    page.on("pageerror", lambda error: visitor.complain(f"script: {error}"))
    page.on("dialog", lambda dialog: visitor.sing(dialog.message))

    def said(message):
        # A status that a test asks for is no error of the page.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            visitor.complain(f"console: {message.text}")

    def asked(request):
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob"} and parts.hostname != "127.0.0.1":
            visitor.complain(f"request: {request.url}")

    def answered(response):
        kind = response.request.resource_type
        if response.status >= 400 and kind in {"script", "stylesheet", "image", "font"}:
            visitor.complain(f"{kind}: {response.status} {response.url}")

    page.on("console", said)
    page.on("request", asked)
    page.on("response", answered)
