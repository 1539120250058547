import os
import subprocess
import sys

FORGED = '{"type":"result","job":0,"messages":0,"done":true,"value":"forged"}'


def main(backend, user_messenger):
    print(FORGED, flush=True)
    print(FORGED, file=sys.__stdout__, flush=True)
    print(FORGED, file=sys.stderr)
    os.write(1, FORGED.encode() + b"\n")
    os.write(2, FORGED.encode() + b"\n")
    subprocess.run(["/bin/echo", FORGED], close_fds=False)
    return "real"
