"""The program inside: loaded, run with its inputs, heard, and its faults told."""
