"""Looking into images: what a command finds in a container of one."""

from __future__ import annotations

import json

LOOK = """
import importlib.util, json, shutil, subprocess

def find(*test):
    found = subprocess.run(["find", "/", "-xdev", *test], capture_output=True, text=True)
    return [each for each in found.stdout.splitlines() if not each.startswith(("/dev/", "/proc/"))]

path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
tools = "apt dpkg pip pip3 perl gcc cc make su mount awk".split()
modules = "pip ensurepip setuptools".split()
print(json.dumps({
    "setuid or setgid": find("-perm", "/6000"),
    "writable for everybody": find("-perm", "-o+w", "-not", "-type", "l"),
    "tools": [each for each in tools if shutil.which(each, path=path)],
    "modules": [each for each in modules if importlib.util.find_spec(each)],
}))
"""


def run(client, image, *command, user=None):
    """Return what the command prints in a container of the image."""
    # No network: the tests are not about it, and not every engine has a bridge.
    output = client.containers.run(
        image, list(command), user=user, remove=True, network_mode="none", stderr=True
    )
    return output.decode()


def check_stack(client, image):
    """Assert what holds for every image of ours, whatever root it stands on."""
    assert json.loads(run(client, image, "python3", "-c", LOOK, user="0")) == {
        "setuid or setgid": [],
        "writable for everybody": ["/tmp"],
        "tools": [],
        "modules": [],
    }
