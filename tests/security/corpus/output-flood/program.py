import os


def main(backend, user_messenger, chunk, processes):
    data = chunk.encode() * max(1, 65536 // len(chunk)) if len(chunk) > 2 else chunk.encode()
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    while True:
        os.write(1, data)
        os.write(2, data)
