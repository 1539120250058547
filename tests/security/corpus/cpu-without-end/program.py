import os
import time


def main(backend, user_messenger):
    for _ in range(8):
        if os.fork() == 0:
            while True:
                began = time.process_time()
                while time.process_time() - began < 0.2:
                    pass
                if os.fork():
                    os._exit(0)
    time.sleep(60)
