"""The pages of a service, used as a browser without JavaScript does."""

from __future__ import annotations

import io
import json
import re
import tarfile
import time
import zipfile

import pytest
import requests

from runner.service.app import ROUTES
from runner.service.attempts import MOST
from runner.service.routing import Needs
from tests.service.conftest import PROGRAMS, qrunner, started
from tests.service.pages import Browser, Page, row_of
from tests.waiting import within


@pytest.fixture(scope="module")
def alice(service):
    browser = Browser(service)
    assert browser.sign_in("alice").url.endswith("/jobs")
    return browser


@pytest.fixture(scope="module")
def echo(service, alice):
    return service.upload("alice", "echo", name="echo_of_pages")


def ended(service, program, user="alice", **inputs):
    job = service.run(program, user, **inputs)
    service.wait(job, user)
    return job


# --- signing in and out ---------------------------------------------------------------------------


def test_who_has_not_signed_in_is_led_there_and_back(service):
    browser = Browser(service)
    asked = browser.get("/programs?skip=0")
    assert "/sign-in?next=/programs%3Fskip%3D0" in asked.url
    page = browser.send(asked.forms["/sign-in"], token=service.token("alice"))
    assert page.url == f"{service.url}/programs?skip=0"
    assert page.of("body", "data-page") == ["programs"]


def test_who_follows_a_link_of_another_site_has_the_session_at_the_second_try(service, alice):
    # The browser keeps a strict cookie back from a visit that another site has caused.
    visit = {"Sec-Fetch-Site": "cross-site"}
    page = Browser(service).get("/programs", headers=visit)
    assert (page.status, page.url) == (401, f"{service.url}/programs")
    assert page.of("meta", "http-equiv") == ["refresh"]
    assert "/programs" in page.of("a", "href")
    assert alice.get("/programs", headers=visit).of("body", "data-page") == ["programs"]


def test_an_unknown_address_is_answered_as_who_asks_reads_it(service, alice):
    page = alice.get("/nothing/there")
    assert (page.status, page.of("body", "data-page")) == (404, ["refused"])
    answer = service.client("alice").get(f"{service.url}/nothing/there")
    assert answer.json()["error"]["code"] == 404
    assert alice.session.post(f"{service.url}/jobs").status_code == 405


@pytest.mark.parametrize(
    "elsewhere", ["//evil.example/", "/\\evil.example", "http://evil.example", "//[", "https://[x"]
)
def test_signing_in_leads_to_no_other_site(service, elsewhere):
    browser = Browser(service)
    form = browser.get(f"/sign-in?next={elsewhere}").forms["/sign-in"]
    form.fields["next"] = elsewhere
    assert browser.send(form, token=service.token("alice")).url == f"{service.url}/jobs"


def test_the_cookie_is_for_this_service_alone_and_no_token(service):
    browser = Browser(service)
    form = browser.get("/sign-in").forms["/sign-in"]
    token = service.token("alice")
    answer = browser.session.post(
        f"{service.url}/sign-in", {**form.fields, "token": token}, allow_redirects=False
    )
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie  # on loopback
    assert token not in cookie
    assert form.fields["csrf"] not in cookie


def test_over_tls_the_cookie_travels_by_tls_only(tls_service):
    browser = Browser(tls_service)
    assert browser.sign_in("alice").status == 200
    (cookie,) = browser.session.cookies
    assert cookie.secure
    assert cookie.name.startswith("__Host-")


def test_a_session_is_a_new_one_and_ends_when_its_person_signs_out(service):
    browser = Browser(service)
    browser.get("/sign-in")
    (before,) = browser.session.cookies
    page = browser.sign_in("alice")
    (cookie,) = browser.session.cookies
    assert cookie.value != before.value
    stolen = {"Cookie": f"{cookie.name}={cookie.value}"}
    assert requests.get(f"{service.url}/v1/me", headers=stolen, timeout=10).status_code == 200
    assert browser.send(page.forms["sign-out"]).of("body", "data-page") == ["sign-in"]
    for path in ("/v1/me", "/jobs"):
        assert requests.get(service.url + path, headers=stolen, timeout=10).status_code == 401


def test_a_session_ends_with_its_token(service):
    browser = Browser(service)
    browser.sign_in("carol")
    qrunner(service.environment, "users", "token", "carol", "--only-revoke")
    assert browser.get("/jobs").of("body", "data-page") == ["sign-in"]


def test_after_many_failures_an_address_has_to_wait(tmp_path):
    with started(tmp_path) as service:
        browser = Browser(service)
        for _ in range(MOST):
            page = browser.with_token("qr_wrong")
            assert (page.status, "not valid" in page.text) == (403, True)
        locked = browser.with_token(service.token("alice"))
        assert locked.status == 429
        assert "wait 5 minutes" in locked.text
        assert int(locked.answer.headers["Retry-After"]) >= 60
        # With a token in a header one may still ask: it cannot be guessed, and is not tried here.
        assert service.client("alice").get(f"{service.url}/v1/me").status_code == 200
        token = service.token("operator", "--operator")
        log = requests.get(
            f"{service.url}/v1/audit", headers={"Authorization": f"Bearer {token}"}, timeout=10
        ).json()["entries"]
        assert sum(each["action"] == "sign in" for each in log) == MOST
        assert "qr_wrong" not in json.dumps(log) + service.log.read_text()


def test_a_single_user_comes_in_by_a_link_that_works_once(tmp_path):
    def links(service):
        return re.findall(r"open (\S+) in a browser", service.log.read_text())

    with started(tmp_path, "--single-user") as service:
        (link,) = links(service)
        browser = Browser(service)
        assert browser.get("/jobs").of("body", "data-page") == ["sign-in"]
        page = browser.get(link)
        assert page.url == f"{service.url}/jobs"
        assert browser.get("/machine").status == 200
        assert Browser(service).get(link).status == 403
        assert len(links(service)) == 2
        assert Browser(service).get(links(service)[1]).url == f"{service.url}/jobs"
        # Another site's page has neither the cookie's host nor the origin.
        (cookie,) = browser.session.cookies
        sent = {"Cookie": f"{cookie.name}={cookie.value}", "Host": "evil.example"}
        answer = requests.get(f"{service.url}/jobs", headers=sent, timeout=10)
        assert answer.status_code == 401


# --- rights ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(service, echo):
    job = ended(service, echo, result="a secret")
    return {"program": echo, "job": job, "form": "json", "case": "c"}


PAGES = [each for each in ROUTES if each.is_page]


def path_of(route, world):
    path = route.path
    for name, value in world.items():
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.mark.parametrize(
    "route", [each for each in PAGES if each.method == "POST"], ids=lambda each: each.path
)
def test_no_form_is_obeyed_that_does_not_come_from_a_page_of_the_service(
    service, alice, world, route
):
    before = alice.session.get(f"{service.url}/v1/jobs").json()["count"]
    for fields in ({}, {"csrf": "0" * 64}, {"csrf": ""}, {"csrf": "\u00e9"}):
        answer = alice.post(path_of(route, world), fields)
        expected = 401 if route.needs is Needs.OPERATOR else 403
        assert answer.status_code in {403, expected}, fields
    other = Browser(service)
    other.sign_in("other")
    theirs = other.get("/upload").forms["upload"].fields["csrf"]
    assert alice.post(path_of(route, world), {"csrf": theirs}).status_code == 403
    assert alice.get("/jobs").of("body", "data-page") == ["jobs"]  # still signed in
    assert alice.session.get(f"{service.url}/v1/jobs").json()["count"] == before
    assert alice.get(f"/programs/{world['program']}").status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v1/jobs/{job}"), ("POST", "/v1/jobs"), ("PUT", "/v1/programs/{program}/public")],
)
def test_a_cookie_alone_changes_nothing_in_the_api_either(service, alice, world, method, path):
    for name, value in world.items():
        path = path.replace(f"{{{name}}}", value)
    assert alice.session.get(f"{service.url}/v1/jobs/{world['job']}").status_code == 200
    url, body = f"{service.url}{path}", {"program": world["program"]}
    assert alice.session.request(method, url, json=body).status_code == 403
    assert alice.session.get(f"{service.url}/v1/jobs/{world['job']}").status_code == 200


def test_a_script_of_the_page_proves_itself_by_a_header(service, alice, echo):
    proof = alice.get("/upload").forms["upload"].fields["csrf"]
    body = {"program": echo, "backend": "none"}
    answer = alice.session.post(
        f"{service.url}/v1/jobs", json=body, headers={"X-CSRF-Token": proof}
    )
    assert answer.status_code == 201


def test_what_is_hidden_from_a_visitor_looks_like_what_does_not_exist(service, world):
    other = Browser(service)
    other.sign_in("other")
    for hidden, missing in (
        (f"/jobs/{world['job']}", "/jobs/job-0123456789abcdef"),
        (f"/jobs/{world['job']}/edit", "/jobs/job-0123456789abcdef/edit"),
        (f"/jobs/{world['job']}/download/json", "/jobs/job-0123456789abcdef/download/json"),
        (f"/programs/{world['program']}", f"/programs/{'x' * len(world['program'])}"),
    ):
        one, two = other.get(hidden), other.get(missing)
        assert one.status == two.status == 404
        names = [hidden.split("/")[2], missing.split("/")[2]]
        assert one.html.replace(names[0], "") == two.html.replace(names[1], "")
        assert "secret" not in one.html
    assert world["job"] not in other.get("/jobs").html
    assert world["program"] not in other.get("/programs").html
    machine = other.get("/machine")
    assert (machine.status, "operators" in machine.text) == (403, True)


def test_a_program_is_shared_published_and_deleted_from_its_page(service, alice):
    program = service.upload("alice", "echo", name="to_share")
    service.token("other")
    other = Browser(service)
    other.sign_in("other")
    url = f"/programs/{program}"
    assert other.get(url).status == 404
    refused = alice.send(alice.get(url).forms["shares"], users="other, nobody_there")
    assert (refused.status, "no user 'nobody_there'" in refused.text) == (400, True)
    alice.send(alice.get(url).forms["shares"], users="other")
    shared = other.get(url)
    assert "user_messenger" in shared.text
    assert {"public", "shares", "delete"}.isdisjoint(shared.forms)
    alice.send(alice.get(url).forms["shares"], users="")
    assert other.get(url).status == 404
    page = alice.send(alice.get(url).forms["public"])
    assert "Everybody may run it" in page.text
    public = other.get(url)
    assert public.status == 200
    assert "user_messenger" not in public.text
    assert "does not share its source" in public.text
    alice.send(page.forms["public"])
    assert other.get(url).status == 404
    alice.send(alice.get(url).forms["delete"])
    assert alice.get(url).status == 404


# --- running --------------------------------------------------------------------------------------

TYPED = """
import json

def main(backend, user_messenger, angle, shots=100, method="fast", verbose=False, name="", more=()):
    user_messenger.publish({"name": name})
    return {"angle": angle, "shots": shots, "method": method, "verbose": verbose, "name": name,
            "more": more}
"""
MANIFEST = """
name: typed
description: Takes inputs of every kind
spec:
  parameters:
    type: object
    required: [angle]
    properties:
      angle: {type: number, minimum: 0, maximum: 6.3, description: "an angle, in radians"}
      shots: {type: integer, minimum: 1, default: 100}
      method: {enum: [fast, exact], default: fast}
      verbose: {type: boolean, default: false}
      name: {type: string, default: "a <b>name</b>"}
      more: {type: array, items: {type: integer}, default: [1, 2]}
"""


@pytest.fixture(scope="module")
def typed(service, alice):
    files = [("program.yaml", MANIFEST.encode()), ("program.py", TYPED.encode())]
    page = alice.send(alice.get("/upload").forms["upload"], files=files)
    assert page.of("body", "data-page") == ["program"], page.text
    return page.url.removeprefix(service.url)


def test_a_form_has_a_field_for_each_input_with_its_default_range_and_help(alice, typed):
    page = alice.get(typed)
    assert page.forms["run"].fields == {
        "csrf": page.forms["run"].fields["csrf"],
        "input.angle": "",
        "input.shots": "100",
        "input.method": '"fast"',
        "input.name": "a <b>name</b>",
        "input.more": "[1, 2]",
        "backend": "",
        "timeout": "",
        "tags": "",
    }
    assert {"0", "1"} <= set(page.of("input", "min"))
    assert "6.3" in page.of("input", "max")
    assert "an angle, in radians" in page.text
    assert set(page.of("input", "id") + page.of("select", "id") + page.of("textarea", "id")) <= {
        *page.of("label", "for")
    }


def test_mistakes_stand_at_their_fields_and_what_was_typed_stays(service, alice, typed):
    form = alice.get(typed).forms["run"]
    values = {"input.angle": "7", "input.more": '[1, "<i>"', "input.name": "\n kept </textarea>"}
    page = alice.send(form, **values, tags="a, b", timeout="9")
    assert page.status == 400
    assert page.url == f"{service.url}{typed}"
    fields = page.forms["run"].fields
    assert {name: fields[name] for name in values} == values
    assert (fields["tags"], fields["timeout"]) == ("a, b", "9")
    assert "this is no JSON" in page.text  # the schema is asked when all can be read
    page = alice.send(page.forms["run"], **{"input.more": '["x"]'})
    assert "inputs.angle: 7 is greater than the maximum" in page.text
    assert "inputs.more[0]" in page.text
    assert page.of("input", "aria-invalid") == ["true"]
    page = alice.send(page.forms["run"], **{"input.angle": ""})
    assert "it must be given" in page.text


def test_what_was_typed_is_what_the_program_gets(service, alice, typed):
    form = alice.get(typed).forms["run"]
    values = {"input.angle": "1.5", "input.shots": "7", "input.method": '"exact"'}
    values |= {"input.verbose": "true", "input.name": "", "input.more": "[3]"}
    page = alice.send(form, **values, tags="one, two", timeout="30", backend="none")
    assert page.of("body", "data-page") == ["job"]
    job = service.wait(page.url.rpartition("/")[2])
    assert job["result"] == {
        "angle": 1.5,
        "shots": 7,
        "method": "exact",
        "verbose": True,
        "name": "",
        "more": [3],
    }
    assert (job["tags"], job["limits"]["timeout_s"]) == (["one", "two"], 30)
    assert alice.get(f"{typed}").text.count(job["job"]) == 1


def test_a_program_has_its_cases_and_how_the_last_job_of_each_ended(service, alice):
    cases = {
        "fine.json": {"description": "<b>all</b>", "inputs": {"result": 1}, "backend": "none"},
        "fails.json": {
            "inputs": {"fail": "x"},
            "backend": "none",
            "expect": {"outcome": ["program_error", "no_result"]},
        },
        "beside.json": {"input_files": {"x": "x.qpy"}},
        "odd.json": {"inputs": [], "expect": 3, "description": 5},
    }
    source = (PROGRAMS / "echo.py").read_text()
    files = {"program.yaml": "name: with_cases\n", "program.py": source}
    files |= {f"cases/{name}": json.dumps(case) for name, case in cases.items()}
    page = alice.send(alice.get("/upload").forms["upload"], files=[("p.tgz", packed(files))])
    assert page.of("tr", "data-case") == ["beside", "fails", "fine", "odd"]
    assert "program error or no result" in page.text
    assert ("qrunner check" in page.text, "not of the right type" in page.text) == (True, True)
    url = page.url.removeprefix(service.url)
    runs = [each for each in page.forms if "/cases/" in each]
    assert runs == [f"{url}/cases/fails", f"{url}/cases/fine"]
    for each in runs:
        job = alice.send(page.forms[each]).url.rpartition("/")[2]
        service.wait(job)
    assert alice.get(url).text.count(", as expected") == 2
    for each in ("beside", "odd"):
        form = page.forms[runs[0]]
        answer = alice.post(f"{url}/cases/{each}", form.fields)
        assert (answer.status_code, "cannot be run here" in answer.text) == (409, True)
    assert alice.post(f"{url}/cases/none", page.forms[runs[0]].fields).status_code == 404
    service.client("alice").put(f"{service.url}/v1{url}/public")
    other = Browser(service)
    other.sign_in("other")
    assert other.get(url).of("tr", "data-case") == []  # to run it is not to read it


def test_a_job_is_run_again_with_the_same_inputs_or_with_others(service, alice, typed):
    first = alice.send(alice.get(typed).forms["run"], **{"input.angle": "1"}, backend="none")
    job = first.url.rpartition("/")[2]
    service.wait(job)
    again = alice.send(alice.get(f"/jobs/{job}").forms["again"])
    same = service.wait(again.url.rpartition("/")[2])
    assert (same["result"]["angle"], same["replay_of"]) == (1, job)
    edit = alice.get(f"/jobs/{job}/edit")
    assert edit.forms["run"].fields["input.angle"] == "1"
    page = alice.send(edit.forms["run"], **{"input.angle": "x"})
    assert page.of("body", "data-page") == ["edit"]
    assert "'x' is no number" in page.text
    other = alice.send(page.forms["run"], **{"input.angle": "2"}, backend="none")
    assert service.wait(other.url.rpartition("/")[2])["result"]["angle"] == 2


def test_a_job_is_not_run_again_when_its_program_is_no_longer_for_its_user(service, alice):
    program = service.upload("owner", "echo", name="lent")
    service.client("owner").put(f"{service.url}/v1/programs/{program}/public")
    job = ended(service, program, result=1)
    page = alice.get(f"/jobs/{job}")
    service.client("owner").put(f"{service.url}/v1/programs/{program}/private")
    assert alice.send(page.forms["again"]).status == 404
    assert alice.get(f"/jobs/{job}/edit").status == 404
    assert alice.get(f"/jobs/{job}").status == 200


def test_a_running_job_is_followed_by_reloading_and_cancelled(service, alice, echo):
    job = service.run(echo, messages=["first"], lines=["a line"], seconds=200)
    deadline = time.monotonic() + 30
    while not (page := alice.get(f"/jobs/{job}")).of("li", "data-seq"):
        assert time.monotonic() < deadline
    assert page.of("article", "data-state") == ["running"]
    assert page.of("article", "data-events") == [f"/v1/jobs/{job}/events"]
    assert page.of("li", "data-seq") == ["0"]
    last = int(page.of("article", "data-last-seq")[0])
    assert last >= 1
    with alice.session.get(
        f"{service.url}/v1/jobs/{job}/events", headers={"Last-Event-ID": "0"}, stream=True
    ) as stream:
        assert next(stream.iter_lines()) == b"id: 1"
    assert "Reload" in page.text
    alice.send(page.forms["cancel"])
    service.wait(job)
    page = alice.get(f"/jobs/{job}")
    assert page.of("article", "data-state") == ["cancelled"]
    assert page.of("article", "data-events") == []
    assert "cancel" not in page.forms


# --- what a job's page says -----------------------------------------------------------------------


def test_a_job_says_how_it_ended_first_and_then_all_else(service, alice, echo):
    job = ended(service, echo, fail="it broke", lines=["a line"])
    page = alice.get(f"/jobs/{job}")
    assert page.of("article", "data-state") == ["program_error"]
    order = ("Program error", "it broke", "Run again", "a line", "wall s", "Submitted")
    places = [page.text.index(each) for each in order]
    assert places == sorted(places)
    assert page.of("a", "id") == ["link"]


def test_a_limit_is_shown_with_its_evidence(service, alice, echo):
    body = {"program": echo, "inputs": {"seconds": 60}, "limits": {"timeout_s": 0.3}}
    answer = service.client("alice").post(
        f"{service.url}/v1/jobs", json={**body, "backend": "none"}
    )
    job = answer.json()["job"]
    service.wait(job)
    text = alice.get(f"/jobs/{job}").text
    for each in ("Time limit", "timeout_s 0.3", "Measured by"):
        assert each in text


def test_numbers_are_lines_and_counts_are_bars(service, alice, echo):
    messages = [{"step": n, "energy": n * n / 2} for n in range(10)]
    job = ended(service, echo, messages=messages, result={"counts": {"00": 75, "11": 25}})
    page = alice.get(f"/jobs/{job}")
    (series,) = page.of("div", "data-series")
    assert json.loads(series) == [
        {
            "name": "energy",
            "points": [[n, n * n / 2] for n in range(10)],
            "count": 10,
            "left_out": 0,
        }
    ]
    (points,) = page.of("polyline", "points")
    assert len(points.split()) == 10
    assert ("75.0%" in page.text, "█" * 30 in page.text) == (True, True)


def test_many_messages_are_on_pages(service, alice, echo):
    job = ended(service, echo, messages=list(range(130)), lines=["l" * 99] * 2000)
    page, seen = alice.get(f"/jobs/{job}"), []
    assert 30_000 < len(page.html) < 60_000  # of the log, too, there is the end
    assert page.of("li", "data-seq")[-1] == "129"
    while True:
        seen = page.of("li", "data-seq") + seen
        earlier = re.search(r'href="(\?start=\d+)#messages" rel="prev"', page.html)
        if not earlier:
            break
        page = alice.get(f"/jobs/{job}{earlier[1]}")
        assert page.of("article", "data-events") == []
    assert sorted(set(seen), key=int) == [str(n) for n in range(130)]


CIRCUIT = """
def main(backend, user_messenger):
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    return {"circuit": circuit}
"""


def test_an_example_is_added_as_the_users_own_and_is_then_offered_no_more(service, alice):
    add = alice.get("/programs").forms["add-hello_world"]
    added = alice.send(add)
    assert added.url.startswith(f"{service.url}/programs/hello_world-")
    job = alice.send(added.forms["run"]).url.rpartition("/")[2]
    assert service.wait(job)["outcome"] == "completed"
    assert "add-hello_world" not in alice.get("/programs").forms
    answer = alice.post("/programs", {**add.fields, "name": "no_such_example"})
    assert (answer.status_code, "no_such_example" in answer.text) == (404, True)


def test_the_circuits_of_a_result_are_drawn_by_a_job_of_their_user(service, alice, echo):
    form = alice.get("/upload").forms["upload"]
    program = alice.send(form, files=[("bell.py", CIRCUIT.encode())])
    job = alice.send(program.forms["run"], backend="none").url.rpartition("/")[2]
    service.wait(job)
    page = alice.get(f"/jobs/{job}")
    assert ("2 qubits" in page.text, "┤ H ├" in page.text) == (True, False)
    key = {"Idempotency-Key": f"drawing of {job}"}
    failed = service.run(echo, headers=key, fail="no")  # as one that the service's end interrupted
    assert service.wait(failed)["outcome"] == "program_error"
    drawn = alice.send(page.forms["draw"])
    assert drawn.url == f"{service.url}/jobs/{job}#result"
    assert within(60, lambda: "┤ H ├" in alice.get(f"/jobs/{job}").text)
    drawings = Page(alice.session.get(f"{service.url}/jobs", params={"tag": f"of {job}"}))
    assert len(drawings.of("tr", "data-job")) == 1
    alice.send(page.forms["draw"])  # it is there already
    assert len(alice.get(f"/jobs?tag=of+{job}").of("tr", "data-job")) == 1


def test_a_job_is_downloaded_in_each_form(service, alice, echo):
    job = ended(service, echo, messages=[{"x": n} for n in range(5)], result={"a": [1, 2, 3]})
    got = {
        form: alice.session.get(f"{service.url}/jobs/{job}/download/{form}")
        for form in ("json", "jsonl", "npz", "svg", "exe")
    }
    assert got.pop("exe").status_code == 404
    for form, answer in got.items():
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{job}.{form}"'
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert got["json"].json()["result"] == {"a": [1, 2, 3]}
    lines = [json.loads(each) for each in got["jsonl"].text.splitlines()]
    assert [each["event"] for each in lines] == ["started", *["message"] * 5, "finished"]
    assert zipfile.ZipFile(io.BytesIO(got["npz"].content)).namelist() == ["a.npy"]
    assert b"<svg" in got["svg"].content


LEAVES = """
def main(backend, user_messenger):
    import os

    os.mkdir("/out/d")
    with open("/out/d/a b<i>.txt", "w") as file:
        file.write("<b>content</b>")
"""


def test_the_files_that_a_program_has_left_are_downloaded_and_never_shown(service, alice):
    form = alice.get("/upload").forms["upload"]
    program = alice.send(form, files=[("leaves.py", LEAVES.encode())])
    job = alice.send(program.forms["run"], backend="none").url.rpartition("/")[2]
    service.wait(job)
    page = alice.get(f"/jobs/{job}")
    (link,) = [each for each in page.of("a", "href") if "/files/" in each]
    assert "d/a b<i>.txt 14 bytes" in " ".join(page.text.split())
    file = alice.session.get(service.url + link)
    assert file.text == "<b>content</b>"
    assert file.headers["Content-Type"] == "application/octet-stream"
    assert file.headers["Content-Disposition"].startswith("attachment; ")
    assert "sandbox" in file.headers["Content-Security-Policy"]
    for odd in ("d", "d/../d/a", "nothing"):
        assert alice.session.get(f"{service.url}/jobs/{job}/files/{odd}").status_code == 404
    other = Browser(service)
    other.sign_in("other")
    assert other.session.get(service.url + link).status_code == 404


def test_a_list_is_filtered_and_its_pages_have_every_job_once(service, echo):
    browser = Browser(service)
    browser.sign_in("many")
    program = service.upload("many", "echo", name="listed")
    jobs = {ended(service, program, "many", result=n) for n in range(3)}
    failed = ended(service, program, "many", fail="x")
    page = browser.get("/jobs")
    assert set(page.of("tr", "data-job")) == {*jobs, failed}
    assert "program error" in row_of(page, failed)
    form = page.forms["filters"].fields
    for chosen, found in (
        ({"outcome": "program_error"}, {failed}),
        ({"outcome": "completed"}, jobs),
        ({"outcome": "pending"}, set()),
        ({"program": "listed"}, {*jobs, failed}),
        ({"program": "another"}, set()),
        ({"created_before": "2020-01-01T00:00:00"}, set()),
        ({"created_after": "2020-01-01T00:00:00"}, {*jobs, failed}),
        ({"tag": "x"}, set()),
        ({"tag": "x, y"}, set()),
        ({"beyond": failed}, jobs),
        ({"order": "ascending"}, {*jobs, failed}),
        ({"order": "ascending", "beyond": failed}, set()),
    ):
        shown = browser.session.get(f"{service.url}/jobs", params={**form, **chosen})
        assert set(Page(shown).of("tr", "data-job")) == found, chosen
    assert browser.get("/jobs?outcome=odd").status == 400
    assert browser.get("/jobs?created_after=odd").status == 400
    kept = browser.get("/jobs?program=%3Cb%3E").forms["filters"].fields
    assert kept["program"] == "<b>"


def test_an_operator_sees_the_machine_and_no_job_of_others(service, world):
    browser = Browser(service)
    browser.sign_in("chief", "--operator")
    running = service.run(world["program"], seconds=100)
    page = browser.get("/machine")
    assert page.status == 200
    assert "alice" in page.of("tr", "data-user")
    assert running not in page.html
    assert "at most" in page.text
    assert "Nobody has asked" in page.text
    assert browser.get(f"/jobs/{running}").status == 404
    service.client("alice").post(f"{service.url}/v1/jobs/{running}/cancel")


# --- uploading ------------------------------------------------------------------------------------


def packed(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return content.getvalue()


def test_a_program_is_uploaded_as_a_file_an_archive_or_its_files(alice):
    form = alice.get("/upload").forms["upload"]
    source = "def main(backend, user_messenger):\n    return 1\n"
    one = alice.send(form, files=[("my_one.py", source.encode())])
    assert one.text.count("my_one") >= 2
    archive = packed({"d/program.yaml": "name: packed\n", "d/program.py": source})
    assert "packed" in alice.send(form, files=[("d.tar.gz", archive)]).text
    files = [("program.yaml", b"name: loose\n"), ("program.py", source.encode())]
    loose = alice.send(form, files=files)
    assert "Version1" in loose.text.replace("\n", "")
    files[1] = ("program.py", source.replace("1", "2").encode())
    second = alice.send(form, files=files)
    assert second.url == loose.url
    assert "Version2" in second.text.replace("\n", "")
    old = alice.get(f"{second.url}?version=1")
    assert "return 1" in old.text
    assert alice.get(f"{second.url}?version=3").status == 404


@pytest.mark.parametrize(
    ("files", "said", "marked"),
    [
        (
            [
                ("program.yaml", b"name: x\ndescription: y\nlimits:\n  timeout_s: soon\n"),
                ("program.py", b"def main(a, b): pass\n"),
            ],
            "limits.timeout_s",
            "  timeout_s: soon",
        ),
        (
            [("p.py", b"\n\ndef main(backend):\n    pass\n")],
            "one parameter only",
            "def main(backend)",
        ),
        ([("d.tar.gz", b"\x1f\x8b nothing")], "not readable as gzip", None),
        ([], "no file was chosen", None),
    ],
    ids=["manifest", "source", "archive", "nothing"],
)
def test_what_is_wrong_with_a_program_is_shown_at_its_line(alice, files, said, marked):
    page = alice.send(alice.get("/upload").forms["upload"], files=files)
    assert page.status == 400
    assert said in page.text
    found = re.findall(r"<mark>(.*?)</mark>", page.html)
    assert [marked in each for each in found] == ([True] if marked else [])


# --- whatever a program or a person wrote ---------------------------------------------------------

HOSTILE = (
    "</textarea></pre></code></script><script>alert(1)</script><img src=x onerror=alert(1)>"
    "'\"><svg/onload=alert(1)>{{ 7919*7907 }}{% raw %}&lt;b&gt;javascript:alert(1)"
    "\u202e\x1b[2J\ufeff"
)
TAGS = {
    *("html", "head", "meta", "title", "link", "script", "body", "header", "nav", "main", "footer"),
    *("h1", "h2", "p", "a", "b", "strong", "small", "span", "mark", "code", "pre", "time", "div"),
    *("ul", "ol", "li", "dl", "dt", "dd", "section", "article", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("form", "label", "input", "select", "option", "textarea", "button"),
    *("figure", "figcaption", "svg", "path", "polyline", "text"),
}
HOSTILE_PROGRAM = f"""
import json
TEXT = json.loads({json.dumps(json.dumps(HOSTILE))!r})

def main(backend, user_messenger, **inputs):
    print(TEXT)
    for n in range(4):
        user_messenger.publish({{TEXT: n * n / 3, "text": TEXT}})
    user_messenger.publish(TEXT)
    if inputs.get("fail"):
        raise ValueError(TEXT)
    return {{TEXT: TEXT, "counts": {{"00": 3, "11": 4}}}}
"""


@pytest.fixture(scope="module")
def hostile_pages(service):
    """Every page, with the hostile text wherever somebody can put it."""
    browser = Browser(service)
    browser.sign_in("mallory")
    manifest = {
        "name": "hostile",
        "description": HOSTILE,
        "spec": {
            "parameters": {
                "type": "object",
                "properties": {
                    HOSTILE: {"title": HOSTILE, "description": HOSTILE, "default": HOSTILE},
                    "kind": {"enum": [HOSTILE, "b"], "default": HOSTILE},
                    "text": {"type": "string", "default": HOSTILE},
                    "fail": {"type": "boolean", "default": False},
                },
            }
        },
    }
    files = [
        ("program.json", json.dumps(manifest).encode()),
        ("program.py", HOSTILE_PROGRAM.encode()),
    ]
    program = browser.send(browser.get("/upload").forms["upload"], files=files)
    assert program.of("body", "data-page") == ["program"], program.text
    tag = "".join(each for each in HOSTILE if each.isprintable() and each != ",")[:100]
    form = program.forms["run"]
    run = browser.send(form, tags=tag, backend="none")
    job = run.url.rpartition("/")[2]
    assert service.wait(job, "mallory")["outcome"] == "completed"
    failed = browser.send(form, **{"input.fail": "true"}, backend="none").url.rpartition("/")[2]
    assert service.wait(failed, "mallory")["outcome"] == "program_error"
    wrong = {name: HOSTILE for name in form.names if name.startswith("input.")}
    return {
        "program": program,
        "mistakes": browser.send(form, **wrong, timeout=HOSTILE, tags=HOSTILE),
        "job": browser.get(f"/jobs/{job}"),
        "failed": browser.get(f"/jobs/{failed}"),
        "edit": browser.get(f"/jobs/{job}/edit"),
        "jobs": browser.get("/jobs"),
        "filtered": Page(
            browser.session.get(f"{service.url}/jobs", params={"program": HOSTILE, "tag": HOSTILE})
        ),
        "refused": Page(browser.session.get(f"{service.url}/jobs", params={"outcome": HOSTILE})),
        "missing": browser.get(f"/programs/{requests.utils.quote(HOSTILE, safe='')}"),
        "upload": browser.send(
            browser.get("/upload").forms["upload"],
            name=HOSTILE,
            files=[("program.yaml", f"name: x\n{json.dumps(HOSTILE)}: 1".encode())],
        ),
        "programs": browser.get("/programs"),
        "sign-in": Page(
            browser.session.get(f"{service.url}/sign-in", params={"next": f"/{HOSTILE}"})
        ),
    }


SENT = {"value", "name"}
PLACES = (
    *("program", "mistakes", "job", "failed", "edit", "jobs", "filtered", "refused", "missing"),
    *("upload", "programs", "sign-in"),
)


@pytest.mark.parametrize("name", PLACES)
def test_whatever_anybody_wrote_is_text_and_never_markup(hostile_pages, name):
    page = hostile_pages[name]
    assert set(page.tags) <= TAGS, set(page.tags) - TAGS
    attributes = {each for _, each, _ in page.attributes}
    assert not {each for each in attributes if each.startswith("on") or each == "style"}
    assert page.tags.count("script") == 1
    assert page.of("img", "src") == []
    links = page.of("a", "href") + page.of("form", "action") + page.of("script", "src")
    for each in links:
        assert each.startswith(("/", "#", "?", page.url.partition("/jobs")[0])), each
    # What a browser would obey or hide is made visible; only what is sent back stays as typed.
    shown = page.text + "".join(
        value or "" for _, each, value in page.attributes if each not in SENT
    )
    assert not set("\u202e\x1b\ufeff") & set(shown)
    assert "7919*7907" in page.html or "62615533" not in page.text
    if name not in {"programs", "jobs", "sign-in"}:
        assert "alert(1)" in page.html


@pytest.mark.parametrize("name", PLACES)
def test_every_page_forbids_what_is_not_its_own(hostile_pages, name):
    page = hostile_pages[name]
    policy = dict(
        each.split(" ", 1) for each in page.answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy == {
        "default-src": "'none'",
        "style-src": "'self'",
        "script-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert page.answer.headers["X-Content-Type-Options"] == "nosniff"
    assert page.answer.headers["Cache-Control"] == "no-store"
    assert len(page.html.encode()) < 150_000


@pytest.mark.parametrize("name", PLACES)
def test_every_page_can_be_used_without_seeing_it(hostile_pages, name):
    page = hostile_pages[name]
    assert page.of("html", "lang") == ["en"]
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
    assert page.of("a", "href")[0] == "#main"
    ids = [value for _, each, value in page.attributes if each == "id"]
    assert len(ids) == len(set(ids))
    labelled = set(page.of("label", "for"))
    for tag in ("input", "select", "textarea"):
        assert set(page.of(tag, "id")) <= labelled
    for each in ("aria-labelledby", "aria-describedby"):
        named = [value for _, name_, value in page.attributes if name_ == each]
        assert {word for value in named for word in value.split()} <= set(ids)
