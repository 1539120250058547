"""Every contract holds on each carrier."""

import pytest

from sandbox.options import CARRIERS


@pytest.fixture(params=CARRIERS)
def carrier(request):
    return request.param
