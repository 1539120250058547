"""The guest: everything that runs inside a sandbox, on the standard library and Qiskit."""
