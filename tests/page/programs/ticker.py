"""Publishes at a steady rate, or as fast as it can, what a page shows: numbers, counts, log."""

import math
import time


def main(backend, user_messenger, messages=100, rate=0, wait_s=0, pause_s=0, pad=0):
    time.sleep(wait_s)
    begin = time.monotonic()
    for n in range(messages):
        if rate:
            time.sleep(max(0, begin + n / rate - time.monotonic()))
        message = {"iteration": n, "energy": -1.137 + math.exp(-n / 40), "pad": "x" * pad}
        if n % 50 == 0:
            message["counts"] = {"00": 500 + n, "11": 400, "01": 3}
            print(f"iteration {n} of {messages}", flush=True)
        user_messenger.publish(message)
    time.sleep(pause_s)
    return {"00": 512, "11": 480, "01": 8}
