import os
import sys


def main(backend, user_messenger):
    return {
        "taken from here": sorted(
            name
            for name, module in sys.modules.items()
            if name != "program" and str(getattr(module, "__file__", "")).startswith("/program")
        ),
        "built": os.path.exists("/built-by-the-program"),
        "root is there": os.path.exists("/usr/lib"),
        "user is root": os.getuid() == 0,
    }
