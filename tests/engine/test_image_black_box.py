"""A program image on its own, without our supervisor: what any engine user finds in it."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from runner import programs
from runner.images import ImageStore, build_id
from runner.sandboxes.container import GUEST_COMMAND
from sandbox.wire import protocol
from sandbox.wire.protocol import FrameReader, Message, Ready, Result

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def image(engine):
    program = programs.find("hello_world")
    return ImageStore(engine).program(program.files, program.name).id


@pytest.fixture(autouse=True)
def no_reaper(monkeypatch):
    """The reaper's image cannot be pulled everywhere, and it would be given the engine's socket."""
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)


def run_and_read(image: str, *command: str) -> str:
    with DockerContainer(image, network_mode="none").with_command(list(command)) as container:
        assert container.get_wrapped_container().wait(timeout=60)["StatusCode"] == 0
        out, _ = container.get_logs()
        return out.decode()


def test_python_and_qiskit_are_there_without_flags(image):
    code = "import qiskit, qiskit_aer, os; print(qiskit.__version__, os.getuid())"
    version, uid = run_and_read(image, "python3", "-c", code).split()
    assert version.split(".")[0].isdigit()
    assert uid != "0"


def test_the_guest_speaks_the_protocol_with_whoever_listens(image):
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a short path for the socket
        Path(directory).chmod(0o755)
        listener = socket.socket(socket.AF_UNIX)
        path = Path(directory) / Path(protocol.SOCKET_PATH).name
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(1)
        listener.settimeout(30)
        container = (
            DockerContainer(image, network_mode="none", stdin_open=True)
            .with_env("PYTHONPATH", protocol.GUEST_DIRECTORY)
            .with_volume_mapping(directory, protocol.CHANNEL_DIRECTORY, "ro")
            .with_command(list(GUEST_COMMAND))
        )
        with container:
            connection, _ = listener.accept()
            connection.settimeout(30)
            wrapped = container.get_wrapped_container()
            stdin = wrapped.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
            reader = FrameReader(1 << 20)
            (ready,) = reader.feed(connection.recv(4096))
            assert isinstance(ready, Ready)
            assert (ready.protocol, ready.build) == (protocol.PROTOCOL_VERSION, build_id())
            run = protocol.Run(
                job=7, entry="program.py", inputs={}, backend={"name": "aer_simulator"}
            )
            stdin._sock.sendall(protocol.encode(run))
            (message,) = reader.feed(connection.recv(4096))
            assert isinstance(message, Message)
            assert message.job == 7
            stdin._sock.settimeout(30)
            header = stdin._sock.recv(8)
            (result,) = FrameReader(1 << 20).feed(stdin._sock.recv(header[7] + (header[6] << 8)))
            assert isinstance(result, Result)
            stdin._sock.close()
            stdin.close()
            assert wrapped.wait(timeout=30)["StatusCode"] == 0
            connection.close()
        listener.close()
