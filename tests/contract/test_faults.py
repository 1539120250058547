"""A failing program: the right kind, its own words, its own frames."""

import pytest

from sandbox.wire import protocol
from tests.contract.guest import run


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("def main(:\n", "SyntaxError: "),
        ("x = 1\n", "NoMainError: program.py has no main(backend, user_messenger, **kwargs)"),
        ("main = 5\n", "NoMainError: main in program.py is not a function but a int"),
        ("import nothing_like_it\n", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("class Own(BaseException): pass\nraise Own('x')\n", "program.Own: x"),
        ("\0", "SyntaxError: "),
    ],
)
def test_a_program_that_cannot_be_imported(source, error):
    fault = run(source).fault
    assert fault.kind == "init_error"
    assert fault.error.startswith(error)
    assert fault.messages == 0


def test_a_missing_program_and_an_unknown_backend(carrier):
    source = "def main(backend, user_messenger): pass"
    fault = run(source, carrier=carrier, entry="other.py").fault
    assert (fault.kind, fault.error.split(":")[0]) == ("init_error", "FileNotFoundError")
    fault = run(source, carrier=carrier, backend={"name": "real_hardware"}).fault
    assert fault.kind == "invalid_inputs"
    assert "unknown backend 'real_hardware'; it is one of: aer_simulator" in fault.error


@pytest.mark.parametrize(
    ("signature", "inputs", "error"),
    [
        (
            "backend, user_messenger, iterations=5",
            {"iteratoins": 3},
            "TypeError: the inputs do not fit main: unknown argument 'iteratoins'; "
            "it takes: iterations=5",
        ),
        (
            "backend, user_messenger, *, seed, iterations=5",
            {},
            "TypeError: the inputs do not fit main: missing argument 'seed'; "
            "it takes: seed, iterations=5",
        ),
        (
            "backend, user_messenger",
            {"a": 1},
            "TypeError: the inputs do not fit main: unknown argument 'a'; it takes: no arguments",
        ),
        (
            "backend, user_messenger, **kwargs",
            {"backend": 1},
            "TypeError: the inputs do not fit main: multiple values for argument 'backend'",
        ),
    ],
)
def test_inputs_that_do_not_fit(signature, inputs, error):
    source = f"def main({signature}): return 1"
    fault = run(source, inputs=inputs).fault
    assert fault.kind == "program_error"
    assert fault.error == error
    assert fault.traceback is None


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("raise TypeError('wrong')", "TypeError: wrong"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("sys.exit()", "SystemExit"),
        ("raise MemoryError", "MemoryError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(5)", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_a_main_that_raises(statement, error):
    source = f"""
        import os, signal, sys, time
        def main(backend, user_messenger):
            user_messenger.publish(1)
            {statement}
    """
    fault = run(source).fault
    assert (fault.kind, fault.error, fault.messages) == ("program_error", error, 1)
    assert "in main\n" in fault.traceback


def shows_only_the_program(text):
    return "/sandbox/" not in text and "<frozen" not in text


def test_the_traceback_shows_the_programs_frames_only(carrier):
    source = """
        import json
        def main(backend, user_messenger):
            try:
                json.loads("nonsense")
            except ValueError as error:
                try:
                    user_messenger.publish(object())
                except TypeError:
                    raise ExceptionGroup("several", [error, KeyError("k")]) from error
    """
    fault = run(source, carrier=carrier).fault
    assert fault.error == "ExceptionGroup: several (2 sub-exceptions)"
    assert shows_only_the_program(fault.traceback)
    assert "  … 3 frames of json …\n" in fault.traceback
    assert "/json/decoder.py" not in fault.traceback
    assert 'program.py", line 5, in main' in fault.traceback
    assert 'json.loads("nonsense")' in fault.traceback
    assert "Traceback (most recent call last)" in fault.traceback


def test_a_traceback_at_import_shows_the_line(carrier):
    fault = run("x = 1\ny = x.nothing\n", carrier=carrier).fault
    assert 'program.py", line 2, in <module>' in fault.traceback
    assert shows_only_the_program(fault.traceback)
    fault = run("x = 1\ny = = 2\n", carrier=carrier).fault
    assert 'program.py", line 2' in fault.traceback
    assert "y = = 2" in fault.traceback


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raises", "raise SystemExit"),
        ("huge", "return 'x' * 50_000_000"),
        ("surrogate", "return '\\ud800'"),
        ("no_text", "return 5"),
        ("recursion", "return str(self)"),
    ],
)
def test_an_exception_with_a_hostile_text(name, text):
    source = f"""
        class {name}(Exception):
            def __str__(self):
                {text}
        def main(backend, user_messenger):
            raise {name}
    """
    fault = run(source).fault
    assert fault.kind == "program_error"
    assert fault.error.startswith(f"program.{name}")
    assert len(fault.error.encode()) < 10_000
    assert len((fault.traceback or "").encode()) <= protocol.MAX_TEXT_BYTES
    if name == "huge":
        assert "are cut out here" in fault.traceback


def test_an_exception_that_never_finishes_saying_what_it_is():
    source = """
        class Endless(Exception):
            def __str__(self):
                while True:
                    try:
                        while True: pass
                    except BaseException: pass
        def main(backend, user_messenger):
            raise Endless
    """
    fault = run(source).fault
    assert fault.error == "program.Endless: (its text cannot be shown)"
    assert fault.traceback is None


@pytest.mark.parametrize(
    "body",
    [
        "return deep(100_000)",
        "return chain(3000)",
        "raise group(3000)",
    ],
)
def test_endless_tracebacks(body):
    source = f"""
        import sys
        sys.setrecursionlimit(200_000)
        def deep(n):
            if n == 0: raise ValueError("bottom")
            return deep(n - 1) if n % 2 else deep(
                n - 1)
        def chain(n):
            error = None
            for _ in range(n):
                new = ValueError("link")
                new.__context__ = error
                error = new
            raise error
        def group(n):
            error = ValueError("inner")
            for _ in range(n):
                error = ExceptionGroup("group", [error])
            return error
        def main(backend, user_messenger):
            {body}
    """
    fault = run(source).fault
    assert fault.kind == "program_error"
    assert len(fault.traceback.encode()) <= protocol.MAX_TEXT_BYTES


def test_a_value_whose_own_encoder_fails(carrier):
    source = """
        class Model:
            def to_json(self):
                return {}["missing"]
        def main(backend, user_messenger):
            return {"model": Model()}
    """
    fault = run(source, carrier=carrier).fault
    assert fault.kind == "result_error"
    assert "result['model']: cannot carry a Model: KeyError: 'missing'" in fault.error
    assert 'return {}["missing"]' in fault.traceback
    assert shows_only_the_program(fault.traceback)


def test_inputs_that_cannot_be_decoded(carrier):
    inputs = {"x": [{"__type__": "set", "__value__": 5}]}
    fault = run("def main(b, u, x): pass", carrier=carrier, inputs=inputs).fault
    assert fault.kind == "invalid_inputs"
    assert fault.error.startswith("DecodingError: inputs['x'][0]: ")


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("os.fork()", "process_limit"),
        ("multiprocessing.get_context('fork').Process(target=int).start()", "process_limit"),
        ("read()", "program_error"),
        ("(_ for _ in ()).throw(BlockingIOError('full'))", "program_error"),
    ],
)
def test_a_refused_fork_is_told_from_other_things_that_would_block(call, kind):
    # Nothing refuses root, so another function of C does, with the same error.
    source = f"""
        import functools, multiprocessing, os
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        read = functools.partial(os.read, reader, 1)
        os.fork = read
        def main(backend, user_messenger):
            {call}
    """
    fault = run(source, carrier="stdio").fault
    assert (fault.kind, fault.error.partition(":")[0]) == (kind, "BlockingIOError")


def test_an_eof_of_the_programs_own_says_nothing_of_servers():
    assert run("def main(b, m): raise EOFError").fault.error == "EOFError"
