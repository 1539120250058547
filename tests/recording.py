"""A terminal that can be read: commands run in it, and what stood on its screen is text.

`python -m tests.recording` (`make record`) runs the commands of docs/terminal.md and writes what
they showed between its markers; and draws a screen, docs/pictures/run.svg, that README shows.  The
tests of the live view use the same terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyte
import pyte.screens
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "terminal.md"
PICTURE = ROOT / "docs" / "pictures" / "run.svg"
PICTURED = "qrunner run energy.py"
DEADLINE_S = 120.0
HISTORY = 2000
COLUMNS = 84
ATTEMPTS = 4
MARKED = re.compile(
    r"(<!-- recorded(?P<midway> midway)?: (?P<command>.+?) -->\n)```text\n.*?```\n", re.DOTALL
)

FILES = {
    "energy.py": """
        import time

        def main(backend, user_messenger, steps=8):
            for step in range(1, steps + 1):
                time.sleep(0.4)
                message = {"progress": {"done": step, "total": steps}}
                if step % 4 == 0:
                    message["energy"] = -1.137 + 0.5 / 3**step
                user_messenger.publish(message)
            return {"00": 489, "11": 502, "01": 9}
        """,
    "fails.py": """
        def main(backend, user_messenger):
            user_messenger.publish("so far, so good")
            return 1 / 0
        """,
    "mixed.py": """
        import numpy as np
        from qiskit import QuantumCircuit
        from qiskit.quantum_info import SparsePauliOp

        def main(backend, user_messenger):
            bell = QuantumCircuit(2, name="bell")
            bell.h(0)
            bell.cx(0, 1)
            return {
                "hamiltonian": SparsePauliOp(["ZZ", "XI", "IX"], [1, -0.5, -0.5]),
                "energies": np.linspace(-1, 0, 20),
                "circuit": bell,
            }
        """,
    "slow.py": """
        import time

        def main(backend, user_messenger):
            time.sleep(60)
        """,
    "theirs/adds/program.yaml": "name: adds",
    "theirs/adds/program.py": "def main(backend, user_messenger, n=1): return n + 1",
    "theirs/adds/cases/one.json": '{"backend": "none", "expect": {"result": 2}}',
    "theirs/adds/cases/two.json": '{"backend": "none", "expect": {"result": 4}}',
    "theirs/forges/program.yaml": "name: forges",
    "theirs/forges/program.py": """
        def main(backend, user_messenger):
            print("\\x1b[2J::error::forged")
            print("ok    forges :: one  (completed, 0.01 s)")
            raise RuntimeError("##[set-output name=x]y")
        """,
    "theirs/forges/cases/one.json": '{"backend": "none"}',
    "theirs/sleeps/program.yaml": "name: sleeps\nmax_execution_time: 2",
    "theirs/sleeps/program.py": """
        import time

        def main(backend, user_messenger):
            time.sleep(60)
        """,
    "theirs/sleeps/cases/one.json": '{"backend": "none"}',
}
"""What is there, beside the examples, where the commands of the document are run."""


@dataclass
class Recording:
    """What a command showed: the last screen with all that scrolled off, and those before it."""

    status: int = 0
    text: str = ""
    raw: bytes = b""
    stdout: bytes = b""
    moments: list[str] = field(default_factory=list)
    lines: list[Text] = field(default_factory=list)


def record(
    command: list[str],
    *,
    columns: int = 80,
    rows: int = 24,
    pipe_stdout: bool = False,
    environment: dict[str, str] | None = None,
    interrupt_at: str | None = None,
) -> Recording:
    """Run a command on a terminal of this size until it ends.

    `pipe_stdout` gives it a pipe for stdout; `interrupt_at` presses Ctrl-C once that is shown.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    clean = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "CI"}}
    clean |= {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **(environment or {})}
    screen = pyte.HistoryScreen(columns, rows, history=HISTORY, ratio=1)
    stream = pyte.ByteStream(screen)
    seen = Recording()
    child = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.PIPE if pipe_stdout else theirs,
        stderr=theirs,
        env=clean,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        for data in _pieces(ours, child):
            seen.raw += data
            stream.feed(data)
            shown = _shown(screen)
            if not seen.moments or seen.moments[-1] != shown:
                seen.moments.append(shown)
            if interrupt_at and interrupt_at in shown:
                interrupt_at = None
                os.killpg(child.pid, signal.SIGINT)
        if child.stdout is not None:
            seen.stdout = child.stdout.read()
            child.stdout.close()
        seen.status = child.wait(DEADLINE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
        os.close(ours)
    seen.text = _shown(screen)
    used = len("\n".join(screen.display).rstrip().split("\n"))
    seen.lines = [_coloured(screen.buffer[row], columns) for row in range(used)]
    return seen


def _pieces(terminal: int, child: subprocess.Popen[bytes]):
    """Yield what is written to the terminal until nobody has it open any more."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.2)[0]:
            if child.poll() is not None:
                return
            continue
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # EIO: the last one has closed it
            return
        if not data:
            return
        yield data


def _shown(screen: pyte.HistoryScreen) -> str:
    above = [
        "".join(line[column].data for column in range(screen.columns)).rstrip()
        for line in screen.history.top
    ]
    lines = [*above, *(line.rstrip() for line in screen.display)]
    return "\n".join(lines).rstrip() + "\n"


def _coloured(cells: dict[int, pyte.screens.Char], columns: int) -> Text:
    line = Text()
    for column in range(columns):
        cell = cells[column]
        colour = "default" if cell.fg == "default" else cell.fg.replace("brown", "yellow")
        line.append(cell.data, f"bold {colour}" if cell.bold else colour)
    line.rstrip()
    return line


def _draw(command: str, lines: list[Text]) -> str:
    """Return a screen as SVG; its fonts are those of whoever looks, nothing is fetched."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    for each in [Text(f"$ {command}", "bold"), *lines]:
        console.print(each)
    drawn = console.export_svg(title="qrunner", unique_id="run")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def main() -> None:
    """Run what the document names, and put what it showed into it."""

    def again(match: re.Match[str]) -> str:
        lines = []
        for command in match["command"].split("; "):
            seen = _run(command)
            lines += [f"$ {command}\n", _midway(seen) if match["midway"] else seen.text]
        return f"{match[1]}```text\n{''.join(lines)}```\n"

    with tempfile.TemporaryDirectory() as place:
        for name, source in FILES.items():
            path = Path(place) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source).strip() + "\n")
        os.chdir(place)
        DOCUMENT.write_text(MARKED.sub(again, DOCUMENT.read_text()))
        PICTURE.write_text(_draw(PICTURED, _run(PICTURED).lines))


def _run(command: str) -> Recording:
    """Run a command of ours as its user types it, until its images are there."""
    sys.stderr.write(f"$ {command}\n")
    shell = ["bash", "-c", f"PATH={ROOT}/.venv/bin:$PATH; {command}"]
    seen = record(shell, columns=COLUMNS)
    for _ in range(ATTEMPTS):
        if "qrunner: building" not in seen.text:
            break
        seen = record(shell, columns=COLUMNS)
    return seen


def _midway(seen: Recording) -> str:
    """Return a screen of the time when bars were half full."""
    live = [moment for moment in seen.moments if "░" in moment]
    return live[len(live) * 2 // 3]


if __name__ == "__main__":
    main()
