"""Does, in a cell that waits, what every job does, so that the job itself finds it done.

A cell shares its memory with its zygote until it writes to it, and each page is copied at the first
write, which is most of the time of a short job.  So the steps of a job are taken once without one:
nothing of a program is looked at, and nothing is kept or seen by anyone.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from typing import Final

from sandbox import codec
from sandbox.processes import worker
from sandbox.program.job import configure_logging
from sandbox.stack.warmup import Warmth
from sandbox.wire import channel, protocol

_INPUTS: Final = protocol.JsonText('{"text": "a", "numbers": [1, 2.5, null, true]}')
_PROGRAM: Final = """
import math
def main(backend, user_messenger, **inputs):
    found = {"total": 0, "text": f"{len(inputs)} inputs"}
    for each in inputs["numbers"]:
        found["total"] += math.sqrt(each) if each > 0 else 0
    return [found, tuple(sorted(inputs))]
"""
_LIMITS: Final = {"wall_s": 1.0, "memory_bytes": 1.0, "cpus": 1.0}


def rehearse(outlet: channel.Channel, warmth: Warmth) -> None:
    """Take the steps of a job: read a request, build the backend, load a file, send a result.

    `outlet` is looked at, and nothing is written to it.
    """
    prepared = warmth.prepared
    description = prepared.description if prepared else {"name": "none"}
    asked = protocol.Run(job=0, entry="", inputs={}, backend=description, limits=_LIMITS)
    run = protocol.decode_run(protocol.encode_run(asked, _INPUTS))
    configure_logging(run.options)
    inputs = codec.from_data(run.inputs, "inputs", trusted=True)
    if prepared:
        prepared.fits(run.backend, run.limits)
    _load_nothing()
    text = codec.encode(inputs, "result")
    result = protocol.Result(job=0, messages=0, done=True, value=text)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        sink = channel.FrameWriter(null)
        ours = (sys.stdout, sys.stderr)
        worker.conclude(outlet, "", ours, lambda: sink.write(protocol.encode(result)))
    finally:
        os.close(null)


def _load_nothing() -> None:
    loader = importlib.machinery.SourceFileLoader("rehearsal", os.devnull)
    spec = importlib.util.spec_from_file_location("rehearsal", os.devnull, loader=loader)
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    code = loader.source_to_code(_PROGRAM, os.devnull)
    exec(code, module.__dict__)  # noqa: S102  of our own text
    module.main(None, None, numbers=[1, 2.5])
