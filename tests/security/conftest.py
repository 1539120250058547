"""The isolations on which every promise is tried."""

from __future__ import annotations

import pytest

from runner.policy.isolation import Isolation


@pytest.fixture(scope="module", params=list(Isolation), ids=str)
def isolation(request):
    """Each isolation; a missing runsc is a skip, or a failure where it must work."""
    if request.param is Isolation.RUNSC:
        request.getfixturevalue("runsc")
    return request.param
