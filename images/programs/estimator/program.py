"""Estimate expectation values: the EstimatorV2 primitive as a program."""

import re

from qiskit import QuantumCircuit, generate_preset_pass_manager, qasm3
from qiskit.primitives import BackendEstimatorV2
from qiskit.primitives.containers.estimator_pub import EstimatorPub


def main(backend, user_messenger, pubs, precision=0.02, optimization_level=1, seed=None):
    """Run primitive unified blocs (PUBs) on the backend.

    Args:
        pubs: each a list of a circuit, one or more observables, its parameters' values and a
            precision, of which the last two may be left out; a circuit may be a text in OpenQASM,
            an observable a text such as "XZ" or a dict such as {"XX": 0.5, "ZI": -1}.
        precision: for the PUBs that do not say.
        optimization_level: how hard the transpiler tries, from 0 to 3.
        seed: makes both the compilation and the estimates repeatable.

    Publishes how deep each circuit is once it is compiled. Returns a PrimitiveResult, in which
    `result[0].data.evs` are the first PUB's expectation values, `result[0].data.stds` their errors.
    """
    compiler = generate_preset_pass_manager(
        backend=backend, optimization_level=optimization_level, seed_transpiler=seed
    )
    compiled = []
    for number, pub in enumerate(map(read, pubs)):
        circuit = compiler.run(pub.circuit)
        user_messenger.publish({"pub": number, "depth": circuit.depth()})
        observables = pub.observables.apply_layout(circuit.layout)
        compiled.append(EstimatorPub(circuit, observables, pub.parameter_values, pub.precision))

    estimator = BackendEstimatorV2(
        backend=backend, options={"default_precision": precision, "seed_simulator": seed}
    )
    return estimator.run(compiled).result()


def read(pub):
    """Return a PUB of whatever form, with its circuit read if that is a text."""
    if isinstance(pub, list) and isinstance(pub[0], str):
        pub = [parse(pub[0]), *pub[1:]]
    return EstimatorPub.coerce(pub)


def parse(text):
    """Return the circuit of a text in OpenQASM 2, as Qiskit writes it, or 3."""
    if re.search(r"OPENQASM\s+3|stdgates\.inc", text):
        return qasm3.loads(text)
    return QuantumCircuit.from_qasm_str(text)
