"""Images: their content, how they are built, and how they are transferred."""

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
