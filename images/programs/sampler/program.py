"""Sample circuits: the SamplerV2 primitive as a program, PUBs in, a PrimitiveResult out."""

import re

from qiskit import QuantumCircuit, generate_preset_pass_manager, qasm3
from qiskit.primitives import BackendSamplerV2
from qiskit.primitives.containers.sampler_pub import SamplerPub


def main(backend, user_messenger, pubs, shots=1024, optimization_level=1, seed=None):
    """Run primitive unified blocs (PUBs) on the backend.

    Args:
        pubs: each a circuit, or a list of a circuit, its parameters' values and its own shots, of
            which the last two may be left out; a circuit may be a text in OpenQASM.
        shots: for the PUBs that do not say.
        optimization_level: how hard the transpiler tries, from 0 to 3.
        seed: makes both the compilation and the samples repeatable.

    Publishes how deep each circuit is once it is compiled. Returns a PrimitiveResult, in which
    `result[0].data.meas.get_counts()` are the counts of the first PUB's register `meas`.
    """
    compiler = generate_preset_pass_manager(
        backend=backend, optimization_level=optimization_level, seed_transpiler=seed
    )
    compiled = []
    for number, pub in enumerate(map(read, pubs)):
        circuit = compiler.run(pub.circuit)
        user_messenger.publish({"pub": number, "depth": circuit.depth()})
        compiled.append(SamplerPub(circuit, pub.parameter_values, pub.shots))

    sampler = BackendSamplerV2(
        backend=backend, options={"default_shots": shots, "seed_simulator": seed}
    )
    return sampler.run(compiled).result()


def read(pub):
    """Return a PUB of whatever form, with its circuit read if that is a text."""
    if isinstance(pub, str):
        pub = [pub]
    if isinstance(pub, list) and isinstance(pub[0], str):
        pub = [parse(pub[0]), *pub[1:]]
    return SamplerPub.coerce(pub)


def parse(text):
    """Return the circuit of a text in OpenQASM 2, as Qiskit writes it, or 3."""
    if re.search(r"OPENQASM\s+3|stdgates\.inc", text):
        return qasm3.loads(text)
    return QuantumCircuit.from_qasm_str(text)
