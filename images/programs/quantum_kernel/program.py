"""Compute a quantum kernel: how alike data points are once they are encoded in circuits."""

import numpy as np
from qiskit import generate_preset_pass_manager
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import z_feature_map, zz_feature_map
from qiskit.primitives import BackendSamplerV2

FEATURE_MAPS = {"z": z_feature_map, "zz": zz_feature_map}


def main(
    backend,
    user_messenger,
    points,
    others=None,
    feature_map="zz",
    reps=2,
    shots=1024,
    seed=None,
):
    """Measure the overlap |<a|b>|² of the encoded states of each pair.

    Args:
        points: the data, one list of features for each point.
        others: other points to compare with, such as test data with training data; left out, the
            points are compared with each other, each pair once: the matrix is symmetric.
        feature_map: how a point becomes a circuit: "z", "zz", or a parametrised QuantumCircuit.
        reps: how often "z" and "zz" repeat their layer.
        shots: how often each pair is measured.
        seed: makes everything repeatable.

    Publishes each row of the kernel, and returns the matrix: a row for each of the points, a
    column for each of the others.
    """
    points = np.asarray(points, dtype=float)
    is_symmetric = others is None
    others = points if is_symmetric else np.asarray(others, dtype=float)
    if isinstance(feature_map, str):
        feature_map = FEATURE_MAPS[feature_map](points.shape[1], reps=reps)

    # Encode one point, then undo the other: all bits are 0 with the probability |<a|b>|².
    features = points.shape[1]
    a, b = ParameterVector("a", features), ParameterVector("b", features)
    pair = feature_map.assign_parameters(a)
    pair.compose(feature_map.assign_parameters(b).inverse(), inplace=True)
    pair.measure_all()

    compiler = generate_preset_pass_manager(
        backend=backend, optimization_level=1, seed_transpiler=seed
    )
    pair = compiler.run(pair)
    sampler = BackendSamplerV2(
        backend=backend, options={"default_shots": shots, "seed_simulator": seed}
    )

    kernel = np.empty((len(points), len(others)))
    for row, point in enumerate(points):
        first = row if is_symmetric else 0  # <a|b> and <b|a> overlap alike: one is measured
        values = [[*point, *other] for other in others[first:]]
        bits = sampler.run([(pair, values)]).result()[0].data.meas
        for index in range(len(values)):
            kernel[row, first + index] = bits.get_int_counts(index).get(0, 0) / shots
        if is_symmetric:
            kernel[row:, row] = kernel[row, row:]
        user_messenger.publish({"row": row, "overlaps": kernel[row].tolist()})
    return kernel
