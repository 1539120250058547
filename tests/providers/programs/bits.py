"""Ask a device for what shows where its bits are: crossed, in registers, and not all measured."""

from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, transpile
from qiskit.primitives import BackendSamplerV2
from qiskit.providers import JobError


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
    some = QuantumCircuit(3, 2)
    some.x([1, 2])
    some.measure([0, 2], [0, 1])

    def ran(circuits, **options):
        circuits = transpile(circuits, backend, seed_transpiler=1)
        return backend.run(circuits, shots=30, **options).result()

    def sampled():
        sampler = BackendSamplerV2(backend=backend)
        job = sampler.run([transpile(registers, backend, seed_transpiler=1)], shots=30)
        return job.result()[0].data.a.get_counts()

    asked = {
        "plain": lambda: ran(plain).get_counts(),
        "crossed": lambda: ran(crossed).get_counts(),
        "registers": lambda: ran(registers).get_counts(),
        "partial": lambda: ran(partial).get_counts(),
        "some": lambda: ran(some).get_counts(),
        "several": lambda: ran([plain, crossed]).get_counts(),
        "memory": lambda: ran(registers, memory=True).get_memory(),
        "sampler": sampled,
    }
    found = {}
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except JobError as error:
            found[name] = str(error)
    return found
