import ctypes
import errno
import socket


def attempt(action):
    try:
        action()
    except OSError as error:
        print(action.__name__, errno.errorcode.get(error.errno, error))
        return "blocked"
    return "SUCCEEDED"


SO_ATTACH_FILTER, SO_LOCK_FILTER, SO_PEERPIDFD = 26, 44, 77
PR_SET_MEMORY_MERGE = 67


def handle_of_a_process():
    ours, _ = socket.socketpair()
    ours.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)


def urgent_data():
    ours, theirs = socket.socketpair()
    ours.send(b"x", socket.MSG_OOB)
    theirs.recv(1, socket.MSG_OOB)


def filter_of_packets():
    accept_all = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 255, 255, 0, 0]))  # BPF: return
    program = (ctypes.c_size_t * 2)(1, ctypes.addressof(accept_all))
    ours, _ = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(program))


def lock_of_filters():
    ours, _ = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, SO_LOCK_FILTER, 1)


def name_without_bind():
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    try:
        ours.connect("\0nobody")  # with that option the kernel has bound it first
    except ConnectionRefusedError:
        theirs.connect(ours.getsockname())


def shared_pages():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def main(backend, user_messenger):
    actions = (
        handle_of_a_process,
        urgent_data,
        filter_of_packets,
        lock_of_filters,
        name_without_bind,
        shared_pages,
    )
    return {action.__name__: attempt(action) for action in actions}
