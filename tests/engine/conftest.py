"""A supervisor on the real engine, and programs written down where they are tested."""

from __future__ import annotations

import textwrap

import pytest

from runner import Supervisor


@pytest.fixture(scope="module", params=["socket", "stdio"])
def carrier(request):
    return request.param


@pytest.fixture(scope="module")
def supervisor(carrier):
    """One supervisor per module and carrier: every test below runs on both."""
    with Supervisor(carrier=carrier) as running:
        yield running


@pytest.fixture
def program(tmp_path):
    """Write a bare program and return its path."""

    def write(source: str, name: str = "tried.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        return path

    return write
