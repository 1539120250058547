import os
import socket

PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/qrunner", "/program", "/opt/qrunner")


def main(backend, user_messenger):
    found, left = [], 0
    for place in PLACES:
        path = os.path.join(place, "trace-of-an-earlier-job")
        if os.path.exists(path):
            found.append(path)
        try:
            with open(path, "w") as file:
                file.write("I was here")
                left += 1
        except OSError:
            continue
    return {"found": found, "left": left}
