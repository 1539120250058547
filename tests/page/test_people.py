"""Who sees what: signing in and out, being locked out, and people who do not see each other."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from runner.service.attempts import MOST
from tests.page.conftest import PROGRAMS
from tests.service.conftest import started


def try_token(page, token):
    page.get_by_label("Your token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_one_signs_in_and_is_led_to_where_one_wanted(service, visitor):
    program = service.upload(program="echo", name="wanted")
    visitor.see(f"/programs/{program}")
    try_token(visitor.page, service.token("alice"))
    expect(visitor.page).to_have_url(f"{service.url}/programs/{program}")
    cookies = visitor.page.context.cookies()
    assert [(each["httpOnly"], each["sameSite"]) for each in cookies] == [(True, "Strict")]
    assert visitor.page.evaluate("document.cookie") == ""
    assert service.token("alice") not in str(cookies)


def test_who_guesses_tokens_is_locked_out(browser, visitors, tmp_path):
    with started(tmp_path / "s") as service:
        page = visitors(service).page
        token = service.token("alice")
        page.goto(f"{service.url}/sign-in")
        for _ in range(MOST):
            try_token(page, "qr_guessed")
            expect(page.get_by_role("alert")).to_contain_text("not valid")
        try_token(page, token)
        expect(page.get_by_role("alert")).to_contain_text("have failed: wait 5 minutes")
        page.goto(f"{service.url}/jobs")
        expect(page.get_by_label("Your token")).to_be_visible()


def test_two_people_do_not_see_each_other(service, visitors):
    alice, bob = visitors().sign_in("alice"), visitors().sign_in("bob")
    program = service.upload(program="echo", name="private-of-alice")
    job = service.run(program, messages=["a secret"], result="a secret")
    service.wait(job)
    alice.see(f"/jobs/{job}")
    expect(alice.page.locator("#result")).to_contain_text("a secret")
    for path in (f"/jobs/{job}", f"/programs/{program}", f"/jobs/{job}/edit"):
        answer = bob.see(path)
        assert answer.status == 404
        assert "a secret" not in bob.page.content()
        same = bob.see(re.sub("[0-9a-z]{10}$", "0" * 10, path)) if "edit" not in path else answer
        assert same.status == 404
    for path in ("/jobs", "/programs", "/machine"):
        bob.see(path)
        content = bob.page.content()
        assert job not in content
        assert program not in content
    assert bob.page.evaluate("path => fetch(path).then((a) => a.status)", f"/v1/jobs/{job}") == 404


def test_a_change_needs_the_proof_of_a_page(service, visitors):
    alice = visitors().sign_in("alice")
    program = service.upload(program="echo", name="to-stay")
    alice.see(f"/programs/{program}")
    for proof in ("", "0" * 64):
        alice.page.locator("#delete").evaluate(
            "(form, proof) => { form.csrf.value = proof }", proof
        )
        alice.page.get_by_role("button", name="Delete it").click()
        expect(alice.page.get_by_role("heading", level=1)).to_have_text("Forbidden")
        answer = alice.see(f"/programs/{program}")
        assert answer.status == 200


def test_signing_out_ends_the_session_everywhere(service, visitor):
    visitor.sign_in("alice")
    page = visitor.page
    other = page.context.new_page()
    other.goto(f"{service.url}/jobs")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your token")).to_be_visible()
    # The list in the other tab asks for itself, and finds that nobody is signed in.
    expect(other.get_by_label("Your token")).to_be_visible()


def test_a_job_page_says_that_one_is_signed_out(service, visitor):
    visitor.sign_in("alice")
    program = service.upload(program="ticker", directory=PROGRAMS, name="signed-out")
    job = service.run(program, messages=400, rate=20)
    visitor.see(f"/jobs/{job}")
    expect(visitor.page.locator("#live")).to_have_text("Live")
    visitor.page.context.clear_cookies()
    hide = """(isHidden) => {
        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    visitor.page.evaluate(hide, True)
    visitor.page.evaluate(hide, False)
    expect(visitor.page.locator("#live")).to_contain_text("you are signed out")
    service.client("alice").post(f"{service.url}/v1/jobs/{job}/cancel")


def test_a_program_is_shared_published_and_deleted_on_its_page(service, visitors):
    alice, bob = visitors().sign_in("alice"), visitors().sign_in("bob")
    program = service.upload(program="echo", name="shared")
    alice.see(f"/programs/{program}")
    assert bob.see(f"/programs/{program}").status == 404
    alice.page.get_by_label("Shared with").fill("bob")
    alice.page.get_by_role("button", name="Share").click()
    expect(alice.page.get_by_label("Shared with")).to_have_value("bob")
    assert bob.see(f"/programs/{program}").status == 200
    expect(bob.page.locator("#source")).to_contain_text("def main")
    expect(bob.page.get_by_role("button", name="Delete it")).to_have_count(0)
    alice.page.get_by_label("Shared with").fill("")
    alice.page.get_by_role("button", name="Share").click()
    expect(alice.page.get_by_label("Shared with")).to_have_value("")
    alice.page.get_by_role("button", name="Let everybody run it").click()
    expect(alice.page.get_by_role("button", name="Make it private")).to_be_visible()
    assert bob.see(f"/programs/{program}").status == 200
    expect(bob.page.locator("#source")).to_contain_text("does not share its source")
    alice.page.get_by_role("button", name="Delete it").click()
    expect(alice.page).to_have_url(f"{service.url}/programs")
    assert bob.see(f"/programs/{program}").status == 404


def test_a_program_is_uploaded_by_dropping_its_file(visitor):
    visitor.sign_in("alice")
    visitor.see("/upload")
    field = visitor.page.get_by_label("Files")
    box = field.bounding_box()
    data = {"items": [], "files": [str(PROGRAMS / "ticker.py")], "dragOperationsMask": 1}
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
    browser = visitor.page.context.new_cdp_session(visitor.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, **place})
    assert field.evaluate("field => field.files[0].name") == "ticker.py"
    visitor.page.get_by_role("button", name="Upload").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_contain_text("ticker")


def test_without_javascript_a_program_is_run_from_its_form_and_its_result_read(service, visitors):
    visitor = visitors(java_script_enabled=False)
    page = visitor.page
    visitor.sign_in("alice")
    program = service.upload(program="ticker", directory=PROGRAMS, name="plain")
    visitor.see(f"/programs/{program}")
    page.get_by_label("messages").fill("not a number")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("messages").fill("120")
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url("**/jobs/job-*")
    job = page.url.rpartition("/")[2]
    service.wait(job)
    if page.get_by_role("link", name="Reload").count():
        page.get_by_role("link", name="Reload").click()
    expect(page.locator("#outcome")).to_contain_text("Completed")
    expect(page.locator("#result")).to_contain_text("512")
    expect(page.locator("#series figure")).to_contain_text("energy")
    expect(page.locator("#log")).to_contain_text("iteration 100")
    while page.get_by_role("link", name="Earlier").count():
        page.get_by_role("link", name="Earlier").click()
    expect(page.locator("#messages li").first).to_have_attribute("data-seq", "0")
    page.get_by_role("link", name="Newest").click()
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: "/jobs/job-" in url and job not in url)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your token")).to_be_visible()
