"""Ask a device for what shows where its bits are: crossed, in registers, and not all measured."""

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.primitives import BackendSamplerV2


def main(backend, user_messenger):
    plain = QuantumCircuit(3, 3)
    plain.x(0)
    plain.measure([0, 1, 2], [0, 1, 2])
    crossed = QuantumCircuit(3, 3)
    crossed.x(0)
    crossed.measure([0, 1, 2], [2, 1, 0])
    registers = QuantumCircuit(
        QuantumRegister(3), ClassicalRegister(2, "a"), ClassicalRegister(1, "b")
    )
    registers.x([0, 2])
    registers.measure([0, 1, 2], [0, 1, 2])
    partial = QuantumCircuit(3, 4)
    partial.x(0)
    partial.measure([0, 1], [3, 1])

    def ran(circuits, **options):
        circuits = transpile(circuits, backend, seed_transpiler=1)
        return backend.run(circuits, shots=30, **options).result()

    sampler = BackendSamplerV2(backend=backend)
    sampled = sampler.run([transpile(registers, backend, seed_transpiler=1)], shots=30).result()
    return {
        "plain": ran(plain).get_counts(),
        "crossed": ran(crossed).get_counts(),
        "registers": ran(registers).get_counts(),
        "partial": ran(partial).get_counts(),
        "several": ran([plain, crossed]).get_counts(),
        "memory": ran(registers, memory=True).get_memory(),
        "sampler": sampled[0].data.a.get_counts(),
    }
