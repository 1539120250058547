"""A sandbox's configuration for Podman, whose Docker-compatible API lacks some of Docker's options.

`runner.sandboxes.container` chooses the options; here those that Podman ignores or refuses are said
in Podman's own way.  A sandbox that lacks one all the same is refused by `runner.policy.proof`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

_SECCOMP: Final = "seccomp="


@contextlib.contextmanager
def translated(config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configuration for Podman; the create call must be made within the `with` block.

    Podman reads the filter of system calls from a file of this host, which exists until then.
    Raises OSError.
    """
    host = config["HostConfig"]
    options = host["SecurityOpt"]
    (profile,) = (each.removeprefix(_SECCOMP) for each in options if each.startswith(_SECCOMP))
    with tempfile.NamedTemporaryFile("w", prefix="qrunner-seccomp-", suffix=".json") as file:
        file.write(profile)
        file.flush()
        is_masked = any(each.startswith("/proc/") for each in host["MaskedPaths"])
        security = [
            *(each for each in options if not each.startswith(_SECCOMP)),
            f"{_SECCOMP}{file.name}",
            f"mask={':'.join(host['MaskedPaths'])}",  # its read-only paths include all of ours
            # A zygote needs the whole of its /proc.  Not ALL, which opens the control groups too.
            *(() if is_masked else ("unmask=/proc/*",)),
        ]
        yield {**config, "HostConfig": {**host, "SecurityOpt": security}}
