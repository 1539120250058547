"""Our own form of the API against a real service: jobs, events, repeated requests, life."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import stat
import tarfile
import threading
from pathlib import Path

import pytest
import requests

from tests.service.conftest import events_of, qrunner, started
from tests.waiting import within


def test_a_job_runs_and_is_what_the_command_line_says_of_it(service):
    program = service.upload("alice")
    job = service.run(program, messages=[1, {"a": None}], result="done", lines=["one"])
    found = service.wait(job)
    assert (found["outcome"], found["result"], found["user"]) == ("completed", "done", "alice")
    assert [each["body"] for each in found["messages"]] == [1, {"a": None}]
    assert found["log"] == "one\n"
    assert found["origin"]["program_id"] == program
    shown = qrunner(service.environment, "show", job, "--format", "json")
    assert json.loads(shown) == found


def test_events_are_streamed_and_go_on_after_the_last_one_that_was_seen(service):
    program = service.upload(program="echo", name="streamed")
    job = service.run(program, messages=[0, 1, 2], seconds=0.5, result=3)
    client, url = service.client("alice"), f"{service.url}/v1/jobs/{job}/events"
    with client.get(url, stream=True, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = list(events_of(answer))
    assert [number for number, _ in seen] == list(range(len(seen)))
    kinds = [event["event"] for _, event in seen]
    assert kinds == ["started", "message", "message", "message", "finished"]
    assert seen[-1][1]["result"] == 3
    for last in range(len(seen)):
        headers = {"Last-Event-ID": str(last)}
        with client.get(url, stream=True, timeout=60, headers=headers) as answer:
            rest = list(events_of(answer))
        assert rest == (seen[last + 1 :] or seen[-1:]) or rest[-1][1] == seen[-1][1]


def test_a_repeated_request_runs_one_job(service):
    program = service.upload(program="echo", name="repeated")
    key = {"Idempotency-Key": "once"}
    jobs, threads = [], []
    for _ in range(8):
        submit = threading.Thread(
            target=lambda: jobs.append(service.run(program, headers=key, result=1))
        )
        submit.start()
        threads.append(submit)
    for each in threads:
        each.join()
    assert len(jobs) == 8
    assert len(set(jobs)) == 1
    assert service.run(program, headers={"Idempotency-Key": "twice"}, result=1) != jobs[0]
    assert service.run(program, result=1) != jobs[0]
    other = service.upload(program="echo", name="other")
    for content in (
        {"program": other, "inputs": {"result": 1}, "backend": "none"},
        {"program": program, "inputs": {"result": 2}, "backend": "none"},
    ):
        answer = service.client("alice").post(f"{service.url}/v1/jobs", json=content, headers=key)
        assert answer.status_code == 409
        assert jobs[0] in answer.json()["error"]["message"]


def test_a_program_may_come_as_an_archive_and_a_job_keeps_the_version_it_ran(service):
    client = service.client("alice")

    def packed(text):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for name, content in (
                ("mine/program.yaml", b"name: packed\n"),
                ("mine/program.py", text),
                ("mine/__pycache__/x.pyc", b"no part of it"),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return stream.getvalue()

    answer = client.post(f"{service.url}/v1/programs", data=packed(b"def main(b, m): return 1\n"))
    assert answer.status_code == 201, answer.text
    program = answer.json()["id"]
    first = service.wait(service.run(program))
    url = f"{service.url}/v1/programs/{program}"
    answer = client.put(url, data=packed(b"def main(b, m): return 2\n"))
    assert answer.json()["version"] == 2
    assert client.put(url, data=packed(b"def main(b, m): return 2\n")).json()["version"] == 2
    second = service.wait(service.run(program))
    assert (first["result"], second["result"]) == (1, 2)
    assert [each["version"] for each in client.get(f"{url}/versions").json()["versions"]] == [2, 1]
    old = client.get(f"{url}/source", params={"version": 1}).json()["files"]
    assert base64.b64decode(old["program.py"]).endswith(b"return 1\n")
    content = {"program": program, "version": 1, "backend": "none"}
    job = client.post(f"{service.url}/v1/jobs", json=content).json()["job"]
    assert service.wait(job)["result"] == 1


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        ({}, 400, "at least one"),
        ({"../program.py": ""}, 400, "must lead into the program's directory"),
        ({"/etc/passwd": ""}, 400, "must lead into the program's directory"),
        ({"program.py": "no base64!"}, 400, "is not base64"),
        ({"other.txt": ""}, 400, "is no program"),
        (
            {
                "program.yaml": base64.b64encode(
                    b"name: p\nrequirements: requirements.txt\n"
                ).decode(),
                "program.py": base64.b64encode(b"def main(b, m): pass").decode(),
            },
            400,
            "requirements",
        ),
    ],
)
def test_a_program_that_cannot_be_used_is_refused_with_the_reason(service, files, status, said):
    client = service.client("alice")
    answer = client.post(f"{service.url}/v1/programs", json={"files": files})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("kind", ["link", "bomb", "cut short", "no tar"])
def test_an_archive_that_is_none_is_refused(service, kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo("program.py")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
        else:
            member.size = (64 << 20) if kind == "bomb" else 1000
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    body = {"no tar": b"\x1f\x8bnothing", "cut short": stream.getvalue()[:40]}.get(
        kind, stream.getvalue()
    )
    answer = service.client("alice").post(f"{service.url}/v1/programs", data=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_refusals_name_the_value(service):
    client, url = service.client("alice"), f"{service.url}/v1/jobs"
    program = service.upload(program="echo", name="refusing")
    for content, said in (
        (b"{", "not JSON"),
        (b"[1]", "must be an object"),
        ({"program": program, "nonsense": 1}, "'nonsense'"),
        ({"program": program, "inputs": {"nonsense": 1}}, "nonsense"),
        ({"program": program, "inputs": {}, "backend": "ibm_oslo"}, "ibm_oslo"),
        ({"program": program, "limits": {"timeout": 1}}, "unknown limit 'timeout'"),
        ({"program": program, "options": {"tags": "x"}}, "tags are 'x'"),
        (b'{"inputs": {"result": 1e999}}', "too large"),
    ):
        body = content if isinstance(content, bytes) else json.dumps(content)
        answer = client.post(url, data=body)
        assert answer.status_code == 400, answer.text
        assert said in answer.json()["error"]["message"]
    assert client.post(url, json={"program": "unknown"}).status_code == 404
    answer = client.get(f"{url}?limit=x")
    assert (answer.status_code, "limit is 'x'" in answer.text) == (400, True)


def test_jobs_are_listed_tagged_cancelled_and_deleted(service):
    client, url = service.client("carol"), f"{service.url}/v1/jobs"
    program = service.upload("carol", "echo")
    slow = service.run(program, "carol", seconds=120)
    quick = service.run(program, "carol", result=1)
    service.wait(quick, "carol")
    assert client.put(f"{url}/{quick}/tags", json={"tags": ["x"]}).json() == {"tags": ["x"]}
    listed = client.get(url).json()
    assert ([each["job"] for each in listed["jobs"]], listed["count"]) == ([quick, slow], 2)
    for query, expected in (
        ({"pending": "true"}, [slow]),
        ({"outcome": "completed"}, [quick]),
        ({"tag": "x"}, [quick]),
        ({"program_id": program, "order": "ascending"}, [slow, quick]),
        ({"limit": 1, "skip": 1}, [slow]),
        ({"created_after": "2100-01-01T00:00:00Z"}, []),
    ):
        found = [each["job"] for each in client.get(url, params=query).json()["jobs"]]
        assert found == expected, query
    assert client.get(f"{url}/{slow}/result").status_code == 204
    assert client.post(f"{url}/{slow}/cancel").status_code == 202
    assert service.wait(slow, "carol")["outcome"] == "cancelled"
    assert client.post(f"{url}/{slow}/cancel").status_code == 409
    assert client.get(f"{url}/{slow}/result").status_code == 409
    assert client.delete(f"{url}/{slow}").status_code == 204
    assert client.get(f"{url}/{slow}").status_code == 404


def test_a_token_is_needed_can_be_revoked_and_is_not_in_the_store(service):
    token = service.token("dave")
    assert token.startswith("qr_")
    assert service.client("dave").get(f"{service.url}/v1/me").json()["user"] == "dave"
    content = b"".join(
        each.read_bytes() for each in service.store.parent.iterdir() if each.is_file()
    )
    assert token.encode() not in content
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": f"Basic {token}"}):
        answer = requests.get(f"{service.url}/v1/me", headers=headers, timeout=10)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    answer = requests.get(f"{service.url}/v1/me", params={"access_token": token}, timeout=10)
    assert answer.status_code == 401
    assert token not in service.log.read_text()
    new = qrunner(service.environment, "users", "token", "dave", "--revoke").strip()
    assert service.client("dave").get(f"{service.url}/v1/me").status_code == 401
    service.tokens["dave"] = new
    assert service.client("dave").get(f"{service.url}/v1/me").status_code == 200
    qrunner(service.environment, "users", "disable", "dave")
    assert service.client("dave").get(f"{service.url}/v1/me").status_code == 401
    del service.tokens["dave"]


def test_what_was_changed_by_whom_is_in_the_audit_log(service):
    program = service.upload("erin", "echo")
    service.client("erin").put(f"{service.url}/v1/programs/{program}/public")
    operator = service.client("olga", "--operator")
    nobody = service.client(None)
    assert nobody.put(f"{service.url}/v1/programs/{program}/private").status_code == 401
    assert service.client("frank").delete(f"{service.url}/v1/jobs/nothing").status_code == 404
    newest = operator.get(f"{service.url}/v1/audit", params={"limit": 1}).json()["entries"][0]
    assert (newest["user"], newest["object"], newest["status"]) == ("frank", "nothing", 404)
    entries = operator.get(f"{service.url}/v1/audit", params={"user": "erin"}).json()["entries"]
    assert [(each["action"], each["object"], each["status"]) for each in entries] == [
        ("PUT /v1/programs/{program}/public", program, 204),
        ("POST /v1/programs", "", 201),
    ]
    metrics = operator.get(f"{service.url}/metrics").text
    assert 'qrunner_requests_total{method="GET",route="/v1/audit",status="200"} 2' in metrics


# --- life -----------------------------------------------------------------------------------------


def test_it_starts_at_once_and_ends_in_order(tmp_path):
    with started(tmp_path) as service:
        # What it takes of a CPU is what a quiet machine waits for: 0.7 s.
        fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
        assert (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") < 1.5
        assert requests.get(f"{service.url}/healthz", timeout=10).ok
        program = service.upload()
        job = service.run(program, messages=[1], seconds=2, result="kept")
        url = f"{service.url}/v1/jobs/{job}"
        client = service.client("alice")
        assert within(30, lambda: client.get(url).json()["status"] == "RUNNING")
        service.process.send_signal(signal.SIGTERM)
        assert within(
            10, lambda: requests.get(f"{service.url}/readyz", timeout=10).status_code == 503
        )
        refused = client.post(f"{service.url}/v1/jobs", json={"program": program})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert client.get(url).status_code == 200  # clients may still fetch what ends now
        assert service.process.wait(60) == 0
    with started(tmp_path) as again:
        again.tokens = service.tokens
        assert again.wait(job)["result"] == "kept"


def test_a_killed_service_loses_no_job_silently(tmp_path):
    with started(tmp_path) as service:
        program = service.upload()
        done = service.run(program, messages=[1], result="kept")
        service.wait(done)
        running = [service.run(program, seconds=60) for _ in range(3)]
        url = f"{service.url}/v1/jobs/{running[0]}"
        client = service.client("alice")
        assert within(30, lambda: client.get(url).json()["status"] == "RUNNING")
        key = {"Idempotency-Key": "k"}
        keyed = service.run(program, headers=key, seconds=60)
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    with started(tmp_path) as again:
        again.tokens = service.tokens
        assert again.wait(done)["result"] == "kept"
        for each in [*running, keyed]:
            found = again.wait(each)
            assert (found["outcome"], "died" in found["error"]) == ("interrupted", True)
        assert again.run(program, headers=key, seconds=60) == keyed


def test_a_stream_that_is_cut_by_the_end_of_the_service_can_be_gone_on_with(tmp_path):
    with started(tmp_path, config="[service]\ngrace_s = 1\n") as service:
        program = service.upload()
        job = service.run(program, messages=[0, 1], seconds=60)
        client = service.client("alice")
        seen = []
        url = f"{service.url}/v1/jobs/{job}/events"
        cut = pytest.raises(requests.exceptions.RequestException)
        with client.get(url, stream=True, timeout=60) as answer, cut:
            for number, event in events_of(answer):
                seen.append((number, event))
                if len(seen) == 3:
                    service.process.send_signal(signal.SIGTERM)
            raise requests.exceptions.ConnectionError
        assert [event["event"] for _, event in seen][:3] == ["started", "message", "message"]
        assert service.process.wait(60) == 0
    with started(tmp_path) as again:
        again.tokens = service.tokens
        headers = {"Last-Event-ID": str(seen[1][0])}
        url = f"{again.url}/v1/jobs/{job}/events"
        with again.client("alice").get(url, stream=True, timeout=60, headers=headers) as answer:
            rest = list(events_of(answer))
    assert [event["event"] for _, event in rest] == ["message", "finished"]
    assert rest[0] == seen[2]


def test_the_socket_is_for_its_user_only_and_needs_no_token(tmp_path):
    path = tmp_path / "run" / "qrunner.sock"
    with started(tmp_path, "--socket", str(path), listen=None):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(str(path))
            channel.sendall(b"GET /v1/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: channel.recv(4096), b""))
        assert b'{"user": null, "role": "operator"}' in answer
        environment = {**os.environ, "QRUNNER_STORE": str(tmp_path / "other")}
        second = qrunner(environment, "serve", "--socket", str(path), check=False)
        assert (second.returncode, "another service listens there" in second.stderr) == (2, True)
    assert not path.exists()


def test_off_loopback_it_wants_tls(tmp_path):
    environment = {**os.environ, "QRUNNER_STORE": str(tmp_path / "store")}
    for listen in ("0.0.0.0:0", "[::]:0", "192.0.2.1:80"):
        done = qrunner(environment, "serve", "--listen", listen, check=False)
        assert (done.returncode, "--tls-cert" in done.stderr) == (2, True)
    done = qrunner(environment, "serve", "--listen", "nonsense", check=False)
    assert (done.returncode, "HOST:PORT" in done.stderr) == (2, True)


def test_a_single_user_needs_no_token_but_no_web_page_is_one(tmp_path):
    with started(tmp_path, "--single-user") as service:
        url = f"{service.url}/v1/me"
        assert requests.get(url, timeout=10).json()["role"] == "operator"
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            assert requests.get(url, headers=headers, timeout=10).status_code == 401


def test_its_own_certificate_is_trusted_by_its_authority_and_kept(tls_service, tmp_path):
    client = tls_service.client("alice")
    assert client.get(f"{tls_service.url}/v1/me").json()["user"] == "alice"
    directory = tls_service.ca.parent
    for name in ("key.pem", "ca-key.pem"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(tls_service.url, timeout=10)
