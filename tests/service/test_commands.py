"""Commands at a service that take their time to try: maps, cases, pictures, files."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from runner.errors import RequestError
from tests.service.conftest import PROGRAMS, there
from tests.waiting import within

ECHO = PROGRAMS / "echo.py"


def lines_of(text):
    found = [json.loads(line) for line in text.splitlines()]
    volatile = {"job", "usage", "timestamps", "image", "stored", "user", "versions"}
    return [{name: each[name] for name in set(each) - volatile} for each in found]


def test_a_map_there_runs_so_many_at_a_time_and_leaves_nothing_behind(client):
    program = client.upload(ECHO)
    rows = ({"result": n, "seconds": 0 if n == 0 else 100} for n in range(100))
    with client.map(program, rows, backend="none", sandboxes=2) as jobs:
        assert next(jobs).result() == 0
        assert 1 <= len(client.jobs(pending=True)) <= 2
    assert within(30, lambda: not client.jobs(pending=True))


def test_a_map_there_has_the_output_and_the_exit_code_of_here(service, tmp_path):
    rows = "\n".join(json.dumps(each) for each in ({"result": 1}, {"fail": "x"}, {"nonsense": 2}))
    command = ["map", str(ECHO), "--inputs", "-", "--backend", "none"]
    remote = there(service, *command, input=rows)
    environment = {**service.environment, "QRUNNER_STORE": str(tmp_path / "store")}
    local = subprocess.run(
        [sys.executable, "-m", "runner", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        input=rows,
    )
    assert remote.returncode == local.returncode == 2, remote.stderr
    seen, expected = lines_of(remote.stdout), lines_of(local.stdout)
    for one, other in zip(seen, expected, strict=True):
        differing = {name for name in one | other if one.get(name) != other.get(name)}
        # Whatever ran there has another place; what was refused had none, and no policy.
        refused = {"isolation", "policy"} if one["outcome"] == "invalid_inputs" else {"place"}
        assert differing <= {"request_sha256", *refused}, differing
    assert "3 jobs: 1 completed" in remote.stderr
    tag = remote.stderr.partition("kept with the tag ")[2].partition(":")[0]
    assert len(there(service, "jobs", "--tag", tag, "--format", "json").stdout.splitlines()) == 2


def test_a_map_there_is_gone_on_with(service, tmp_path):
    path, program = tmp_path / "r.jsonl", there(service, "programs", "upload", str(ECHO)).stdout
    command = ["map", program.strip(), "--backend", "none", "-o", str(path), "--resume"]
    first = there(service, *command, "--inputs", '[{"result": 1}]')
    assert (first.returncode, len(lines_of(path.read_text()))) == (0, 1), first.stderr
    more = '[{"result": 0}, {"result": 1}, {"result": 2}]'
    again = there(service, *command, "--inputs", more)
    assert "1 jobs had completed before" in again.stderr
    assert [each["result"] for each in lines_of(path.read_text())] == [0, 1, 2]
    for option in (["--no-store"], ["--isolation", "runc"]):
        refused = there(service, *command, "--inputs", more, *option)
        assert (refused.returncode, option[0] in refused.stderr) == (2, True), refused.stderr


def test_cases_go_along_stay_with_their_version_and_are_read_like_the_source(
    client, service, tmp_path
):
    (tmp_path / "cases").mkdir()
    (tmp_path / "program.yaml").write_text("name: with-cases\ndescription: has cases\n")
    (tmp_path / "program.py").write_text("def main(b, m): return 1\n")
    case = {"expect": {"result": 1}}
    (tmp_path / "cases" / "one.json").write_text(json.dumps(case))
    program = client.upload(tmp_path)
    assert client.program(program)["version"] == 1
    assert client.cases(program) == {"one.json": case}
    assert client.run(program, backend="none").result(timeout=60) == 1
    url = f"{service.url}/v1/programs/{program}"
    owner = service.client("alice")
    # A client that knows of no cases keeps them with the new source.
    assert owner.put(
        f"{service.url}/api/v1/programs/{program}/data",
        data=b"def main(b, m): return 2\n",
    ).status_code in {200, 204}
    assert client.program(program)["version"] == 2
    assert client.cases(program) == {"one.json": case}
    (tmp_path / "cases" / "one.json").unlink()
    assert client.upload(tmp_path) == program
    assert client.cases(program) == {}
    old = owner.get(f"{url}/cases", params={"version": 1}).json()
    assert old == {"cases": {"one.json": case}}
    client.publish(program)
    assert service.client("bob").get(f"{url}/cases").status_code == 403
    (tmp_path / "cases" / "one.json").write_text("[")
    with pytest.raises(RequestError, match=r"cases/one\.json: not readable as JSON"):
        client.upload(tmp_path)
    shown = there(service, "programs", "show", program)
    assert (shown.returncode, "has cases" in shown.stdout) == (0, True), shown.stderr
    shown = there(service, "programs", "show", program, "--format", "json", user="bob")
    assert json.loads(shown.stdout)["cases"] is None


def test_what_differs_from_the_manifest_is_said_as_here(service, tmp_path):
    (tmp_path / "program.yaml").write_text("name: odd\nspec: {return_values: {type: string}}\n")
    (tmp_path / "program.py").write_text("def main(b, m): return 1\n")
    done = there(service, "run", str(tmp_path), "--backend", "none", "--format", "json")
    assert "result" in json.loads(done.stdout.splitlines()[-1])["mismatches"][0]


def test_a_result_there_is_an_input_of_the_next_job(service):
    first = there(service, "run", "--detach", str(ECHO), "--backend", "none", "-i", "result=[7]")
    job = first.stdout.strip()
    assert there(service, "result", job).stdout == "[7]\n"
    command = ["run", str(ECHO), "--backend", "none", "-i", f"result=@job:{job}/0"]
    assert there(service, *command).stdout == "7\n"


def test_pictures_files_and_long_lists_of_jobs_there_are_as_here(service, tmp_path):
    (tmp_path / "leaves.py").write_text(
        "def main(b, m):\n    open('/out/a.txt', 'w').write('x')\n    return {'0': 1, '1': 3}\n"
    )
    done = there(service, "run", "--detach", str(tmp_path / "leaves.py"), "--backend", "none")
    job = done.stdout.strip()
    assert there(service, "result", job).returncode == 0
    assert "a.txt" in there(service, "files", job).stdout
    assert there(service, "files", job, "-o", str(tmp_path / "out")).returncode == 0
    assert (tmp_path / "out" / "a.txt").read_text() == "x"
    drawn = there(service, "plot", job, "-o", str(tmp_path / "p.svg"))
    assert (drawn.returncode, (tmp_path / "p.svg").exists()) == (0, True), drawn.stderr
    both = there(service, "jobs", "--outcome", "completed", "--limit", "900")
    assert (both.returncode, job in both.stdout) == (0, True), both.stderr
