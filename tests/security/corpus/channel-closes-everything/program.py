import os


def main(backend, user_messenger, replace):
    for number in range(1024):
        try:
            os.close(number)
        except OSError:
            continue
    if replace:
        for _ in range(1024):
            os.open("/dev/null", os.O_RDWR)
    return "nobody hears this"
