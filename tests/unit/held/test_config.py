"""`[backends.NAME]` of qrunner.toml: what it takes, and what is said of a mistake."""

import json

import pytest
from jsonschema import Draft202012Validator

from runner.errors import RequestError
from runner.policy import settings
from runner.policy.held import Budget, HeldBackend

WHOLE = """
[backends.lab]
factory = "labs.devices:make"
args = { device = "one" }
env = ["LAB_TOKEN"]
python = "/opt/lab/bin/python"
options = ["rep_delay"]
max_shots = 4000
users = ["ann", "bob"]
log = "/var/log/lab"

[backends.lab.per_job]
circuits = 100
seconds = 1.5

[backends.lab.per_day]
shots = 100000
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "qrunner.toml"
        path.write_text(text)
        return settings.load(path).backends

    return load


def test_a_table_becomes_a_backend(load):
    (lab,) = load(WHOLE)
    assert (lab.name, lab.factory, lab.args) == ("lab", "labs.devices:make", {"device": "one"})
    assert (lab.env, lab.options, lab.users) == (("LAB_TOKEN",), ("rep_delay",), ("ann", "bob"))
    assert lab.per_job == Budget(circuits=100, seconds=1.5)
    assert lab.per_day == Budget(shots=100000)
    assert (lab.python, lab.max_shots, str(lab.log)) == (
        "/opt/lab/bin/python",
        4000,
        "/var/log/lab",
    )


def test_only_the_factory_is_required(load):
    assert load('[backends.sim]\nfactory = "a:b"') == (HeldBackend(name="sim", factory="a:b"),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[backends.lab]", "'factory' is a required property; known are factory, args, env"),
        ('[backends.lab]\nfactory = "a.b"', "backends.lab.factory: 'a.b': must be what makes"),
        ('[backends.lab]\nfactory = "a:b"\ntoken = 1', r"\('token' was unexpected\); known are"),
        ('[backends.lab]\nfactory = "a:b"\nmax_shots = 0', "max_shots: 0: must be the most shots"),
        (
            '[backends.lab]\nfactory = "a:b"\n[backends.lab.per_day]\nshots = -1',
            "per_day.shots: -1",
        ),
        ('[backends."a b"]\nfactory = "a:b"', "a name is letters, digits, dots"),
        ("[backends]\nlab = 1", "backends.lab: 1: must be"),
    ],
)
def test_a_mistake_is_named_with_its_value(load, text, reason):
    with pytest.raises(RequestError, match=reason):
        load(text)


def test_the_published_schema_knows_the_tables():
    schema = settings.json_schema()
    Draft202012Validator.check_schema(schema)
    good = {"backends": {"lab": {"factory": "a:b", "per_day": {"shots": 5}}}}
    assert Draft202012Validator(schema).is_valid(good)
    assert not Draft202012Validator(schema).is_valid({"backends": {"lab": {"token": "x"}}})
    assert json.dumps(schema)
