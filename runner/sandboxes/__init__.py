"""Sandboxes as the host has them: what they are made of, their start, and their certain end."""
