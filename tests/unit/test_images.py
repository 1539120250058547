"""What of image building needs no engine: names, hashes, locks and the lock files."""

import fcntl
import hashlib
import io
import json
import re
import sys
import tarfile
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import images
from runner.engine.client import _failure
from runner.engine.facts import EngineImage
from runner.errors import ImageError
from runner.host.commands import Command
from runner.images.archive import Addition
from runner.images.builds import KIND_LABEL, Builder, digest_of, tag_of
from runner.images.roots import RootLock, packages_digest

REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")  # what an engine accepts


@pytest.fixture
def builder(tmp_path):
    return Builder(engine=None, progress=images.silent, locks=tmp_path / "locks")


@pytest.fixture(scope="module")
def root_lock():
    return (images.base_directory() / "root.lock").read_text()


# --- hashes ---------------------------------------------------------------------------------------

files = st.dictionaries(st.text(max_size=5), st.binary(max_size=5), max_size=4)


@given(parent=st.text(max_size=5), one=files, other=files)
def test_different_files_have_different_digests(parent, one, other):
    assert (digest_of(parent, one) == digest_of(parent, other)) == (one == other)


@given(one=st.text(max_size=5), other=st.text(max_size=5), content=files)
def test_the_parent_is_part_of_the_digest(one, other, content):
    assert (digest_of(one, content) == digest_of(other, content)) == (one == other)


def test_the_digest_does_not_depend_on_the_order_of_the_files():
    assert digest_of("p", {"a": b"1", "b": b"2"}) == digest_of("p", {"b": b"2", "a": b"1"})


def test_moving_bytes_between_name_and_content_changes_the_digest():
    assert digest_of("p", {"ab": b"c"}) != digest_of("p", {"a": b"bc"})


def test_the_tag_is_the_beginning_of_the_digest():
    assert tag_of("stack", "0123456789abcdef" * 4) == "qiskit-program-runner/stack:0123456789ab"


def test_the_build_id_is_a_hash_of_the_guest():
    assert re.fullmatch("[0-9a-f]{64}", images.build_id())
    assert images.build_id() == images.build_id()


# --- names ----------------------------------------------------------------------------------------


@given(name=st.text(max_size=200))
def test_every_program_name_gives_a_repository_the_engine_accepts(name):
    repository = images.repository_name(name)
    assert REPOSITORY.fullmatch(repository)
    assert len(repository) <= 128


@pytest.mark.parametrize("name", ["hello_world", "random-circuits", "a.b", "x1", "a__b"])
def test_a_plain_name_stays_as_it_is(name):
    assert images.repository_name(name) == name


@pytest.mark.parametrize("name", ["root", "Stack", "guest"])
def test_a_program_cannot_take_the_name_of_a_base_image(name):
    assert images.repository_name(name) not in images.BASE_KINDS


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", ".", "a\0b"])
def test_a_file_outside_the_program_is_refused(path):
    store = images.ImageStore(engine=None)
    with pytest.raises(ImageError, match="relative path"):
        store.program({path: b""}, "tried")


# --- archives -------------------------------------------------------------------------------------

PARENT = EngineImage(
    id="sha256:1",
    labels={"kept": "yes", KIND_LABEL: "guest"},
    created="2026-12-01T00:00:00Z",
    tagged=0.0,
    layers=(f"sha256:{'a' * 64}",),
    config={"User": "1:1", "Env": ["A=1"], "Hostname": "builder"},
    platform={"architecture": "arm64", "os": "linux", "variant": "v8"},
)


def archive_of(files):
    archive = io.BytesIO()
    Addition(parent=PARENT, files=files, labels={KIND_LABEL: "program"}).write(archive, tag="x/y:1")
    return archive


def contents(archive):
    archive.seek(0)
    with tarfile.open(fileobj=archive) as tar:
        return {each.name: tar.extractfile(each) and tar.extractfile(each).read() for each in tar}


def test_an_archive_depends_on_nothing_but_parent_and_files(tmp_path):
    (tmp_path / "b").write_bytes(b"2")
    first = archive_of({"p/a": b"1", "p/q/b": tmp_path / "b"})
    time.sleep(0.01)
    (tmp_path / "c").write_bytes(b"2")
    (tmp_path / "c").chmod(0o4777)
    assert archive_of({"p/q/b": tmp_path / "c", "p/a": b"1"}).getvalue() == first.getvalue()
    assert archive_of({"p/a": b"1", "p/q/c": b"2"}).getvalue() != first.getvalue()


def test_an_archive_has_one_layer_and_names_those_below():
    found = contents(archive_of({"p/q/b": b"2"}))
    [listed] = json.loads(found["manifest.json"])
    [described] = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/{described['digest'].replace(':', '/')}"])
    config = json.loads(found[listed["Config"]])
    below, added = listed["Layers"]
    assert (below, below in found) == (f"blobs/sha256/{'a' * 64}", False)
    assert [each["digest"].replace(":", "/") for each in manifest["layers"]] == [
        each.removeprefix("blobs/") for each in listed["Layers"]
    ]
    assert config["rootfs"]["diff_ids"] == [each["digest"] for each in manifest["layers"]]
    assert config["config"]["Labels"] == {"kept": "yes", KIND_LABEL: "program"}
    assert config["config"]["User"] == "1:1"
    assert "Hostname" not in config["config"]
    assert (config["architecture"], config["variant"]) == ("arm64", "v8")
    with tarfile.open(fileobj=io.BytesIO(found[added])) as layer:
        members = {each.name: (each.mode, each.uid, each.mtime, each.type) for each in layer}
    assert members == {
        "p": (0o755, 0, 0, tarfile.DIRTYPE),
        "p/q": (0o755, 0, 0, tarfile.DIRTYPE),
        "p/q/b": (0o644, 0, 0, tarfile.REGTYPE),
    }


def test_every_blob_is_named_by_its_hash_and_described_by_its_size():
    found = contents(archive_of({"p/a": b"1" * 3_000_000}))
    blobs = {name: each for name, each in found.items() if name.startswith("blobs/")}
    assert len(blobs) == 3
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    [described] = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(found[f"blobs/{described['digest'].replace(':', '/')}"])
    for each in (described, manifest["config"], manifest["layers"][-1]):
        assert each["size"] == len(found[f"blobs/{each['digest'].replace(':', '/')}"])


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"stream": "Step 1"}, ""),
        ({"error": "no space\n", "errorDetail": {"message": "no space\n"}}, "no space"),
        ({"errorDetail": {"code": 1, "message": "no space"}}, "no space"),
        ({"error": "no space"}, "no space"),
        ({"errorDetail": {}}, "the engine did not say why"),
    ],
)
def test_an_engine_says_in_two_ways_that_it_has_failed(event, reason):
    assert _failure(event) == reason


# --- locks ----------------------------------------------------------------------------------------


def test_a_lock_excludes_another_thread_until_it_is_released(builder):
    order = []

    def second():
        with builder.locked("d" * 64, timeout_s=30):
            order.append("second")

    with builder.locked("d" * 64):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_waiting_for_a_lock_has_a_deadline(builder):
    with (
        builder.locked("d" * 64),
        pytest.raises(ImageError, match="somebody else"),
        builder.locked("d" * 64, timeout_s=0.1),
    ):
        pass


def test_locks_of_different_builds_do_not_meet(builder):
    with builder.locked("a" * 64), builder.locked("b" * 64, timeout_s=0):
        pass


def test_no_lock_file_stays(builder, tmp_path):
    with builder.locked("d" * 64):
        assert list((tmp_path / "locks").iterdir())
    assert not list((tmp_path / "locks").iterdir())


def test_a_place_that_cannot_be_written_is_an_image_error(tmp_path):
    (tmp_path / "locks").write_text("a file where the directory should be")
    builder = Builder(engine=None, progress=images.silent, locks=tmp_path / "locks")
    with pytest.raises(ImageError, match="XDG_CACHE_HOME"), builder.locked("d" * 64):
        pass


@pytest.mark.parametrize("is_replaced", [False, True])
def test_the_lock_of_a_file_that_is_gone_is_worth_nothing(
    builder, tmp_path, monkeypatch, is_replaced
):
    path = tmp_path / "locks" / f"{'d' * 24}.lock"
    lock = fcntl.flock

    def lose_the_race_once(descriptor, operation):
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()  # as its holder does when it lets go, after we have opened the file
        if is_replaced:
            path.touch()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lose_the_race_once)
    with pytest.raises(ImageError, match="somebody else"), builder.locked("d" * 64, timeout_s=0):
        pass


def test_at_most_one_of_many_threads_holds_a_lock(builder):
    holding, most = 0, 0

    def work():
        nonlocal holding, most
        for _ in range(20):
            with builder.locked("d" * 64):
                holding += 1
                most = max(most, holding)
                time.sleep(0.001)
                holding -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1


# --- root.lock and the wheels ---------------------------------------------------------------------


def test_the_official_image_is_pinned_by_digest(root_lock):
    lock = RootLock.from_text(root_lock)
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", lock.reference)
    assert lock.release == "bookworm"
    assert "python3" in lock.include


def test_the_packages_of_both_machines_are_locked(root_lock):
    packages = RootLock.from_text(root_lock).packages
    assert set(packages) == {"x86_64", "aarch64"}
    assert set(packages["x86_64"]) == set(packages["aarch64"])
    assert packages["x86_64"]["python3.11"].startswith("3.11.")


def test_differences_name_what_changed_what_is_new_and_what_is_gone(root_lock):
    lock = RootLock.from_text(root_lock)
    locked = dict(lock.packages["x86_64"])
    assert lock.differences("x86_64", locked) == []
    version = locked.pop("dash")
    found = {**locked, "sed": "99", "surprise": "1"}
    assert lock.differences("x86_64", found) == [
        f"dash absent (lock: {version})",
        f"sed 99 (lock: {locked['sed']})",
        "surprise 1 (lock: absent)",
    ]
    assert packages_digest(found) != packages_digest(locked)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"official": 1, "debian": 2}', "\x00"])
def test_a_broken_root_lock_is_an_image_error(text):
    with pytest.raises(ImageError, match=r"root\.lock"):
        RootLock.from_text(text)


def test_an_image_without_a_digest_is_refused(root_lock):
    content = json.loads(root_lock)
    content["official"]["reference"] = "python:3.11-slim-bookworm"
    with pytest.raises(ImageError, match="digest"):
        RootLock.from_text(json.dumps(content))


@pytest.mark.parametrize("name", ["requirements.lock", "pip.lock"])
def test_every_wheel_is_pinned_with_hashes_and_no_place_is_named(name):
    text = (images.base_directory() / name).read_text()
    assert "://" not in text
    pins = re.findall(
        r"^\S+==\S+ \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
    )
    assert len(pins) == text.count("==")


# --- subprocesses ---------------------------------------------------------------------------------


def test_a_failing_command_is_quoted():
    script = "import sys; sys.stderr.write('noise\\nE: no such package\\n'); sys.exit(7)"
    with (
        Command([sys.executable, "-c", script]) as command,
        pytest.raises(ImageError, match=r"(?s)trying failed \(exit code 7\).*E: no such package"),
    ):
        command.finish("trying", timeout_s=30)


def test_a_command_has_a_deadline_and_does_not_outlive_its_block():
    sleeper = Command([sys.executable, "-c", "import time; time.sleep(600)"])
    with sleeper as command, pytest.raises(ImageError, match=r"longer than 0\.2 s"):
        command.finish("sleeping", timeout_s=0.2)
    assert sleeper._process.poll() is not None
