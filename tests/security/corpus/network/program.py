import errno
import os
import socket
import stat


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


def resolve():
    socket.getaddrinfo("example.com", 80)


def reach_the_metadata_service():
    socket.create_connection(("169.254.169.254", 80), timeout=1)


def reach_the_gateway():
    socket.create_connection(("172.17.0.1", 22), timeout=1)


def reach_itself():
    socket.create_connection(("127.0.0.1", 22), timeout=1)


def be_a_server():
    server = socket.socket(socket.AF_UNIX)
    server.bind("/tmp/server")
    server.listen()


def be_an_abstract_server():
    socket.socket(socket.AF_UNIX).bind("\0abstract")


def reach_the_containers_shim():
    socket.socket(socket.AF_UNIX).connect("\0/containerd-shim/x.sock")


def sockets():
    found = []
    for directory, _, names in os.walk("/"):
        if directory.startswith(("/proc", "/sys")):
            continue
        for name in names:
            path = os.path.join(directory, name)
            if stat.S_ISSOCK(os.lstat(path).st_mode) and path != "/run/qrunner/channel":
                found.append(path)
    return found


def interfaces():
    with open("/proc/self/net/dev") as file:
        return [line.partition(":")[0].strip() for line in file if ":" in line]


def main(backend, user_messenger):
    actions = (
        resolve,
        reach_the_metadata_service,
        reach_the_gateway,
        reach_itself,
        be_a_server,
        be_an_abstract_server,
        reach_the_containers_shim,
    )
    return {
        **{action.__name__: attempt(action) for action in actions},
        "sockets": sockets(),
        "interfaces": interfaces(),
    }
