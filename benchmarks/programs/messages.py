"""Publishes the time, as fast as it can or with pauses between."""

import time


def main(backend, user_messenger, number=0, pause=0.0):
    for _ in range(number):
        user_messenger.publish(time.time())
        if pause:
            time.sleep(pause)
    return number
