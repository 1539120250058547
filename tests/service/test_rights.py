"""Who may do what: every route, asked by everybody; and requests that are not meant well."""

from __future__ import annotations

import json
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from runner.service.app import ROUTES
from runner.service.ibm.stream import PATHS
from runner.service.routing import Needs
from runner.store import Store
from runner.store.users import Users
from tests.service.conftest import started

WHO = ("nobody", "other", "shared", "owner", "operator")
ALLOWED = {
    Needs.NOTHING: set(WHO),
    Needs.USER: set(WHO) - {"nobody"},
    Needs.OPERATOR: {"operator"},
    Needs.JOB: {"owner"},
    Needs.PROGRAM: {"owner", "shared"},
    Needs.SOURCE: {"owner", "shared"},
    Needs.OWNER: {"owner"},
}
"""By what a route needs: who gets an answer for the owner's private, shared program, and job."""


@pytest.fixture(scope="module")
def world(service):
    """The owner's program, shared with one user, and a job of it that runs."""
    program = service.upload("owner", "echo")
    private = service.upload("owner", "echo", name="private")
    for who in ("other", "shared"):
        service.token(who)
    service.token("operator", "--operator")
    answer = service.client("owner").put(
        f"{service.url}/v1/programs/{program}/shares", json={"users": ["shared"]}
    )
    assert answer.status_code == 200
    job = service.run(program, "owner", messages=["a secret"], lines=["a secret"], seconds=250)
    return {"program": program, "private": private, "job": job}


def asked(service, route, who, names):
    path = route.path
    for name, value in {**names, "session": "s", "backend": "aer_simulator"}.items():
        path = path.replace(f"{{{name}}}", value)
    path = path.replace("{hub}", "h").replace("{group}", "g").replace("{project}", "p")
    client = service.client(None if who == "nobody" else who)
    # A body that no route takes: whoever has the right is refused for it, and nothing changes.
    body = b"[" if route.method in {"POST", "PUT", "PATCH"} else None
    with client.request(
        route.method, f"{service.url}{path}", data=body, stream=True, timeout=60
    ) as answer:
        text = (
            "" if answer.headers.get("content-type", "").startswith("text/event") else answer.text
        )
        return answer.status_code, text


CHANGES = {"DELETE", "PUT", "POST"}
DONE_WITHOUT_A_BODY = (
    *("/cancel", "/public", "/private", "/close", "/data", "/logout", "/search", "/sessions/s"),
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_answers_those_who_may_ask_and_nobody_else(service, world, route):
    for who in WHO:
        allowed = who in ALLOWED[route.needs]
        changes = route.method == "DELETE" or route.path.endswith(DONE_WITHOUT_A_BODY)
        changes = changes or (route.is_page and route.method == "POST")
        if allowed and changes and route.method in CHANGES and route.needs is not Needs.USER:
            continue  # would do it: the other tests do
        status, text = asked(service, route, who, world)
        if who == "nobody" and not allowed:
            assert status == 401, (who, status, text)
        elif not allowed and route.needs is Needs.OPERATOR:
            assert status == 403, (who, status, text)
        elif not allowed and who == "shared":
            assert status in {403, 404}, (who, status, text)
        elif not allowed:
            assert status == 404, (who, status, text)
        else:
            assert status not in {401, 403}, (who, status, text)
            assert status < 500, (who, status, text)
        if not allowed:
            assert "secret" not in text
            assert "echo" not in text.replace(world["program"], "").replace(world["private"], "")


def test_what_is_hidden_looks_like_what_does_not_exist(service, world):
    client = service.client("other")
    for kind, hidden, missing in (
        ("programs", world["private"], "x" * len(world["private"])),
        ("jobs", world["job"], "job-0123456789abcdef"),
    ):
        for method in ("GET", "DELETE"):
            one = client.request(method, f"{service.url}/v1/{kind}/{hidden}")
            two = client.request(method, f"{service.url}/v1/{kind}/{missing}")
            assert one.status_code == two.status_code == 404
            assert one.text.replace(hidden, "") == two.text.replace(missing, "")
            assert set(one.headers) == set(two.headers)


def test_no_list_and_no_count_tells_of_others(service, world):
    client = service.client("other")
    for path, name in (
        ("/v1/jobs", "jobs"),
        ("/v1/programs", "programs"),
        ("/v1/programs?name=echo", "programs"),
        ("/api/v1/jobs", "jobs"),
        ("/api/v1/programs", "programs"),
        (f"/api/v1/jobs?program={world['program']}", "jobs"),
    ):
        found = client.get(f"{service.url}{path}").json()
        assert (found[name], found["count"]) == ([], 0), path


def test_a_public_program_is_run_by_others_and_its_source_is_not_read(service):
    program = service.upload("owner", "echo", name="public", public=True)
    client = service.client("other")
    assert service.wait(service.run(program, "other", result=1), "other")["result"] == 1
    url = f"{service.url}/v1/programs/{program}"
    assert client.get(url).status_code == 200
    assert client.get(f"{url}/source").status_code == 403
    shown = client.get(f"{service.url}/api/v1/programs/{program}").json()
    assert "data" not in shown
    assert "data" in service.client("owner").get(f"{service.url}/api/v1/programs/{program}").json()
    assert client.delete(url).status_code == 403
    assert client.put(f"{url}/private").status_code == 403
    service.client("owner").put(f"{url}/private")
    assert client.get(url).status_code == 404


def test_a_description_names_every_route_of_ours(service):
    content = requests.get(f"{service.url}/v1/openapi.json", timeout=10).json()
    described = {(method.upper(), path) for path, of in content["paths"].items() for method in of}
    ours = {(r.method, r.path) for r in ROUTES if not r.path.startswith(("/api", "/identity"))}
    assert described <= ours
    assert {each for each in ours if each[1].startswith("/v1/")} <= described


# --- streams of the older clients -----------------------------------------------------------------


def socket_url(service, job):
    return service.url.replace("http", "ws", 1) + PATHS[0].replace("{job}", job)


def headers_of(service, who):
    return {} if who == "nobody" else {"X-Access-Token": service.token(who)}


@pytest.mark.parametrize("who", [each for each in WHO if each != "owner"])
def test_a_stream_is_for_the_owner_of_the_job(service, world, who):
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(socket_url(service, world["job"]), additional_headers=headers_of(service, who)),
    ):
        pass
    assert caught.value.response.status_code == (401 if who == "nobody" else 404)


def frames(service, job, who="owner"):
    found = []
    with (
        connect(
            socket_url(service, job), additional_headers=headers_of(service, who), max_size=None
        ) as channel,
        pytest.raises(ConnectionClosed) as caught,
    ):
        while True:
            found.append(channel.recv(timeout=120))
    return found, caught.value.rcvd.code


def test_a_stream_begins_with_an_acknowledgement_and_ends_with_1000(service):
    program = service.upload("owner", "echo", name="streamed")
    job = service.run(program, "owner", messages=[{"n": 1}, "x" * 200_000], result="end")
    found, code = frames(service, job)
    assert code == 1000
    assert len(found) == 4
    assert json.loads(found[1]) == {"n": 1}
    assert isinstance(found[2], bytes)  # large ones are binary
    assert json.loads(found[2]) == "x" * 200_000
    assert json.loads(found[3]) == "end"
    # Whoever comes back at once has had everything; whoever comes later wants all of it again.
    assert len(frames(service, job)[0]) == 1
    assert len(frames(service, job)[0]) == 4


SETTINGS = {
    "__type__": "settings",
    "__module__": "collections",
    "__class__": "OrderedDict",
    "__value__": {},
}


@pytest.mark.parametrize("tag", ["settings", "ParameterExpression", "dill", "QuantumCircuit"])
@pytest.mark.parametrize("hidden", [False, True])
def test_what_would_run_code_in_an_older_client_is_not_passed_on(service, tag, hidden):
    program = service.upload("owner", "hostile", name=f"hostile-{tag}-{hidden}")
    value = {"deep": [{**SETTINGS, "__type__": tag}]}
    text = json.dumps(value)
    if hidden:
        text = text.replace("__type__", "\\u005f_type__")
    job = service.run(program, "owner", value=text, how="return")
    assert service.wait(job, "owner")["outcome"] == "completed"
    url = f"{service.url}/api/v1/jobs/{job}"
    client = service.client("owner")
    answer = client.get(f"{url}/results")
    assert answer.status_code == 409
    assert "deep" in answer.json()["error"]["message"]
    found, _ = frames(service, job)
    assert not any("__module__" in str(each) for each in found)
    newer = client.get(f"{url}/results", headers={"IBM-API-Version": "2026-04-15"})
    assert newer.status_code == 200


# --- requests that are not meant well -------------------------------------------------------------


def raw(service, content, *, wait_s=20):
    """Send bytes, and return all that comes until the service closes the connection."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=wait_s) as channel:
        channel.sendall(content)
        found = b""
        try:
            while piece := channel.recv(65536):
                found += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return found


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/..%2f..%2fetc%2fpasswd",
        "/v1/jobs/last",
        "/v1/jobs/job-",
        "/v1/jobs/%00",
        "/v1/jobs/job-0123456789abcdef%20",
        "/v1/programs/%ff%fe",
        "/v1/programs/'%20OR%201=1--",
        "/v1/programs/a;b",
        "/v1/../../etc/passwd",
        "//v1//jobs//job-0123456789abcdef",
        "/api/v1/jobs/job-0123456789ABCDEF/results",
    ],
)
def test_odd_ids_are_not_found(service, path):
    token = service.token("owner")
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    answer = raw(service, f"{head}Connection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer[:200]
    assert b"Traceback" not in answer


def test_bodies_heads_and_methods_have_their_bounds(service):
    client = service.client("owner")
    answer = client.post(f"{service.url}/v1/programs", data=b"{" + b" " * (33 << 20))
    assert answer.status_code == 413
    answer = client.put(f"{service.url}/v1/jobs/job-0123456789abcdef/tags", data=b" " * (65 << 10))
    assert answer.status_code == 413
    try:
        status = client.get(f"{service.url}/v1/me", headers={"X-Long": "x" * 2_000_000}).status_code
    except requests.exceptions.RequestException:
        status = 400  # it has hung up on the rest of the head
    assert status == 400
    assert client.patch(f"{service.url}/v1/jobs").status_code == 405
    deep = b'{"program": "x", "inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert client.post(f"{service.url}/v1/jobs", data=deep).status_code == 400
    chunked = (b" " * (1 << 20) for _ in range(40))
    try:
        status = client.post(f"{service.url}/v1/programs", data=chunked).status_code
    except requests.exceptions.ConnectionError:
        status = 413  # it has hung up on the rest of the body
    assert status == 413


def test_pipelined_and_cut_requests_harm_nobody(service):
    token = service.token("owner")
    one = f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    answers = raw(service, (one + "\r\n" + one + "Connection: close\r\n\r\n").encode())
    assert answers.count(b"HTTP/1.1 200") == 2
    for cut in (
        b"GET / HT",
        b"POST /v1/jobs HTTP/1.1\r\nContent-Length: 5\r\nHost: x\r\n\r\n{",
        b"\x16\x03\x01",
    ):
        address = urlsplit(service.url)
        with socket.create_connection((address.hostname, address.port)) as channel:
            channel.sendall(cut)
    assert requests.get(f"{service.url}/healthz", timeout=10).ok


def test_quotas_refuse_in_order_and_name_the_number(tmp_path):
    config = "[service]\nprograms = 1\njobs = 2\nstreams = 2\n"
    with started(tmp_path, config=config) as service:
        program = service.upload()
        client = service.client("alice")
        again = client.post(
            f"{service.url}/v1/programs", json={"files": {"program.py": ""}, "name": "second"}
        )
        assert (again.status_code, "the quota is 1" in again.text) == (429, True)
        jobs = [service.run(program, seconds=100) for _ in range(2)]
        content = {"program": program, "backend": "none"}
        refused = client.post(f"{service.url}/v1/jobs", json=content)
        assert (refused.status_code, "the quota is 2" in refused.text) == (429, True)
        assert "Retry-After" in refused.headers
        url = f"{service.url}/v1/jobs/{jobs[0]}/events"
        with client.get(url, stream=True), client.get(url, stream=True):
            time.sleep(1)
            assert client.get(url, stream=True, timeout=10).status_code == 429
        other = service.upload("bob", "echo")
        assert service.wait(service.run(other, "bob", result=1), "bob")["result"] == 1


def test_two_hundred_users_at_once_are_all_served(service):
    wrong, threads = [], []
    with Store(service.store) as store:
        users = Users(store.file)
        for number in range(200):
            users.add(f"one-of-many-{number}")
        tokens = [users.new_token(f"one-of-many-{number}") for number in range(200)]

    def ask(number):
        headers = {"Authorization": f"Bearer {tokens[number]}"}
        for _ in range(3):
            try:
                answer = requests.get(f"{service.url}/v1/me", headers=headers, timeout=60)
                if answer.json()["user"] != f"one-of-many-{number}":
                    wrong.append(answer.text)
            except (requests.exceptions.RequestException, KeyError) as error:
                wrong.append(repr(error))

    for number in range(200):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
    for each in threads:
        each.join()
    assert wrong == []
