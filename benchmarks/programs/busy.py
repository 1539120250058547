"""A good neighbour that uses all the CPU time it is given, and nothing else."""


def main(backend, user_messenger):
    while True:
        pass
