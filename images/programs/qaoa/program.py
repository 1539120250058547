"""Cut a graph into two parts with as many edges between them as possible (QAOA for MaxCut)."""

import numpy as np
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import ParameterVector
from qiskit.primitives import BackendSamplerV2
from scipy.optimize import minimize


def main(
    backend,
    user_messenger,
    edges,
    reps=1,
    initial_point=None,
    optimizer="COBYLA",
    max_iterations=60,
    shots=4096,
    seed=None,
):
    """Choose the angles by the mean cut of what is measured; return the best cut that came.

    Args:
        edges: pairs of nodes, or triples with a weight; nodes count from 0.
        reps: how many layers the circuit has.
        initial_point: the angles to start from, one pair (cost, mixer) after the other.
        optimizer: a method of scipy.optimize.minimize.
        max_iterations: its limit.
        shots: how often the circuit is measured for each mean.
        seed: makes everything repeatable.

    Publishes the mean cut of each step.
    """
    edges = [(int(a), int(b), float(*weight or [1.0])) for a, b, *weight in edges]
    angles = ParameterVector("angle", 2 * reps)
    circuit = compile_for(backend, ansatz(edges, angles), seed)
    sampler = BackendSamplerV2(
        backend=backend, options={"default_shots": shots, "seed_simulator": seed}
    )

    def measure(point):
        return sampler.run([(circuit, point)]).result()[0].data.meas.get_counts()

    def cost(point):
        mean = mean_cut(measure(point), edges)
        user_messenger.publish({"angles": point, "mean_cut": mean})
        return -mean

    if initial_point is None:
        initial_point = [0.6, 0.4] * reps
    found = minimize(cost, initial_point, method=optimizer, options={"maxiter": max_iterations})

    counts = measure(found.x)
    best = max(counts, key=lambda bits: cut(bits, edges))
    return {
        "partition": best[::-1],  # the part of node 0 first
        "cut": cut(best, edges),
        "mean_cut": mean_cut(counts, edges),
        "angles": found.x,
    }


def ansatz(edges, angles):
    """Return the circuit: all partitions at once, then in turn the cost and a mixer."""
    nodes = 1 + max(max(a, b) for a, b, _ in edges)
    circuit = QuantumCircuit(nodes)
    circuit.h(range(nodes))
    for gamma, beta in zip(angles[::2], angles[1::2], strict=True):
        for a, b, weight in edges:
            circuit.rzz(-gamma * weight, a, b)
        circuit.rx(2 * beta, range(nodes))
    circuit.measure_all()
    return circuit


def compile_for(backend, circuit, seed):
    """Return the circuit in the backend's own gates."""
    compiler = generate_preset_pass_manager(
        backend=backend, optimization_level=1, seed_transpiler=seed
    )
    return compiler.run(circuit)


def cut(bits, edges):
    """Return the weight of the edges between the two parts; the last bit is node 0's."""
    return sum(weight for a, b, weight in edges if bits[-1 - a] != bits[-1 - b])


def mean_cut(counts, edges):
    """Return the mean over all that was measured."""
    return float(np.average([cut(bits, edges) for bits in counts], weights=list(counts.values())))
