"""What the program writes is the log, whatever way it takes, and never a frame."""

import time

import pytest

from sandbox.wire import protocol
from tests.contract.guest import Guest, run

FORGED = '{"type":"result","job":7,"messages":0,"done":true,"value":"forged"}'


@pytest.mark.parametrize(
    "write",
    [
        "print(line)",
        "sys.stdout.buffer.write(line.encode() + b'\\n')",
        "os.write(1, line.encode() + b'\\n')",
        "os.write(2, line.encode() + b'\\n')",
        "subprocess.run(['echo', line], check=True)",
        "os.system(f\"echo '{line}'\")",
        "ctypes.CDLL(None).puts(line.encode())",
        "open('/dev/stdout', 'w').write(line + '\\n')",
        "print(line, end='')",
    ],
)
def test_no_write_lands_in_the_result(carrier, write):
    source = f"""
        import ctypes, os, subprocess, sys
        def main(backend, user_messenger):
            line = {FORGED!r}
            {write}
            return "real"
    """
    report = run(source, carrier=carrier)
    assert report.value == '"real"'
    assert FORGED in report.log


def test_writes_while_the_program_is_imported_are_log_too(carrier):
    report = run("print('at import')\ndef main(backend, user_messenger): return 1", carrier=carrier)
    assert report.value == "1"
    assert report.log == "at import\n"


def test_stdin_is_empty(carrier):
    source = """
        import os, subprocess, sys
        def main(backend, user_messenger):
            child = subprocess.check_output("cat")
            return [sys.stdin.read(), os.read(0, 10).decode(), child.decode()]
    """
    assert run(source, carrier=carrier).value == '["","",""]'


@pytest.mark.parametrize(
    "damage",
    [
        "sys.stdout = sys.stderr = None",
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = Hangs()",
        "sys.stdout.flush = Hangs().flush",
        "print('it', end=''); sys.stdout.buffer.raw.write = lambda _: Hangs().flush()",
        "del sys.stdout",
        "os.dup2(full_pipe(), 1); print('it', end='')",
        "sys.stdout = open(full_pipe(), 'w'); print('it', end='')",
        "os.close(0); os.close(1); os.close(2)",
        "os.closerange(0, 256)",
        "sys.stdout.detach()",
        "import json; json.dumps = json.loads = None",
        "import threading; threading.Thread(target=time.sleep, args=[60]).start()",
        "import atexit; atexit.register(time.sleep, 60)",
        "import builtins; builtins.open = None",
    ],
)
def test_damage_to_the_process_does_not_cost_the_result(damage):
    source = f"""
        import os, sys, time
        class Hangs:
            def write(self, text): pass
            def flush(self):
                while True: time.sleep(1)
        def full_pipe():
            _, writer = full_pipe.ends = os.pipe()
            os.write(writer, bytes(65536))
            return writer
        def main(backend, user_messenger):
            print("before")
            sys.stdout.flush()
            {damage}
            return "real"
    """
    report = run(source)
    assert report.value == '"real"'
    assert "before" in report.log


def test_any_text_can_be_printed(carrier):
    source = r"""
        def main(backend, user_messenger):
            print("lone \\ud800 and ü")
            return 1
    """.replace("\\\\", "\\")
    report = run(source, carrier=carrier)
    assert report.value == "1"
    assert "lone \\ud800 and ü" in report.log


def test_logging_follows_the_level_of_the_request(carrier):
    source = """
        import logging
        def main(backend, user_messenger):
            logging.getLogger("mine").info("an info")
            logging.getLogger("mine").warning("a warning")
    """
    assert "an info" not in run(source, carrier=carrier).log
    report = run(source, carrier=carrier, options={"log_level": "INFO"})
    assert "an info" in report.log
    assert "a warning" in report.log


def test_what_a_stream_of_the_programs_writes_to_another_when_it_is_flushed_is_log(carrier):
    source = """
        import sys
        class Late:
            kept = ""
            def __eq__(self, other):
                raise SystemExit
            def write(self, text):
                self.kept += text
            def flush(self):
                sys.stderr.write(self.kept)
                self.kept = ""
        def main(backend, user_messenger):
            sys.stdout = Late()
            print("important", end="")
    """
    assert run(source, carrier=carrier).log == "important"


BYTEWISE = """
    import glob, os, stat, time
    def main(backend, user_messenger, stream):
        numbers = sorted(int(os.path.basename(each)) for each in glob.glob("/proc/self/fd/*"))
        for number in numbers[3:]:
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    break
            except OSError:
                continue
        number = 2 if stream == "stderr" else number
        line = b'{"type":"result","job":7,"messages":0,"done":true,"value":"%s"}\\n' % (b"x" * 2000)
        for each in line:
            os.write(number, bytes([each]))
            time.sleep(0.0001)
        os._exit(0)
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_is_written_byte_by_byte_leaves_in_few_pieces_and_whole(stream):
    with Guest(BYTEWISE) as guest:
        guest.listen()
        guest.wait_for_frame(protocol.Ready)
        began = time.monotonic()
        guest.send(inputs={"stream": stream})
        report = guest.report()
        took = time.monotonic() - began
    written = bytes(guest.raw[stream])
    assert b"x" * 2000 + b'"}\n' in written
    assert (report.last != []) is (stream == "stdout")
    # At most the first 64 at once, and one each 5 ms; fewer where the reader is slow. The result
    # stream carries the report of its end too.
    assert guest.pieces[stream] <= 64 + took / 0.005 + 2


def test_a_few_prints_are_not_kept_waiting():
    source = "import time\ndef main(b, m):\n    print('once')\n    time.sleep(30)\n"
    with Guest(source) as guest:
        guest.listen()
        guest.send()
        guest.wait_for_log("once\n")
        assert not guest.frames or not isinstance(guest.frames[-1], protocol.Exited)
