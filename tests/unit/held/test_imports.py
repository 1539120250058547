"""The supervisor imports no Qiskit: what holds a backend does, in a process of its own."""

import subprocess
import sys

import pytest

pytest.importorskip("qiskit_aer")

pytestmark = pytest.mark.qiskit

CODE = """
import contextlib, sys
import runner.supervisor
from runner.backends.holders import Holders
from runner.policy.held import HeldBackend
held = HeldBackend(name="lab", factory="holder.recipes:aer")
with contextlib.closing(Holders([held], {})) as holders:
    print(holders.find("lab").describe("")["options"]["name"])
print(sorted(each for each in sys.modules if each.partition(".")[0] in {"qiskit", "qiskit_aer"}))
"""


def test_holding_a_backend_imports_no_qiskit_here():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["aer_simulator", "[]"]
