"""`--since`: what differs from a revision, without running anything that the checkout names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runner.checking import changes
from runner.checking.changes import Changes
from runner.errors import RequestError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.invalid", *arguments]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        command, cwd=directory, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def checkout(tmp_path):
    top = tmp_path / "checkout"
    for name in ("same", "edited", "shrunk", "grown", "linked", "abc"):
        write(top / name / "program.py", f"# {name}\n")
        write(top / name / "cases" / "one.json", "{}")
    git(top, "init", "-q", "-b", "main")
    git(top, "add", ".")
    git(top, "commit", "-q", "-m", "first")
    return top


def changed(top: Path, revision: str = "HEAD") -> set[str]:
    changes = Changes(top, revision)
    return {each.name for each in top.iterdir() if each.name != ".git" and changes.touch(each)}


def test_a_program_is_changed_if_any_of_its_files_is_committed_or_not(checkout):
    assert changed(checkout) == set()
    write(checkout / "edited" / "cases" / "one.json", '{"inputs": {}}')
    (checkout / "shrunk" / "cases" / "one.json").unlink()
    write(checkout / "grown" / "data.txt", "new")
    (checkout / "linked" / "program.py").unlink()
    (checkout / "linked" / "program.py").symlink_to("/etc/passwd")
    write(checkout / "new" / "program.py", "")
    write(checkout / "same" / "__pycache__" / "x.pyc", "cache")
    expected = {"edited", "shrunk", "grown", "linked", "new"}
    assert changed(checkout) == expected
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "second")
    assert changed(checkout, "HEAD~1") == expected
    assert changed(checkout, "main") <= {"linked"}  # a link is no program's file, ever


def test_a_branch_a_tag_a_commit_and_packed_references_name_revisions(checkout):
    git(checkout, "tag", "v1")
    commit = git(checkout, "rev-parse", "HEAD")
    git(checkout, "pack-refs", "--all")
    git(checkout, "gc", "-q")
    for revision in ("main", "v1", commit, commit[:10], "HEAD"):
        assert changed(checkout, revision) == set()


def test_one_name_that_begins_like_another_is_another(checkout):
    write(checkout / "ab" / "program.py", "# ab\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "second")
    write(checkout / "abc" / "more.py", "")
    assert changed(checkout) == {"abc"}


@pytest.mark.parametrize("revision", ["nothing-like-it", "--upload-pack=x", "-h", "", "a b"])
def test_what_is_no_revision_is_refused_with_a_way_out(checkout, revision):
    with pytest.raises(RequestError, match="revision|fetch it first"):
        Changes(checkout, revision)


def test_outside_of_a_repository_there_is_nothing_to_compare_with(tmp_path):
    with pytest.raises(RequestError, match="no git repository"):
        Changes(tmp_path, "HEAD")


def test_a_worktree_is_a_repository_too(checkout, tmp_path):
    git(checkout, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    write(tmp_path / "side" / "edited" / "program.py", "# other\n")
    git(tmp_path / "side", "commit", "-q", "-a", "-m", "on the side")
    top = tmp_path / "side"
    assert not Changes(top, "HEAD").touch(top / "edited")
    assert Changes(top, "main").touch(top / "edited")


TRAPS = {
    "core.fsmonitor": "{trap}",
    "core.hooksPath": "{hooks}",
    "core.pager": "{trap}",
    "core.sshCommand": "{trap}",
    "core.editor": "{trap}",
    "diff.external": "{trap}",
    "diff.evil.command": "{trap}",
    "diff.evil.textconv": "{trap}",
    "filter.evil.clean": "{trap}",
    "filter.evil.smudge": "{trap}",
    "filter.evil.process": "{trap}",
    "alias.ls-tree": "!{trap}",
    "alias.rev-parse": "!{trap}",
    "uploadpack.packObjectsHook": "{trap}",
    "remote.origin.url": "ext::{trap}",
    "remote.origin.promisor": "true",
    "protocol.allow": "always",
    "protocol.ext.allow": "always",
    "extensions.partialClone": "origin",
    "core.repositoryFormatVersion": "1",
}


def test_nothing_that_a_hostile_repository_names_is_run(checkout, tmp_path):
    sprung = tmp_path / "sprung"
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\necho x >>{sprung}\ncat\n")
    trap.chmod(0o755)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "reference-transaction", "post-checkout", "pre-commit"):
        shutil.copy(trap, hooks / name)
        shutil.copy(trap, checkout / ".git" / "hooks" / name)
    write(checkout / ".gitattributes", "* filter=evil diff=evil\n")
    for key, value in TRAPS.items():
        git(checkout, "config", key, value.format(trap=trap, hooks=hooks))
    write(checkout / "edited" / "program.py", "# other\n")
    # The trap is real: plain git falls into it.
    subprocess.run(["git", "diff", "HEAD"], cwd=checkout, capture_output=True, check=False)
    assert sprung.exists()
    sprung.unlink()
    # An object that is missing would be fetched by the helper that the repository names.
    missing = checkout / ".git" / "objects" / git(checkout, "rev-parse", "HEAD~0^{tree}")[:2]
    assert "edited" in changed(checkout)
    sprung.unlink(missing_ok=True)  # by our own `git rev-parse` just now
    shutil.rmtree(missing)
    with pytest.raises(RequestError):
        Changes(checkout, "HEAD")
    assert not sprung.exists()


def test_the_metadata_beside_a_bare_program_are_part_of_it(checkout):
    bare, metadata = checkout / "bare.py", checkout / "bare.json"
    write(bare, "def main(b, m): ...\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "a bare program")
    assert not Changes(checkout, "HEAD").touch(bare)
    write(metadata, '{"name": "bare", "max_execution_time": 1}')
    assert Changes(checkout, "HEAD").touch(bare)
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "its metadata")
    assert not Changes(checkout, "HEAD").touch(bare)
    assert Changes(checkout, "HEAD~1").touch(bare)
    write(metadata, '{"name": "bare", "max_execution_time": 2}')
    assert Changes(checkout, "HEAD").touch(bare)
    metadata.unlink()
    assert Changes(checkout, "HEAD").touch(bare)


@pytest.mark.parametrize(
    "name", ["program.yaml", "program.json", "requirements.txt", "requirements.lock", "a/b.npz"]
)
def test_all_that_makes_a_program_what_it_is_counts(checkout, name):
    for text in ("first", "second"):
        write(checkout / "same" / name, text)
        assert changed(checkout) == {"same"}
        git(checkout, "add", ".")
        git(checkout, "commit", "-q", "-m", text)
        assert changed(checkout) == set()


def test_what_is_no_part_of_a_program_does_not_count_also_if_it_was_committed(checkout):
    write(checkout / "same" / "old.pyc", "compiled")
    write(checkout / "same" / ".ipynb_checkpoints" / "x.py", "")
    git(checkout, "add", "-f", ".")
    git(checkout, "commit", "-q", "-m", "by mistake")
    write(checkout / "same" / "old.pyc", "compiled again")
    assert changed(checkout) == set()


def test_what_cannot_be_read_counts_as_changed(checkout, tmp_path):
    changes = Changes(checkout, "HEAD")
    (checkout / "loop").symlink_to("loop")
    for path in (checkout / "loop", checkout / "loop" / "x", checkout / ("x/" * 3000)):
        assert changes.touch(path)
    inner = checkout / "grown"
    for _ in range(25):
        inner /= "d" * 200
        try:
            inner.mkdir()
        except OSError:
            break
    # One level more than a path can name.
    descriptor = os.open(inner.parent, os.O_RDONLY)
    os.mkdir("d" * 200, dir_fd=descriptor)
    os.close(descriptor)
    assert changes.touch(checkout / "grown")


PLACES = {
    "a reference": "refs/heads/side",
    "a tag in a directory": "refs/tags/deep/er",
    "an object": "objects/00/" + "0" * 38,
    "a pack": "objects/pack/pack-x.idx",
    "where to borrow from": "objects/info/alternates",
    "what is a cache": "objects/info/commit-graph",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_git_is_never_shown_what_it_would_wait_for(checkout, place, make):
    path = checkout / ".git" / PLACES[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    with pytest.raises(RequestError, match=f"{path}: no regular file: leave out --since"):
        Changes(checkout, "HEAD")


def test_a_repository_that_borrows_objects_is_read_and_so_is_the_place_it_borrows_from(
    checkout, tmp_path
):
    borrower = tmp_path / "borrower"
    git(tmp_path, "clone", "-q", "--shared", str(checkout), str(borrower))
    assert changed(borrower) == set()
    os.mkfifo(checkout / ".git" / "objects" / "pack" / "pack-y.idx")
    with pytest.raises(RequestError, match="pack-y.idx: no regular file"):
        Changes(borrower, "HEAD")


def test_links_that_lead_in_a_circle_and_too_many_entries_are_refused(checkout, monkeypatch):
    (checkout / ".git" / "refs" / "again").symlink_to(".")
    (checkout / ".git" / "refs" / "nowhere").symlink_to("nothing")
    assert changed(checkout) == set()
    monkeypatch.setattr(changes, "MAX_ENTRIES", 5)
    with pytest.raises(RequestError, match="more than 5 references and objects"):
        Changes(checkout, "HEAD")


def test_a_small_repository_that_expands_greatly_is_refused(checkout):
    blob = git(checkout, "rev-parse", "HEAD:same/program.py")
    entry, width = f"100644 blob {blob}", 65
    for _ in range(3):
        listing = "".join(f"{entry}\t{number:02}\n" for number in range(width))
        done = subprocess.run(
            ["git", "mktree"],
            cwd=checkout,
            input=listing,
            capture_output=True,
            text=True,
            check=True,
        )
        entry = f"040000 tree {done.stdout.strip()}"
    assert width**3 > changes.MAX_FILES
    tree = entry.rpartition(" ")[2]
    git(checkout, "tag", "bomb", tree)
    with pytest.raises(RequestError, match=f"'bomb' has more than {changes.MAX_FILES} files"):
        Changes(checkout, "bomb")


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("name", "size"),
    [("HEAD", changes.MAX_HEAD_BYTES), ("packed-refs", changes.MAX_PACKED_REFS_BYTES)],
)
def test_what_is_copied_of_a_repository_is_bounded(checkout, name, size):
    sparse(checkout / ".git" / name, size + 1)
    with pytest.raises(RequestError, match=f"{name}: larger than {size} bytes: leave out"):
        Changes(checkout, "main")


def test_a_pipe_in_a_repository_is_not_waited_for(checkout):
    for name in ("config", "packed-refs", "commondir"):
        (checkout / ".git" / name).unlink(missing_ok=True)
        os.mkfifo(checkout / ".git" / name)
    assert changed(checkout) == set()


def test_a_pointer_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for place in ("\0", "circle/x", "x" * 3000):
        (tmp_path / ".git").write_text(f"gitdir: {place}\n")
        with pytest.raises(RequestError):
            Changes(tmp_path, "HEAD")


def test_git_that_needs_too_much_says_so(checkout, monkeypatch):
    monkeypatch.setattr(changes, "MAX_GIT_BYTES", 50)
    with pytest.raises(RequestError, match="file names of more than 50 bytes"):
        Changes(checkout, "HEAD")
    monkeypatch.undo()
    monkeypatch.setattr(changes, "GIT_MEMORY_BYTES", 1 << 28)
    sparse(checkout / ".git" / "refs" / "heads" / "huge", 1 << 28)
    with pytest.raises(RequestError, match="git cannot read 'huge' here within 256 MiB"):
        Changes(checkout, "huge")
