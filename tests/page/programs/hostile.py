"""Says what it was given to say in every way that a program has."""

import time
from pathlib import Path


def main(backend, user_messenger, texts=(), fail=True, wait_s=0):
    time.sleep(wait_s)
    for each in texts:
        user_messenger.publish(each)
        user_messenger.publish({each: 1.5, "counts": {"0": 1}, "text": each})
        user_messenger.publish({each: 2.5})
        print(each, flush=True)
    for n, each in enumerate(texts):
        name = each.replace("/", "_").replace("\0", "")[:60]
        try:
            Path("/out", name).write_text(each)
        except (OSError, ValueError):
            print("no file of that name", flush=True)
    time.sleep(wait_s)
    if fail:
        raise ValueError("\n".join(texts))
    return {each: {"00": 1, "11": 2} for each in texts}
