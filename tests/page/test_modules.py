"""The modules of the page in a browser: text, numbers, counts, events over bad connections."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

import runner.service
from runner.display import escape
from runner.service.pages.jobs import _short
from tests.page.conftest import BLOCKED_MS, longest_task_ms

HERE = "http://127.0.0.1"
EVENTS = "/events-of-this-test"
STATIC = Path(runner.service.__file__).parent / "pages" / "static"


@pytest.fixture
def module(browser):
    """A function that calls a script's `body` with a module of the page and an argument."""
    page = browser.new_page()
    page.route(
        f"{HERE}/**", lambda route: route.fulfill(path=STATIC / route.request.url.split("/")[-1])
    )
    page.route(f"{HERE}/", lambda route: route.fulfill(body="", content_type="text/html"))
    page.goto(f"{HERE}/")

    def called(name, body, argument=None):
        code = f"async ([name, given]) => {{ const its = await import(`/${{name}}`); {body} }}"
        return page.evaluate(code, [name, argument])

    called.page = page
    yield called
    page.close()


def test_the_script_hides_what_the_command_line_hides(module):
    code = """
        const found = {};
        for (let n = 0; n < 0x110000; n++) {
            const text = String.fromCodePoint(n);
            if (its.visible(text) !== text) found[n] = its.visible(text);
        }
        return found;
    """
    wanted = {str(n): escape(chr(n)) for n in range(0x110000) if escape(chr(n)) != chr(n)}
    assert module("text.js", code) == wanted
    assert len(wanted) > 4000


def test_a_message_that_comes_live_looks_as_on_a_page_that_is_loaded(module):
    array = '{"a":{"__type__":"ndarray","__value__":"eAGb7BfqGxDJyFDGUK2eklqcXKRupaBu"},"b":"é"}'
    bodies = [array, '"\u202e"', '{"__value__": "short"}', '"' + 2000 * "x", 99_999 * array]
    code = "return given.map((body) => its.brief(body, 500))"
    assert module("text.js", code, bodies) == [_short(each) for each in bodies]
    assert "eAGb" not in _short(array)


def test_a_line_is_bounded_and_keeps_its_peaks(module):
    code = """
        const points = new its.Points();
        const peaks = { 123_456: 9, 654_321: -9 };
        for (let x = 0; x < given; x++) points.add(x, peaks[x] ?? x % 3);
        return [points.count, points.last, points.drawn()];
    """
    count, last, drawn = module("numbers.js", code, 1_000_000)
    assert (count, last) == (1_000_000, [999_999, 0])
    assert 250 <= len(drawn) <= 1000
    assert [123_456, 9] in drawn
    assert [654_321, -9] in drawn
    assert drawn == sorted(drawn)
    few = module("numbers.js", code, 5)[2]
    assert few == [[0, 0], [1, 1], [2, 2], [3, 0], [4, 1]]


def test_numbers_are_found_as_in_pictures_of_jobs(module):
    bodies = [
        {"step": 1, "energy": -1, "nan": {"__type__": "float", "__value__": "nan"}, "t": "x"},
        {"step": 2, "energy": -1.5, "nan": 3, "progress": 1, "deep": {"a": 1}, "n": None},
        {"step": 3, "energy": {"__type__": "numpy", "__value__": ["<f8", -1.25]}, "nan": 1e300},
        {"step": 4, "__proto__x": 1, "nan": 2, "list": [1, 2]},
        {"step": 5, "energy": {"__type__": "ndarray", "__value__": "eAE="}},
    ]
    code = """
        const numbers = new its.Numbers(given.earlier);
        given.bodies.forEach((body, n) => numbers.add(n, body));
        return numbers.obvious(4).map(({ name, points, leftOut }) => {
            if (given.earlier.length) return [name, points.drawn(), points.count, leftOut];
            return [name, points.drawn(), leftOut];
        });
    """
    found = module("numbers.js", code, {"bodies": bodies, "earlier": []})
    assert found == [
        ["energy", [[0, -1], [1, -1.5], [2, -1.25]], 0],
        ["nan", [[1, 3], [3, 2]], 2],
    ]
    whole = {"bodies": [5, 4, "x", None, [], True, 6], "earlier": []}
    assert module("numbers.js", code, whole) == [["", [[0, 5], [1, 4], [6, 6]], 0]]
    pairs = {"bodies": [[1, 0.5], [2, 0.25], list(range(9))], "earlier": []}
    assert module("numbers.js", code, pairs) == [["/1", [[0, 0.5], [1, 0.25]], 0]]
    many = """
        const numbers = new its.Numbers();
        const body = Object.fromEntries([...Array(100_000)].map((_, n) => [`f${n}`, 0.5]));
        for (let n = 0; n < 3; n++) numbers.add(n, body);
        return [numbers.obvious(4).length, numbers.obvious(1000).length];
    """
    assert module("numbers.js", many) == [4, 32]
    earlier = [{"name": "e", "points": [[0, 2], [1, 1]], "count": 9, "left_out": 1}]
    more = {"bodies": [{}, {}, {"e": 0}], "earlier": earlier}
    assert module("numbers.js", code, more) == [["e", [[0, 2], [1, 1], [2, 0]], 10, 1]]


def test_counts_are_found_where_programs_have_them(module):
    code = "return given.map((body) => its.countsIn(body))"
    counts = {"00": 5, "11": 3}
    others = [None, 1, "00", [], {}, {"00": -1}, {"00": 0.5}, {"2": 1}, {"00": 0}, {"a": {"b": 1}}]
    assert module("counts.js", code, [counts, {"a": [{"x": counts}]}, {"0x3": 1}, *others]) == [
        *(counts, counts, {"0x3": 1}),
        *[None] * len(others),
    ]
    deep = "let body = 1; for (let n = 0; n < 1e5; n++) body = [body]; return its.countsIn(body)"
    assert module("counts.js", deep) is None
    drawn = "return [...its.table('t', given).tBodies[0].rows].map((row) => row.innerText)"
    assert module("counts.js", drawn, counts) == [
        f"00562.5%{30 * '█'}",
        f"11337.5%{18 * '█'}",
    ]
    many = {f"{n:08b}": n for n in range(100)}
    assert module("counts.js", drawn, many)[16] == "84 more348670.4%"


BURST = """
    document.body.innerHTML = "<article id=job data-events=/e data-last-seq=-1><p id=outcome></p>"
        + "<div id=series></div><div id=counts></div><ol id=messages></ol><pre id=log></pre>";
    const message = (n) => {
        const body = JSON.stringify({ energy: n % 7, counts: { "00": n, "11": 1 } });
        const event = `{"event": "message", "seq": ${n}, "time": 1.5, "body": ${body}}`;
        return `id: ${n}\\ndata: ${event}\\n\\n`;
    };
    const messages = [...Array(given)].map((_, n) => message(n));
    const chunks = [0, 1, 2, 3].map((n) =>
        new TextEncoder().encode(messages.slice((n * given) / 4, ((n + 1) * given) / 4).join("")));
    window.fetch = async () => new Response(new ReadableStream({
        start: (stream) => chunks.forEach((chunk) => stream.enqueue(chunk)),
    }));
    window.begin = () => its.show(document.getElementById("job"));
"""


def test_however_much_there_is_at_once_the_browser_gets_its_turn(module):
    module("job.js", BURST, 40_000)
    with longest_task_ms(module.page) as longest:
        module.page.evaluate("begin()")
        expect(module.page.locator("#messages li").last).to_have_attribute("data-seq", "39999")
    assert 0 < longest[0] <= BLOCKED_MS


def collected(module, answers, last=-1):
    """Return what `events` yields and tells, and which events it asked for, given these answers.

    An answer is a status and a body, or None for a connection that breaks.
    """
    asked = []

    def answer(route):
        asked.append(route.request.headers.get("last-event-id"))
        given = answers.pop(0)
        if given is None:
            route.abort()
        else:
            route.fulfill(status=given[0], body=given[1], content_type="text/event-stream")

    module.page.route(f"**{EVENTS}", answer)
    code = """
        const [found, told] = [[], []];
        const { signal } = new AbortController();
        try {
            const tell = (pauseMs) => told.push(pauseMs);
            const all = its.events(given.address, given.last, { signal, tell });
            for await (const { number, kind, text, isWhole } of all)
                found.push([number, kind, text.slice(0, 100), isWhole]);
        } catch (error) {
            told.push(error.name, error.status);
        }
        return [found, told];
    """
    try:
        return *module("events.js", code, {"address": EVENTS, "last": last}), asked
    finally:
        module.page.unroute(f"**{EVENTS}")


def event(number, kind, **more):
    return f"id: {number}\ndata: {json.dumps({'event': kind, **more})}\n\n"


def test_events_go_on_after_the_last_one_wherever_the_connection_broke(module):
    one, two, end = event(0, "started"), event(1, "log", text="é\n"), event(2, "finished")
    whole = one + two + end
    for cut in range(0, len(whole), 11):
        begun = whole[: cut + 1]
        seen = begun[: begun.rfind("\n") + 1].count("data: ")
        if seen == 3:
            break
        rest = "".join([one, two, end][seen:])
        found, told, asked = collected(module, [(200, begun), (200, rest)])
        assert [number for number, *_ in found] == [0, 1, 2], begun
        assert asked == [None, str(seen - 1) if seen else None]
        assert told == [0, 250, 0]


def test_a_service_that_is_away_is_asked_again_later_and_less_often(module):
    answers = [None, (503, "{}"), None, (200, event(7, "finished"))]
    found, told, asked = collected(module, answers, last=6)
    assert [each[0] for each in found] == [7]
    assert told == [250, 500, 1000, 0]
    assert asked == ["6"] * 4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_final(module, status):
    found, told, asked = collected(module, [(status, "{}")])
    assert (found, told, len(asked)) == ([], ["RefusedError", status], 1)


def test_of_an_event_that_is_too_long_only_the_beginning_is_kept(module):
    long = event(0, "message", seq=0, time=1.5, body="x" * (3 << 20))
    found, *_ = collected(module, [(200, long + event(1, "log", text="y") + event(2, "finished"))])
    assert [(number, kind, whole) for number, kind, _, whole in found] == [
        (0, "message", False),
        (1, "log", True),
        (2, "finished", True),
    ]
    end = event(0, "finished", result="x" * (3 << 20))
    found, *_ = collected(module, [(200, end)])
    assert [(number, kind, whole) for number, kind, _, whole in found] == [(0, "finished", False)]
