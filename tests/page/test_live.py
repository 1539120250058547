"""A job's page while the job runs: what comes is shown, none is lost, and the page stays usable."""

from __future__ import annotations

import signal

import pytest
from playwright.sync_api import expect

from tests.page.conftest import BLOCKED_MS, CONFIG, PROGRAMS, longest_task_ms
from tests.service.conftest import free_port, started


def shown(page):
    """Return the numbers of the messages on the page, in their order."""
    return page.locator("#messages li").evaluate_all("all => all.map((li) => +li.dataset.seq)")


NOTE_ROWS = """() => {
    const list = document.getElementById("messages");
    window.rows = [...list.children].map((li) => +li.dataset.seq);
    new MutationObserver((changes) => {
        for (const { addedNodes } of changes)
            for (const li of addedNodes) window.rows.push(+li.dataset.seq);
    }).observe(list, { childList: true });
}"""


def has_ended(page):
    expect(page.locator("#live")).to_contain_text("Ended", timeout=60_000)


@pytest.fixture
def ticking(service, visitor):
    """A function that opens the page of a new job which publishes as it is told."""
    visitor.sign_in("alice")
    program = service.upload(program="ticker", directory=PROGRAMS, name="ticker")

    def started_(**inputs):
        visitor.see(f"/jobs/{service.run(program, **inputs)}")
        return visitor.page

    yield started_
    service.client("alice").delete(f"{service.url}/v1/programs/{program}")


def test_messages_numbers_counts_and_log_appear_as_they_come(ticking, visitor):
    page = ticking(messages=60, rate=60, pause_s=250)
    expect(page.locator("#live")).to_have_text("Live")
    expect(page.locator("#messages li")).to_have_count(60)
    assert shown(page) == list(range(60))
    expect(page.locator("#messages li").last).to_contain_text('"iteration":59')
    chart = page.locator("#series figure")
    expect(chart).to_contain_text("60 values")
    expect(chart).to_contain_text("energy")
    expect(page.locator("#counts tbody tr")).to_have_count(3)
    expect(page.locator("#counts")).to_contain_text("message 50")
    expect(page.locator("#counts tbody tr").first).to_contain_text("550")
    expect(page.locator("#log")).to_contain_text("iteration 50 of 60")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#outcome")).to_contain_text("Cancelled")
    assert shown(page)[-1] == 59
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_the_end_of_a_job_is_shown_and_said_without_a_reload(ticking):
    page = ticking(messages=5, pause_s=1)
    page.evaluate("window.isTheSame = true")
    expect(page.locator("#outcome")).to_contain_text("Completed")
    expect(page.locator("#live[role=status]")).to_contain_text("Ended: Completed")
    expect(page.locator("#result")).to_contain_text("512")
    assert page.evaluate("window.isTheSame")
    assert shown(page) == list(range(5))


def test_an_end_that_cannot_be_loaded_at_first_is_shown_later(ticking):
    page = ticking(messages=3, pause_s=3)
    expect(page.locator("#messages li")).to_have_count(3)
    refused = []

    def refuse(route):
        if route.request.resource_type == "xhr" and len(refused) < 2:
            refused.append(route.request.url)
            route.fulfill(status=503, body="later")
        else:
            route.continue_()

    page.route("**/jobs/job-*", refuse)
    expect(page.locator("#outcome")).to_contain_text("Completed")
    assert len(refused) == 2


def test_a_page_that_comes_late_shows_what_was_and_what_comes(ticking):
    page = ticking(messages=150, rate=50, pause_s=250)
    expect(page.locator("#messages li").nth(40)).to_be_attached()
    page.reload()
    expect(page.locator("#messages li").last).to_have_attribute("data-seq", "149")
    found = shown(page)
    assert found == list(range(found[0], 150))
    expect(page.locator("#series figure")).to_contain_text("150 values")


def test_a_thousand_messages_a_second_do_not_freeze_the_page(ticking):
    page = ticking(messages=6000, rate=1000, pause_s=1)
    with longest_task_ms(page) as longest:
        page.get_by_label("Search the log").fill("iteration 4")
        expect(page.locator("#messages li").last).to_have_attribute("data-seq", "5999")
        assert 0 < page.locator("#messages li").count() <= 100
        has_ended(page)
    assert 0 < longest[0] <= BLOCKED_MS


def test_a_burst_does_not_freeze_the_page(ticking):
    page = ticking(messages=60_000, wait_s=2)
    with longest_task_ms(page) as longest:
        has_ended(page)
    assert 0 < longest[0] <= BLOCKED_MS
    assert shown(page)[-1] == 59_999
    expect(page.locator("#series figure")).to_contain_text("energy")


def test_messages_of_the_greatest_size_do_not_freeze_the_page(ticking):
    page = ticking(messages=40, rate=20, pad=1_000_000)
    with longest_task_ms(page) as longest:
        has_ended(page)
    assert 0 < longest[0] <= BLOCKED_MS
    assert shown(page)[-1] == 39


def test_a_page_that_nobody_looks_at_holds_no_connection_and_misses_nothing(ticking, service):
    page = ticking(messages=90, rate=30, pause_s=250)
    expect(page.locator("#messages li").nth(10)).to_be_attached()
    look = """(isHidden) => {
        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(look, True)
    page.wait_for_timeout(500)  # for what has been noted, and not drawn yet
    before = page.locator("#messages li").count()
    page.wait_for_timeout(1000)
    assert page.locator("#messages li").count() == before
    page.evaluate(look, False)
    expect(page.locator("#messages li").last).to_have_attribute("data-seq", "89")
    assert shown(page) == list(range(90))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_page_goes_on_after_the_service_restarted(browser, visitors, tmp_path, how):
    listen = f"127.0.0.1:{free_port()}"
    with started(tmp_path / "s", listen=listen, config=CONFIG) as service:
        visitor = visitors(service).sign_in("alice")
        program = service.upload(program="ticker", directory=PROGRAMS, name="ticker")
        page = visitor.page
        visitor.see(f"/jobs/{service.run(program, messages=150, rate=50, pause_s=250)}")
        expect(page.locator("#messages li").nth(20)).to_be_attached()
        page.evaluate(NOTE_ROWS)
        service.stop(how)
        expect(page.locator("#live")).to_contain_text("The connection is lost")
    with started(tmp_path / "s", listen=listen, config=CONFIG):
        has_ended(page)
        wanted = "Interrupted" if how == signal.SIGKILL else "Cancelled"
        expect(page.locator("#outcome")).to_contain_text(wanted)
        found = page.evaluate("window.rows")
        assert found == list(range(found[-1] + 1))
        kept = shown(page)[-1]  # of a killed service, the store lags behind a little
        assert 20 < kept <= found[-1] if how == signal.SIGKILL else kept == found[-1]


def test_messages_are_paged(ticking):
    page = ticking(messages=350)
    has_ended(page)
    last = shown(page)
    assert last[-1] == 349
    page.get_by_role("link", name="Earlier").click()
    earlier = shown(page)
    assert earlier[-1] == last[0] - 1
    assert earlier == list(range(earlier[0], last[0]))
    page.get_by_role("link", name="Newest").click()
    assert shown(page) == last


def test_the_log_can_be_searched_and_followed(ticking):
    page = ticking(messages=3000, pause_s=250)
    box = page.locator("#log")
    expect(box).to_contain_text("iteration 2950")
    at_end = "box => box.scrollTop + box.clientHeight >= box.scrollHeight - 4"
    assert box.evaluate(at_end)
    page.get_by_label("Search the log").fill("ITERATION 29")
    expect(page.get_by_text("2 of 60 lines")).to_be_visible()
    assert page.locator("#log > div:visible").all_inner_texts() == [
        "iteration 2900 of 3000",
        "iteration 2950 of 3000",
    ]
    page.get_by_label("Search the log").fill("")
    assert page.locator("#log > div:visible").count() == 60
    box.evaluate("box => { box.scrollTop = 0 }")
    expect(page.get_by_label("Follow")).not_to_be_checked()
    page.get_by_label("Follow").check()
    assert box.evaluate(at_end)


def test_the_list_of_jobs_changes_by_itself(service, visitor):
    visitor.sign_in("alice")
    program = service.upload(program="ticker", directory=PROGRAMS, name="in-a-list")
    job = service.run(program, messages=1, pause_s=250)
    row = visitor.page.locator(f"tr[data-job='{job}']")
    expect(row).to_contain_text("running", ignore_case=True)
    row.get_by_role("link").first.focus()
    service.client("alice").post(f"{service.url}/v1/jobs/{job}/cancel")
    expect(row).to_contain_text("cancelled", ignore_case=True)
    expect(row.get_by_role("link").first).to_be_focused()
