"""The processes that hold a backend for programs, in the environment of its provider.

The runner starts them with the Python of that environment, and speaks with them over a socket
(`holder.link`).  They use the standard library, Qiskit, the provider, and of our code only
`sandbox.codec` and `sandbox.wire`; nothing of `runner` is there.
"""
