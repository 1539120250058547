"""The program inside the sandbox: loading, running, publishing, and reporting its faults."""
