import os


def main(backend, user_messenger):
    for _ in range(4):
        if os.fork() == 0:
            break
    while True:
        try:
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
            os.wait()
        except OSError:
            continue
