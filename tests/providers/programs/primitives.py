"""Ask a device's own sampler for a sweep, and its estimator for a parity."""

from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp


def main(backend, user_messenger):
    angle = Parameter("a")
    circuit = QuantumCircuit(2)
    circuit.rx(angle, 0)
    circuit.cx(0, 1)
    sampled = transpile(circuit.measure_all(inplace=False), backend, seed_transpiler=1)
    job = backend.sampler().run([(sampled, [[0.0], [1.0], [3.0]])], shots=100)
    result = job.result()
    bits = result[0].data.meas
    plain = transpile(circuit, backend, seed_transpiler=1)
    zz = SparsePauliOp("ZZ").apply_layout(plain.layout)
    estimated = backend.estimator().run([(plain, zz, [0.5])], precision=0.02).result()
    return {
        "shape": list(bits.shape),
        "counts": [bits[index].get_counts() for index in range(3)],
        "zz": float(estimated[0].data.evs),
        "metadata": result.metadata,
    }
