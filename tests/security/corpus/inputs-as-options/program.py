import os


def main(backend, user_messenger, **inputs):
    return {"inputs": inputs, "changed": sorted({"PATH_", "LD_PRELOAD"} & set(os.environ))}
