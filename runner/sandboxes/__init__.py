"""Sandboxes on the host: their configuration, their start, and their certain end."""
