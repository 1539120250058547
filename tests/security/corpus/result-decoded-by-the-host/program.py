import base64
import json
import struct
import zlib

COLLIDING = [(2**61 - 1) * n for n in range(17)]
LARGE = "0x1" + "0" * 3500  # of 14 001 bits


def tagged(tag, value):
    return {"__type__": tag, "__value__": value}


def array(descr, shape, content=b""):
    head = repr({"descr": descr, "fortran_order": False, "shape": tuple(shape)}).encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + content
    return tagged("ndarray", base64.b64encode(zlib.compress(content)).decode())


def ints(*numbers):
    return array("<i4", [len(numbers)], struct.pack(f"<{len(numbers)}i", *numbers))


def floats(*shape):
    count = 1
    for each in shape:
        count *= each
    return array("<f8", shape, bytes(8 * count))


def sparse(name, **parts):
    return tagged("sparse", {"class": name, "shape": [2, 2], **parts})


def misfits():
    """Sparse arrays of every class with one index too large, or one part too short."""
    for flavour in ("array", "matrix"):
        for form in ("csr", "csc"):
            yield sparse(
                f"{form}_{flavour}", data=floats(2), indices=ints(0, 2), indptr=ints(0, 1, 2)
            )
            yield sparse(
                f"{form}_{flavour}", data=floats(2), indices=ints(0, 1), indptr=ints(0, 1, 1)
            )
        yield sparse(
            f"bsr_{flavour}", data=floats(2, 1, 1), indices=ints(0, 2), indptr=ints(0, 1, 2)
        )
        yield sparse(f"dia_{flavour}", data=floats(2, 2), offsets=ints(0))
        yield sparse(f"dia_{flavour}", data=floats(1, 2), offsets=array("<f8", [1], bytes(8)))
        for form in ("coo", "lil", "dok"):
            yield sparse(f"{form}_{flavour}", data=floats(1), coords=[ints(2), ints(0)])


def record(tag, name):
    fields = {name: tagged("dict", [["version", 3], ["shape", tagged("tuple", [0])]])}
    return tagged(tag, {"class": "C", "fields": fields})


HOSTILE = [
    *misfits(),
    tagged("set", COLLIDING),
    tagged("dict", [[key, 0] for key in COLLIDING]),
    tagged("frozenset", [tagged("frozenset", [COLLIDING[n]]) for n in (1, 2)]),
    tagged("Fraction", [tagged("int", LARGE), 3]),
    tagged("range", [0, tagged("int", LARGE), 3]),
    tagged("Decimal", "1e10001"),
    tagged("Decimal", "9" * 10_001),
    tagged("complex", ["9" * 5000, "0"]),
    tagged("numpy", ["f8," * 6 + "f8", 0]),
    array("<f8,<f8,<f8,<f8,<f8", [0]),
    array("<f8", [0, 2**25 + 1]),
    tagged("ndarray", {"dtype": "O", "shape": [0, 2**25 + 1], "items": []}),
    record("dataclass", "__array_interface__"),
    record("namedtuple", "__array_struct__"),
    tagged("SimpleNamespace", {"__array_interface__": {}}),
    tagged("OptimizeResult", {"__array_interface__": {}}),
    tagged("OptimizeResult", {str(n): 0 for n in range(1001)}),
]


def main(backend, user_messenger):
    for value in HOSTILE:
        user_messenger.publish(value, encoder=json.JSONEncoder)
    return len(HOSTILE)
