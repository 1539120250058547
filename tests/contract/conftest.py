"""Every contract holds on each carrier."""

import pytest

from sandbox.wire.options import CARRIERS
from tests.contract.guest import Session


@pytest.fixture(params=CARRIERS)
def carrier(request):
    return request.param


@pytest.fixture(scope="module", params=CARRIERS)
def session(request, tmp_path_factory):
    wiped = tmp_path_factory.mktemp("wiped")
    with Session(request.param, wiped) as running:
        running.wiped = wiped
        yield running
