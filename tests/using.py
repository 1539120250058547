"""A process that decodes what it is sent, as the host does unasked, and uses what comes out.

`python -m tests.using BYTES` reads values, one JSON text a line, and answers each with a line.  It
has little CPU time and memory for each: what crashes, hangs or takes too much ends it, or is
answered with the reason.  `User` is its other end.
"""

from __future__ import annotations

import copy
import itertools
import json
import operator
import resource
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEMORY_BYTES = 1 << 30
CPU_S = 5
PATIENCE_S = 100.0
MANY = 1000
"""Sides up to here may be made dense, or laid out in rows."""


def uses(value):
    """Yield functions that do with a value what a caller might, without knowing its type."""
    yield from (lambda each=each: each(value) for each in (repr, str, hash, bool, len, abs))
    yield from (lambda each=each: each(value) for each in (copy.copy, copy.deepcopy))
    yield from (lambda each=each: each(value) for each in (int, float, complex, operator.neg))
    yield lambda: value == copy.copy(value)
    yield lambda: list(itertools.islice(iter(value), 100))
    for other in (value, 1, 1.5):
        for do in (operator.add, operator.sub, operator.mul, operator.lt, operator.eq):
            yield lambda do=do, other=other: do(value, other)
    yield lambda: 0 in value
    yield lambda: codec.decode(codec.encode(value))
    if not isinstance(value, range):  # which is as long as it says
        yield lambda: np.asarray(value)
        yield lambda: np.array([value, value])
        yield lambda: np.float64(2) * value
    if isinstance(value, np.ndarray | np.generic):
        yield from uses_of_array(value)
    if scipy.sparse.issparse(value):
        yield from uses_of_sparse(value)


def uses_of_array(array):
    for name in ("sum", "max", "tolist", "copy", "tobytes", "conj", "any", "argsort", "cumsum"):
        yield lambda name=name: getattr(array, name)()
    for kind in (float, str, bool, object):
        yield lambda kind=kind: array.astype(kind)
    yield lambda: array.sum(axis=0)
    yield lambda: array.T[::-1]
    yield lambda: array[array.astype(bool)]
    yield lambda: np.count_nonzero(array)
    yield lambda: np.nonzero(array)
    yield lambda: np.unique(array)
    yield lambda: np.concatenate([np.atleast_1d(array)] * 2)
    for name in (array.dtype.names or ())[:4]:
        yield lambda name=name: (repr(array[name]), array[name].sum())


def uses_of_sparse(array):
    for name in ("copy", "transpose", "sum", "nonzero", "count_nonzero", "tocoo", "diagonal"):
        yield lambda name=name: getattr(array, name)()
    if sum(array.shape) < MANY:
        for form in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia"):
            yield lambda form=form: array.asformat(form).copy().sum(axis=0)
        yield array.toarray
    for axis in (0, 1):
        yield lambda axis=axis: array.sum(axis=axis)
    yield lambda: array @ array
    yield lambda: array.T @ array
    yield lambda: (array + array).multiply(array)
    yield lambda: array @ np.ones(array.shape[-1])
    yield lambda: abs(array).max()
    yield lambda: array[0]
    yield lambda: array[:, [0, -1, 0]]
    yield lambda: (array.sum_duplicates(), array.eliminate_zeros())
    yield lambda: (array.sort_indices(), array.has_canonical_format)


def parts(value):
    """Yield a value and what is in it."""
    yield value
    inner = ()
    if isinstance(value, dict):
        inner = (*value.keys(), *value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    for each in inner:
        yield from parts(each)


def attempt(text):
    """Decode a text and use all parts of its value; return what of it takes too much, or ""."""
    value = values.decode(text)
    for part in itertools.islice(parts(value), 200):
        for use in () if isinstance(part, codec.Value) else uses(part):
            try:
                use()
            except MemoryError as error:
                return f"{type(part).__name__}: {error}"
            except Exception:  # noqa: BLE001 (an error is an answer)
                continue
    return ""


def main():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    attempt(codec.encode([np.eye(2), scipy.sparse.csr_array(np.eye(2))]))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    say("")
    for line in sys.stdin:
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_S, resource.RLIM_INFINITY))
        say(attempt(json.loads(line)))


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class User:
    """The process, made anew whenever it has ended."""

    def __init__(self, memory_bytes=MEMORY_BYTES):
        self._child = None
        self._command = [sys.executable, "-m", "tests.using", str(memory_bytes)]

    def problem_with(self, text):
        """Return what is wrong with decoding and using the value of a text, "" for nothing."""
        if self._child is None:
            self._child = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._answer() == ""
        self._child.stdin.write(json.dumps(text) + "\n")
        self._child.stdin.flush()
        return self._answer()

    def _answer(self):
        ready, _, _ = select.select([self._child.stdout], [], [], PATIENCE_S)
        line = self._child.stdout.readline() if ready else ""
        if line:
            return json.loads(line)
        code = self.close()
        return signal.strsignal(-code) if code < 0 and ready else f"no answer ({code})"

    def close(self):
        """End the process and return how it ended."""
        child, self._child = self._child, None
        if child is None:
            return 0
        child.stdin.close()
        try:
            return child.wait(2)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()
        finally:
            child.stdout.close()


if __name__ == "__main__":
    import warnings

    import numpy as np
    import scipy.optimize
    import scipy.sparse

    from runner.programs import values
    from sandbox import codec

    warnings.simplefilter("ignore")
    main()
