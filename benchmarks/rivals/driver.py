"""Run the program in /program as anybody would who has no runner: this is all that is needed.

The inputs are one line of JSON on stdin, or in the environment as INPUTS.  Each interim result and
the final one is a line of JSON on stdout.
"""

import json
import os
import sys


class Messenger:
    def publish(self, message, final=False):
        write({"message": message})


def write(value):
    print(json.dumps(value, default=lambda each: each.tolist()), flush=True)


inputs = json.loads(os.environ.get("INPUTS") or sys.stdin.readline())
sys.path.insert(0, "/program")

import program
from qiskit_aer import AerSimulator

write({"result": program.main(AerSimulator(), Messenger(), **inputs)})
