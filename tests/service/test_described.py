"""The service does what its own description says: schemathesis asks, in an environment of its own.

`make test-service` makes that environment; without it the test is skipped.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCHEMATHESIS = ROOT / ".venv" / "service" / "bin" / "schemathesis"
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance", "negative_data_rejection", "unsupported_method"),
    "ignored_auth",
)


@pytest.mark.timeout(600)
def test_the_service_keeps_to_its_description(service):
    if not SCHEMATHESIS.exists():
        pytest.skip("needs schemathesis: `make test-service` installs it")
    done = subprocess.run(
        [
            *(str(SCHEMATHESIS), "run", f"{service.url}/v1/openapi.json"),
            *("-H", f"Authorization: Bearer {service.token('schema', '--operator')}"),
            *("--checks", ",".join(CHECKS), "--max-examples", "20", "--seed", "1"),
            *("--phases", "fuzzing", "--request-timeout", "60"),
            *("--exclude-path-regex", "/events$"),  # a stream has no end to wait for
        ],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
