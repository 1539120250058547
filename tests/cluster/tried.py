"""The programs that are tried on every kind of cluster, and the mark of which kinds those are."""

from __future__ import annotations

import pytest

ALL = ["local", "ray", "slurm"]
CLUSTERS = ["ray", "slurm"]

TALKER = """
def main(backend, user_messenger, n=3, fail=False):
    print("to the log")
    for i in range(n):
        user_messenger.publish({"i": i, "text": "naïve\\n"})
    if fail:
        raise ValueError("on purpose")
    return {"sum": sum(range(n)), "nan": float("nan")}
"""
SLEEPER = """
import time
def main(backend, user_messenger):
    user_messenger.publish("up")
    time.sleep(120)
"""
ONCE = """
import time
def main(backend, user_messenger, seconds=6):
    user_messenger.publish("up")
    time.sleep(seconds)
    return "awake"
"""
FLOODER = """
def main(backend, user_messenger):
    while True:
        user_messenger.publish("x" * 1000)
"""
BURST = """
def main(backend, user_messenger, n=20_000):
    for i in range(n):
        user_messenger.publish(i)
"""
SEEDED = """
from qiskit import transpile
from qiskit.circuit.random import random_circuit
def main(backend, user_messenger, seed):
    for i in range(3):
        circuit = transpile(random_circuit(4, 4, measure=True, seed=seed + i), backend)
        counts = backend.run(circuit, seed_simulator=seed).result().get_counts()
        user_messenger.publish(counts)
    return counts
"""

KNOWN_WITHIN_S = 12
"""After which a caller knows that a node is lost, whatever happened to it."""


def on(*kinds):
    """Run a test on these kinds of cluster, which all tests share."""
    return pytest.mark.parametrize("cluster", kinds, indirect=True)


def doomed_on(*kinds):
    """Run a test on a cluster of its own, which it may destroy."""
    return pytest.mark.parametrize("doomed", kinds, indirect=True)
