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
