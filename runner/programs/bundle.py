"""A program as JSON data, to be stored or sent to a cluster, and back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.host import forms
from runner.programs.manifest import Manifest
from runner.programs.program import Program
from runner.programs.signature import Signature
from runner.programs.wheels import Pin


def data_of(program: Program) -> dict[str, Any]:
    """Return a program as data: everything needed to run it again."""
    return {
        "name": program.name,
        "path": str(program.path),
        "manifest": forms.data_of(program.manifest),
        "files": {name: base64.b64encode(each).decode() for name, each in program.files.items()},
        "pins": forms.data_of(program.pins),
    }


def program_of(bundle: Mapping[str, Any]) -> Program:
    """Return the program from the data that `data_of` returned.

    Raises ValueError, TypeError, AttributeError or LookupError for other data.
    """
    files = {name: base64.b64decode(each, validate=True) for name, each in bundle["files"].items()}
    manifest = forms.value_of(Manifest, bundle["manifest"])
    return Program(
        name=str(bundle["name"]),
        path=Path(bundle["path"]),
        manifest=manifest,
        files=files,
        signature=Signature.of_source(files[manifest.entry]),
        pins=tuple(forms.value_of(Pin, each) for each in bundle["pins"]),
    )
