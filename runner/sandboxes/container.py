"""The configuration of a sandbox in the engine's form: every option of every container.

This is the only place that chooses options of the engine.  `container_config` sets all of them, so
that nothing is inherited from the engine's defaults, from the root image or from the user's Docker
configuration.  The reasons are beside the options.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runner.policy import Limits, Policy
from runner.policy.isolation import host_tasks, seccomp_profile
from sandbox.wire import protocol

GUEST_COMMAND: Final = ("python3", "-P", "-s", "-m", "sandbox")

WRITABLE: Final = ("/tmp", "/dev/shm")  # noqa: S108
"""All that a program can write to; a session empties these between two jobs."""


def container_config(  # noqa: PLR0913  the parts of one value, by name
    policy: Policy,
    limits: Limits,
    *,
    image: str,
    uid: int,
    labels: Mapping[str, str],
    channel_directory: str | None,
    cgroup_parent: str | None,
    arguments: Sequence[str] = (),
    cpus: float | None = None,
) -> dict[str, Any]:
    """Return the complete configuration of one sandbox, in the form of the engine's create call.

    Arguments:
        policy, limits: hardening and limits of the sandbox.
        image: an image id, never a tag.
        uid: the user id that the program runs as.
        labels: labels of the container.
        channel_directory: the host directory with the listening socket; None for the stdio carrier,
            where nothing of the host is mounted.
        cgroup_parent: the control group for the container's group; None leaves that to the engine.
        arguments: the guest's arguments, in addition to the carrier.
        cpus: the number of cores that a job may use; None if it is that of the limits.
    """
    # Even with a mounted socket, the guest falls back to stdio if it cannot connect.
    carrier = [] if channel_directory else ["--carrier", "stdio"]
    covered = dict.fromkeys((*policy.masked_paths, *policy.readonly_paths))
    ulimits = (f"{name}={value}" for name, value in policy.ulimits(limits).items())
    confinement = ("--covered", ",".join(covered), "--ulimits", ",".join(ulimits))
    return {
        "Image": image,
        "Entrypoint": [],
        "Cmd": [*GUEST_COMMAND, *carrier, *confinement, *arguments],
        "Env": [f"{name}={value}" for name, value in _environment(cpus or limits.cpus).items()],
        "User": f"{uid}:{uid}",
        "WorkingDir": "/tmp",  # noqa: S108  the sandbox's own tmpfs
        "Hostname": policy.hostname,
        "NetworkDisabled": True,
        # stdin is the lifeline: it closes when the supervisor dies, and PID 1 then exits.
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "StopTimeout": 1,
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": dict(labels),
        "HostConfig": {
            **_host_config(policy, limits, channel_directory),
            "CgroupParent": cgroup_parent or "",
        },
    }


def _host_config(policy: Policy, limits: Limits, channel_directory: str | None) -> dict[str, Any]:
    return {
        "Runtime": policy.isolation.value,
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        # The profile is loaded only together with no-new-privileges: without it, the runtime would
        # install the filter before dropping its own privileges, and fail.
        "SecurityOpt": [
            "no-new-privileges:true",
            f"seccomp={seccomp_profile(policy.isolation, policy.seccomp)}",
        ],
        "NetworkMode": "none",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Mounts": [] if channel_directory is None else [_channel_mount(channel_directory)],
        # The engine's own /dev/shm has no inode limit: freeing a million inodes takes seconds.
        "Tmpfs": {
            "/tmp": _tmpfs(policy, limits.tmp_bytes, limits.tmp_inodes),  # noqa: S108
            "/dev/shm": _tmpfs(policy, policy.shm_bytes, policy.shm_inodes),  # noqa: S108
        },
        "ShmSize": policy.shm_bytes,
        "MaskedPaths": list(policy.masked_paths),
        "ReadonlyPaths": list(policy.readonly_paths),
        "Memory": limits.memory_bytes,
        # Memory plus swap, so swap is disabled; -1 and 0 are for what is allowed to be missing.
        "MemorySwap": -1 if "swap-limit" in policy.allow_missing else limits.memory_bytes,
        "MemorySwappiness": policy.swappiness,
        "NanoCpus": 0 if "cpu-limit" in policy.allow_missing else int(limits.cpus * 1e9),
        "PidsLimit": host_tasks(policy.isolation, limits.processes),
        "OomScoreAdj": policy.oom_score_adj,
        "OomKillDisable": False,
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in policy.ulimits(limits).items()
        ],
        # The engine's log of a container would grow without bound on the host's disk.
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": False,  # it would lose the exit state, which is evidence
        "Init": False,  # PID 1 is ours
        "PublishAllPorts": False,
        "Devices": [],
        "GroupAdd": [],
    }


def _tmpfs(policy: Policy, size: int, inodes: int) -> str:
    options = f"rw,nosuid,nodev,noexec,mode=1777,size={size}"
    return f"{options},nr_inodes={inodes}" if policy.inode_limits else options


def _channel_mount(directory: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": directory,
        "Target": protocol.CHANNEL_DIRECTORY,
        # Connecting still works, but the socket cannot be replaced, and no files can be added.
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _environment(cpus: float) -> dict[str, str]:
    """Return the sandbox's complete environment; OpenMP and BLAS would count the host's CPUs."""
    threads = str(max(1, int(cpus)))
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": protocol.GUEST_DIRECTORY,
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108
        "TMPDIR": "/tmp",  # noqa: S108
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAYON_NUM_THREADS": threads,
        # Qiskit's transpiler would start threads, after which a fork in the program hangs.
        "QISKIT_IN_PARALLEL": "TRUE",
    }


def random_uid(*, rootful: bool) -> int:
    """Return a user id for one sandbox, far from those of real users if the engine allows it.

    A rootful engine maps any id, a rootless or remapped one 65 536 of them.  The container's name
    contains the id, so the engine itself ensures that no two sandboxes have the same.
    """
    if rootful:
        return (1 << 21) + secrets.randbelow(1 << 20)
    return 10_000 + secrets.randbelow(50_000)
