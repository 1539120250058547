"""The attacks are real: what a sandbox blocks works where there is none, and is no accident.

Programs of the corpus run in their own images with a plain `docker run`: the engine's defaults, its
own filter, root, and only the network left out.  Where even that blocks an attack, the container is
opened further, by name, until the attack works.  What would not leave engine and host whole is not
shown, and says why.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.engine import Engine
from runner.images import ImageStore
from runner.programs import read_directory

pytestmark = [pytest.mark.engine, pytest.mark.security, pytest.mark.slow]

CORPUS = Path(__file__).parent / "corpus"

# What `docker run` gets besides.  Memory and processes are bounded for this machine's sake only.
BOUNDS = ("--network=none", "--memory=512m", "--pids-limit=256", "--log-driver=none")
ROOT = ("--user=0:0",)  # the default of an image that says nothing else
OPEN = (*ROOT, "--security-opt=seccomp=unconfined", "--cap-add=SYS_ADMIN")

CALL = """
import json, sys
sys.path.insert(0, "/program")
class Messenger:
    sent = 0
    def publish(self, *_, **__):
        Messenger.sent += 1
import program
answer = program.main(None, Messenger(), **json.loads(sys.argv[1]))
print("ANSWER", json.dumps({"answer": answer, "sent": Messenger.sent}))
"""


@dataclass(frozen=True)
class Bare:
    """How an attack runs without a sandbox, and what of it works there."""

    works: object
    flags: tuple[str, ...] = ()
    case: str | None = None


def works(*names):
    """The answer is a mapping, and these attempts did not say "blocked"."""
    return set(names)


BARE = {
    "gain-privileges": Bare(works("become_root", "become_another"), ROOT),
    "attack-pid-1": Bare(
        works("write_memory", "read_environment", "look_at_its_map", "change_its_limits"),
        case="blocked",
    ),
    "kernel-knobs": Bare(works("/proc/1/oom_score_adj")),
    "new-namespaces": Bare(works("unshare user", "clone user", "unshare mount"), OPEN),
    "walls-from-inside": Bare(
        works("uncover /proc/keys", "mount_another tmpfs", "fsopen", "keep_none"), OPEN
    ),
    "reach-for-others": Bare(
        works("environ of the first process", "mem of the first process"), ROOT
    ),
    "quotas-of-a-user": Bare(works("timers and signals"), ROOT),
    "kernel-interfaces": Bare({"memfd_create", "splice", "ptrace", "shmget", "inotify_init1"}),
    "socket-families": Bare({2, 10, 16}),
    "socket-options": Bare(works("filter_of_packets", "lock_of_filters", "name_without_bind")),
    "network": Bare(works("be_a_server", "be_an_abstract_server")),
    "compat-system-calls": Bare(works("int 0x80"), case="in_a_child"),
    "priority-and-locks": Bare(works("lock_a_page", "raise_a_limit", "anybody is spared")),
    # The engine's own limit is a million of them, which may be all that the host has.
    "descriptors-without-end": Bare(works("files", "sockets"), ("--ulimit=nofile=4096:4096",)),
    "leaked-descriptors": Bare(works("unexpected environment"), ("--env=SECRET=x",)),
    "look-around": Bare(
        {"/proc/stat", "/proc/interrupts", "/proc/sys/fs", "/sys/class"}, case="masks"
    ),
    "leave-traces": Bare('"left": 7', ROOT),
    "inputs-as-options": Bare(works("inputs")),
    "result-unencodable": Bare("TypeError", case="object"),
    "exceptions-are-hostile": Bare("ValueError", case="chain"),
    "exit-codes-lie": Bare(137, case="code_137"),
    "time-ignores-the-limit": Bare("still running", case="ignore_signals"),
    "time-in-the-import": Bare("still running"),
    "output-terminal-and-ci-commands": Bare("\x1b]52;c;bHMK"),
    "output-holds-forged-results": Bare('"value":"forged"'),
    "life-stops-everything": Bare("still running", ("--init",)),
    "life-forks-out-of-main": Bare('"answer": "the child\'s"'),
    "memory-without-end": Bare(137, ("--memory=128m", "--memory-swap=128m"), case="heap"),
    "memory-of-a-child": Bare(0, ("--memory=128m", "--memory-swap=128m")),
}

CHANNEL = "speaks our protocol: without a sandbox there is no channel and no host at its other end"
NOT_SHOWN = {
    "channel-closes-everything": CHANNEL,
    "channel-dribble": CHANNEL,
    "channel-endless-line": CHANNEL,
    "channel-flood": CHANNEL,
    "channel-flood-through-the-messenger": CHANNEL,
    "channel-half-a-frame-at-the-end": CHANNEL,
    "channel-imitates-events": CHANNEL,
    "channel-malformed-frames": CHANNEL,
    "channel-more-connections": CHANNEL,
    "channel-pass-descriptors": CHANNEL,
    "channel-replace-socket": CHANNEL,
    "channel-second-sender": CHANNEL,
    "channel-typed-payload": CHANNEL,
    "channel-wide-payload": CHANNEL,
    "result-decoded-by-the-host": "attacks whoever reads its result, and there is nobody",
    "forged-frames": CHANNEL,
    "forged-result-too-large": CHANNEL,
    "life-rewrites-the-guest": CHANNEL,
    "life-drops-the-lifeline": CHANNEL,
    "result-sabotaged": "breaks its own interpreter, which is what it does anywhere",
    "result-too-large": "a size is too large only where a limit is",
    "packaging": "its Dockerfile would have to be built, which is the attack",
    "output-flood": "fills the host's disk: json-file logs are shown below, with a bound",
    "processes-without-end": "without a limit on processes it takes the machine",
    "disk-without-end": "without a limit it fills this machine's disk, not the container's",
    "cpu-without-end": "without a quota it takes the machine's cores from the other tests",
    "output-byte-by-byte": "its cost shows in the engine's CPU time, which test_output measures",
    "time-speaks-as-the-host": "outside of a sandbox there is no host that could be spoken for",
    "life-leader-leaves": "the engine loses hold of its container, which it can no longer kill",
    "life-kills-everything": "as root in a container without PID 1 of ours it may hang the engine",
    "life-signal-storm": "harmless to whoever does not handle signals: there is nothing to show",
    "life-survivors": "survivors of a container without limits would be ours to hunt",
    "life-orphans": "a fork bomb where nobody reaps",
}


@pytest.fixture(scope="module")
def images():
    engine = Engine.connect()
    yield ImageStore(engine, progress=lambda line: None)
    engine.close()


def run_bare(image, flags, inputs, name, timeout=20):
    """Run the program's `main` without anything of ours; kill what does not end by itself."""
    command = [
        *("docker", "run", "--rm", "-i", f"--name={name}", *BOUNDS, *flags),
        *("--entrypoint=python3", image, "-c", CALL, json.dumps(inputs)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return "still running", ""
    finally:
        process.kill()
        process.communicate()
        remove(name)


def remove(name):
    """Remove a container and wait until it is gone."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True)
        if subprocess.run(["docker", "inspect", name], capture_output=True).returncode:
            return
        time.sleep(0.5)
    pytest.fail(f"container {name} cannot be removed")


def answer_of(output):
    found = re.search(r"^ANSWER (.*)$", output, flags=re.MULTILINE)
    assert found, output[-2000:]
    return json.loads(found[1])["answer"]


def succeeded(answer):
    """Return what of an answer did not say "blocked" or no, or stay empty, by its names."""
    if isinstance(answer, list):
        return {each[0] if isinstance(each, list) else each for each in answer}
    return {name for name, said in answer.items() if said not in ("blocked", "limited", [], False)}


@pytest.mark.parametrize("name", sorted(BARE))
def test_without_the_sandbox_the_attack_works(images, name):
    attack, program = BARE[name], read_directory(CORPUS / name)
    case = attack.case or min(path.stem for path in (CORPUS / name / "cases").glob("*.json"))
    inputs = json.loads((CORPUS / name / "cases" / f"{case}.json").read_text())["inputs"]
    image = images.program(program.files, program.name).id
    patience = 5 if attack.works == "still running" else 30
    code, output = run_bare(image, attack.flags, inputs, f"bare-{name}", patience)
    if isinstance(attack.works, int) or attack.works == "still running":
        assert code == attack.works
    elif isinstance(attack.works, str):
        assert attack.works in output
    else:
        assert attack.works <= succeeded(answer_of(output))


def test_every_program_is_shown_to_work_or_says_why_not():
    names = {path.parent.name for path in CORPUS.glob("*/program.yaml")}
    assert names == BARE.keys() | NOT_SHOWN.keys()
    assert not BARE.keys() & NOT_SHOWN.keys()


def test_the_engines_own_log_multiplies_on_the_hosts_disk(images):
    """`json-file`, the engine's default: 1 MiB of output, many MiB of log."""
    program = read_directory(CORPUS / "output-flood")
    image = images.program(program.files, program.name).id
    flood = "import os; [os.write(1, b'y\\n' * 512) for _ in range(1024)]"
    name = "bare-log"
    command = ["docker", "run", "-d", f"--name={name}", "--network=none", "--log-driver=json-file"]
    try:
        subprocess.run([*command, "--entrypoint=python3", image, "-c", flood], check=True)
        subprocess.run(["docker", "wait", name], check=True, capture_output=True, timeout=60)
        path = subprocess.run(
            ["docker", "inspect", "-f", "{{.LogPath}}", name], capture_output=True, text=True
        ).stdout.strip()
        if not Path(path).exists():
            pytest.skip("the engine's files are not on this host")
        assert Path(path).stat().st_size > 20 << 20
    finally:
        remove(name)
