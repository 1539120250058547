"""The Qiskit stack as programs meet it: backends, and what is looked up and imported ahead."""
