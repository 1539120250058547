import time

time.sleep(60)


def main(backend, user_messenger):
    return "never"
