"""Images: what they are made of, how they are built, how they travel."""

from __future__ import annotations

from runner.images.layers import (
    BASE_KINDS,
    ImageStore,
    base_directory,
    build_id,
    repository_name,
    silent,
)

__all__ = [
    "BASE_KINDS",
    "ImageStore",
    "base_directory",
    "build_id",
    "repository_name",
    "silent",
]
