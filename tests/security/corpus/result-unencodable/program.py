class Hostile:
    def __getattribute__(self, name):
        raise SystemExit(0)

    __class__ = dict


def recursive():
    value = []
    value.append(value)
    return value


def deep():
    value = 0
    for _ in range(1000):
        value = [value]
    return value


VALUES = {
    "recursive": recursive,
    "deep": deep,
    "object": object,
    "hostile": Hostile,
    "generator": lambda: (number for number in range(3)),
}


def main(backend, user_messenger, kind):
    return VALUES[kind]()
