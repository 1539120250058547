"""Find the ground state energy of a Hamiltonian with a variational circuit (VQE)."""

import numpy as np
from qiskit import generate_preset_pass_manager
from qiskit.circuit.library import efficient_su2
from qiskit.primitives import BackendEstimatorV2
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer.backends.aerbackend import AerBackend
from qiskit_aer.primitives import EstimatorV2
from scipy.optimize import minimize


def main(
    backend,
    user_messenger,
    hamiltonian,
    ansatz=None,
    initial_point=None,
    optimizer="COBYLA",
    optimizer_options=None,
    precision=0.0,
    seed=None,
):
    """Minimise the energy of `ansatz` over its parameters.

    Args:
        hamiltonian: a SparsePauliOp, or a dict such as {"ZZ": -1.0, "XI": 0.5}.
        ansatz: a parametrised QuantumCircuit; left out, efficient_su2 of one layer.
        initial_point: the parameters to start from; left out, small random ones.
        optimizer: a method of scipy.optimize.minimize, such as "COBYLA", "SLSQP" or "L-BFGS-B".
        optimizer_options: its options, such as {"maxiter": 200}.
        precision: standard error of each energy; 0 computes it exactly (but for the noise of the
            backend), and is a 64th on a device.
        seed: makes the starting point and the estimates repeatable.

    Publishes every energy that is better than those before it.
    """
    if isinstance(hamiltonian, dict):
        hamiltonian = SparsePauliOp.from_list(list(hamiltonian.items()))
    if ansatz is None:
        ansatz = efficient_su2(hamiltonian.num_qubits, reps=1, entanglement="linear")
    if initial_point is None:
        initial_point = np.random.default_rng(seed).uniform(-0.1, 0.1, ansatz.num_parameters)

    compiler = generate_preset_pass_manager(
        backend=backend, optimization_level=1, seed_transpiler=seed
    )
    circuit = compiler.run(ansatz)
    observable = hamiltonian.apply_layout(circuit.layout)
    if isinstance(backend, AerBackend | GenericBackendV2):
        options = {"run_options": {"seed_simulator": seed}}
        estimator = EstimatorV2.from_backend(backend, options=options)
    else:  # a device, which can only count shots
        estimator = BackendEstimatorV2(backend=backend)
        precision = precision or 1 / 64

    evaluations, lowest = 0, np.inf

    def energy(parameters):
        nonlocal evaluations, lowest
        job = estimator.run([(circuit, observable, parameters)], precision=precision)
        value = float(job.result()[0].data.evs)
        evaluations += 1
        if value < lowest:
            lowest = value
            user_messenger.publish(
                {"evaluation": evaluations, "energy": value, "parameters": parameters}
            )
        return value

    found = minimize(energy, initial_point, method=optimizer, options=optimizer_options)
    return {
        "energy": float(found.fun),
        "parameters": found.x,
        "evaluations": evaluations,
        "message": str(found.message),
    }
