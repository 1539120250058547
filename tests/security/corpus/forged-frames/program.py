import contextlib
import os
import stat
import time


def descriptors():
    """Find the private ones: the message channel, a socket, and the result stream, a pipe."""
    channel = results = None
    for number in sorted(int(each) for each in os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            mode = os.fstat(number).st_mode
            if number > 2 and stat.S_ISSOCK(mode) and channel is None:
                channel = number
            if number > 2 and stat.S_ISFIFO(mode) and results is None:
                results = number
    # Without a socket (the stdio carrier) messages go to the result stream as well.
    return (results if channel is None else channel), results


RESULT = '{"type":"result","job":0,"messages":0,"done":%s,"value":%s}'
EXITED = (
    '{"type":"exited",%s,"status":0,"oom_kills":null,"cpu_us":null,"memory_peak_bytes":null,'
    '"process_limit_hits":null}'
)
FAULT = (
    '{"type":"fault","job":0,"messages":0,"kind":"%s","error":"forged",'
    '"traceback":null,"limit":null,"value":null,"observed":null}'
)
FRAMES = {
    "result": [RESULT % ("true", '"forged"')],
    "two results": [RESULT % ("false", 1), RESULT % ("false", 2)],
    "result without its messages": [RESULT.replace('"messages":0', '"messages":7') % ("true", 1)],
    "not a number": [RESULT % ("true", "NaN")],
    "done without a result": ['{"type":"done","job":0,"messages":0,"note":null}'],
    "failure": [FAULT % "program_error"],
    "time limit": [FAULT % "time_limit"],
    "cancelled": [FAULT % "cancelled"],
    "our fault": [FAULT % "sandbox_error"],
    "exited": [EXITED % '"job":0'],
    "other job": [(RESULT % ("true", 1)).replace('"job":0', '"job":1')],
    "ready": ['{"type":"ready","protocol":3,"build":"x","seen":"","cell":0}'],
    "duplicate keys": [EXITED % '"job":1,"job":0'],
    "garbage": ["this is no frame"],
}


def main(backend, user_messenger, kind):
    _, results = descriptors()
    for frame in FRAMES[kind]:
        os.write(results, frame.encode() + b"\n")
    time.sleep(60)
