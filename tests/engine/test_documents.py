"""The documents, followed to the letter: files are written, commands run, and what they show."""

from __future__ import annotations

import doctest
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import PAGES, ROOT, Block, blocks, short

pytestmark = pytest.mark.engine

TUTORIAL = ROOT / "docs" / "tutorial.md"
DEADLINE_S = 280
MARK = "=== line"
MATCHING = doctest.ELLIPSIS


def script(page: list[Block]) -> str:
    """Return one script of a whole page; what a block shows follows a mark with its line."""
    parts = ["set -e"]
    for block in page:
        end = f"END_OF_LINE_{block.line}"
        if block.file:
            parts.append(f"mkdir -p {Path(block.file).parent}")
            parts.append(f"cat >{block.file} <<'{end}'\n{block.text}{end}")
        elif block.is_run:
            parts.append(f"echo '{MARK} {block.line}'")
            python = f"python - <<'{end}'\n{block.text}{end}"
            parts.append(python if block.language == "python" else ready(block.text))
    return "\n".join(parts)


def ready(commands: str) -> str:
    """Return commands without the set-up that `make` begins with: no test is to renew .venv."""
    return re.sub(r"^make ", "make -o venv -o engine ", commands, flags=re.MULTILINE)


def shown(output: str) -> dict[int, str]:
    """Return what each block that was run has shown, by its line."""
    pieces = re.split(rf"^{MARK} (\d+)\n", output, flags=re.MULTILINE)
    return dict(zip(map(int, pieces[1::2]), pieces[2::2], strict=True))


def follow(page: Path, directory: Path, home: Path) -> None:
    """Do what a page says and compare what is seen; a reader sees stdout and stderr as one."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    environment = {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "HOME": str(home),
        "QRUNNER_STORE": str(home),
    }
    page_blocks = blocks(page)
    done = subprocess.run(
        ["bash", "-c", script(page_blocks)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout
    seen = shown(done.stdout)
    for block, after in itertools.pairwise(page_blocks):
        if block.is_run and after.language == "text" and after.file is None:
            wanted = f"...{after.text}"
            matches = doctest.OutputChecker().check_output(wanted, seen[block.line], MATCHING)
            assert matches, f"{block} shows\n{seen[block.line]}instead of\n{after.text}"


@pytest.fixture
def clone(tmp_path):
    """A directory that is to a reader what this clone is, in which files may be left."""
    directory = tmp_path / "clone"
    directory.mkdir()
    for each in ROOT.iterdir():
        (directory / each.name).symlink_to(each)
    return directory


def test_the_tutorial_to_the_letter(clone, tmp_path):
    follow(TUTORIAL, clone, tmp_path)


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in [ROOT / "README.md", *PAGES]
        if page != TUTORIAL and any(block.is_run for block in blocks(page))
    ],
    ids=short,
)
def test_what_a_page_shows_is_what_it_does(page, tmp_path):
    follow(page, tmp_path, tmp_path)
