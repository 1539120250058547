import os
import stat

EXPECTED_ENVIRONMENT = {
    "PATH",
    "HOSTNAME",
    "container",  # of Podman
    "PYTHONUNBUFFERED",
    "PYTHONDONTWRITEBYTECODE",
    "LANG",
    "HOME",
    "TMPDIR",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "QISKIT_IN_PARALLEL",
    "QISKIT_NUM_PROCS",
    "KMP_INIT_AT_FORK",
    "LC_CTYPE",
    "TERM",
}


def kind(number):
    mode = os.fstat(number).st_mode
    names = {stat.S_ISSOCK: "socket", stat.S_ISFIFO: "pipe", stat.S_ISCHR: "device"}
    return next((name for test, name in names.items() if test(mode)), "FILE")


def main(backend, user_messenger):
    numbers = [int(each) for each in os.listdir("/proc/self/fd")]
    low = {}
    high = set()
    for number in sorted(numbers):
        try:
            if number > 2:
                high.add(kind(number))
            else:
                low[str(number)] = kind(number)
        except OSError:
            continue  # the listing's own
    try:
        os.open(f"/proc/self/exe", os.O_WRONLY)
        executable = "SUCCEEDED"
    except OSError:
        executable = "blocked"
    return {
        "low": low,
        "others": sorted(high - {"socket", "pipe"}),
        "unexpected environment": sorted(set(os.environ) - EXPECTED_ENVIRONMENT),
        "directory": os.getcwd(),
        "write the executable": executable,
    }
