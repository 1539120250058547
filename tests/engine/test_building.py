"""Packages without wheels, built in a sandbox: what comes back is a wheel or a reason."""

from __future__ import annotations

import hashlib
import io
import tarfile
import textwrap

import pytest

from runner.cli.lock import _built
from runner.errors import ManifestError, RequestError
from runner.programs import add_wheel, find, sources, wheels
from runner.programs.sources import Archive

pytestmark = pytest.mark.engine

BACKEND = """
    import os, socket, zipfile

    def build_wheel(directory):
        try:
            socket.create_connection(("192.0.2.1", 80), timeout=5)
        except OSError:
            pass
        else:
            raise AssertionError("a network")
        assert os.getuid() != 0
        NAME = "nowheel-1.0-py3-none-any.whl"
        with zipfile.ZipFile(os.path.join(directory, NAME), "w") as archive:
            archive.writestr("nowheel.py", "answer = 42\\n")
            archive.writestr("nowheel-1.0.dist-info/METADATA",
                "Metadata-Version: 2.1\\nName: nowheel\\nVersion: 1.0\\n")
            archive.writestr("nowheel-1.0.dist-info/WHEEL",
                "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
            archive.writestr("nowheel-1.0.dist-info/RECORD", "")
        return NAME
"""
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'


def archive(backend=BACKEND, project=PROJECT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as opened:
        for name, text in (("pyproject.toml", project), ("own.py", textwrap.dedent(backend))):
            member = tarfile.TarInfo(f"nowheel-1.0/{name}")
            member.size = len(text)
            opened.addfile(member, io.BytesIO(text.encode()))
    return Archive(package="nowheel", file="nowheel-1.0.tar.gz", content=stream.getvalue())


def test_a_package_is_built_without_a_network_or_rights_and_imported(supervisor, tmp_path):
    file, content = _built(supervisor, archive())
    assert file == "nowheel-1.0-py3-none-any.whl"
    (tmp_path / "program.yaml").write_text("name: needy\nrequirements: requirements.txt\n")
    (tmp_path / "requirements.txt").write_text("nowheel\n")
    (tmp_path / "program.py").write_text("import nowheel\ndef main(b, m): return nowheel.answer\n")
    path = add_wheel(tmp_path, file, content)
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "requirements.lock").write_text(
        f"{wheels.digest(b'nowheel' + bytes([10]))}\nnowheel==1.0 --hash=sha256:{digest}\n"
    )
    program = find(tmp_path)
    assert wheels.built_of(program.files) == {file: content}
    assert supervisor.run(program, backend="none").result(120) == 42
    assert path.parent.name == "wheels"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"backend": "def build_wheel(d): raise ValueError('odd')"}, "ValueError: odd"),
        ({"backend": BACKEND.replace("return NAME", "return '../x'")}, "No such file"),
        (
            {"backend": BACKEND.replace("py3-none-any.whl", "cp311-cp311-linux.whl")},
            "every machine",
        ),
        ({"backend": BACKEND.replace("nowheel-1.0-py3", "other-1.0-py3")}, "no wheel of it"),
        ({"project": "[build-system]\nrequires = 5\n"}, "cannot be built"),
        ({"project": "no toml"}, "cannot be built"),
    ],
)
def test_what_becomes_no_wheel_is_refused_with_the_reason(supervisor, changes, said):
    with pytest.raises(ManifestError, match=said):
        _built(supervisor, archive(**changes))


def test_a_source_is_found_where_pip_looks_and_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    for version in ("1.0", "1.10", "1.9", "2.0rc1"):
        (tmp_path / f"nowheel-{version}.tar.gz").write_bytes(f"content {version}".encode())
    found = sources.fetch("nowheel")
    assert (found.file, found.content) == ("nowheel-1.10.tar.gz", b"content 1.10")
    with pytest.raises(RequestError):
        sources.fetch("nothing-of-this-name")


@pytest.mark.parametrize("file", ["../a-1-py3-none-any.whl", "b-1-py3-none-any.whl", "a.whl", ""])
def test_a_name_that_is_no_wheel_of_the_package_is_refused(file):
    with pytest.raises(ManifestError, match="no wheel of it"):
        sources.check_wheel(file, "a")
