"""Reads what a program sent, and writes it anew, in a process that can do nothing else.

A few crafted bytes can take Qiskit's reader gigabytes, or end its process.  So no process with
credentials, and not the runner's own, reads a program's circuits: a child of this one does, for
one job, confined (`holder.confinement`), and is thrown away with the job.  This process imports
Qiskit once and forks; it never reads anything of a program itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import warnings
from typing import Any, Final

from holder import confinement
from holder.link import VERSION, Link, LinkError

MEMORY_BYTES: Final = 2 << 30
CPU_S: Final = 3600
"""Of one job's reader in all; how long one call may take is bounded by whoever asks."""


def main(descriptor: int) -> None:
    """Fork a reader for each socket that arrives, until the runner hangs up."""
    import qiskit.qpy  # noqa: F401
    from qiskit.circuit import library

    from sandbox import codec  # noqa: F401

    _rehearse(library)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps; the runner has a descriptor
    control = socket.socket(fileno=descriptor)
    Link(control).send({"kind": "ready", "version": VERSION})
    while True:
        word, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not word:
            os._exit(0)
        (own,) = descriptors
        child = os.fork()
        if child == 0:
            control.close()
            _be_reader(own)
        os.close(own)
        with contextlib.suppress(ProcessLookupError):
            process = os.pidfd_open(child)
            socket.send_fds(control, [b"."], [process])
            os.close(process)
            continue
        control.send(b"-")


def _be_reader(descriptor: int) -> None:
    """In the child: answer one job's calls; never returns."""
    try:
        link = Link(socket.socket(fileno=descriptor))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        confinement.confine(MEMORY_BYTES)
        while (received := link.receive()) is not None:
            head, body = received
            try:
                text, cost = rewritten(head["verb"], body)
                link.send({"kind": "answer", "cost": cost}, text)
            except LinkError:
                raise
            except BaseException as error:  # noqa: BLE001  hostile data; Rust's panics are such
                link.send({"kind": "refusal"}, str(error)[:1000].encode())
    except BaseException as error:  # noqa: BLE001  nothing may return into the loop above
        os.write(2, f"a reader of circuits failed: {error!r:.500}\n".encode())
    finally:
        os._exit(0)


def rewritten(verb: str, body: bytes) -> tuple[bytes, dict[str, int]]:
    """Return what a call asks for, written anew, and what it costs (`holder.costs`).

    Raises ValueError, with the path to a fault.
    """
    from qiskit import qpy
    from qiskit.circuit import QuantumCircuit
    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    from holder import costs
    from sandbox import codec
    from sandbox.codec.decoding import MAX_UNPACKED_BYTES, Decoder
    from sandbox.codec.rows import SAFE_QPY

    decoder = Decoder(every=True, oldest_qpy=SAFE_QPY, room=MAX_UNPACKED_BYTES, tries_out=False)
    data = json.loads(body)
    content = decoder.whole(data, "call")
    forms: dict[str, dict[str, Any]] = {
        "run": {"circuits": QuantumCircuit},
        "sampler": {"pubs": SamplerPub},
        "estimator": {"pubs": EstimatorPub},
    }
    if verb in {"status", "cancel"}:
        (number,) = (content[key] for key in ("of",))
        if type(number) is not int:
            msg = "a call that is about no call"
            raise ValueError(msg)
        return json.dumps({"of": number}).encode(), {}
    ((name, kind),) = forms[verb].items()
    items, options = content[name], content["options"]
    if set(content) != {name, "options"} or type(items) is not list or type(options) is not dict:
        msg = f"a call that has not {name} and options"
        raise ValueError(msg)
    for index, each in enumerate(items):
        if type(each) is not kind:
            msg = f"{name}[{index}] is a {type(each).__name__}"
            raise ValueError(msg)
    for option, value in options.items():
        if not isinstance(value, str | int | float | bool):
            msg = f"option {option!r:.80} is a {type(value).__name__}, not a plain value"
            raise ValueError(msg)
    cost = costs.of(verb, items, options)
    if verb == "run":
        items = codec.circuits_to_data(items, name, qpy.QPY_VERSION, tags=data[name])
    else:
        items = codec.to_data(items, name)
    return codec.write({name: items, "options": options}).encode(), cost


def _rehearse(library: Any) -> None:
    """Read and write once what programs send, for what is only imported then."""
    from qiskit.circuit import Parameter, QuantumCircuit
    from qiskit.circuit.classical import expr, types
    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.sampler_pub import SamplerPub
    from qiskit.quantum_info import SparsePauliOp

    from sandbox import codec

    angle = Parameter("a")
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.rz(angle + 1, 0)
    circuit.append(library.XGate().control(3), [0, 1, *_two_more(circuit)])
    circuit.delay(2, 0, unit="us")
    circuit.measure([0, 1], [0, 1])
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(0)
    with circuit.for_loop(range(2)):
        circuit.x(0)
    found = circuit.add_var("v", expr.lift(3, types.Uint(8)))
    with circuit.while_loop(expr.less(found, 2)):
        circuit.x(0)
    plain = QuantumCircuit(2)
    plain.ry(angle, 0)
    sampled = plain.measure_all(inplace=False)
    pubs: list[tuple[str, str, Any]] = [
        ("run", "circuits", circuit),
        ("sampler", "pubs", SamplerPub.coerce((sampled, [[0.5], [1.5]], 10))),
        ("estimator", "pubs", EstimatorPub.coerce((plain, SparsePauliOp(["ZZ"]), [[0.5]]))),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for verb, name, item in pubs:
            rewritten(verb, codec.encode({name: [item], "options": {}}).encode())
        with contextlib.suppress(ValueError):
            rewritten("run", b'{"circuits":[{"__type__":"QuantumCircuit","__value__":"x"}]}')


def _two_more(circuit: Any) -> list[Any]:
    from qiskit.circuit import QuantumRegister

    more = QuantumRegister(2, "more")
    circuit.add_register(more)
    return list(more)
