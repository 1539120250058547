"""Turn a root file system into the stack, from inside the build.

Runs once, as root and without a network, in the first stage of the Dockerfile.  Works alike on the
official Python image (Python in /usr/local) and on a bootstrapped Debian (Python in /usr), with the
standard library only.  Everything it removes is gone for good: the second stage copies what is
left.  Any failure ends the build.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import site
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PYTHON = (3, 11)
BUILD = Path("/build")
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
OWN_DIRECTORIES = ("/run/qrunner", "/program", "/opt/qrunner")
TEMPORARY = Path("/tmp")  # noqa: S108  # the sandbox's own
PACKAGES_FILE = Path("/opt/qrunner/packages.txt")

UNWANTED = (
    # package managers, and what only they need
    "etc/apt etc/dpkg etc/cron.* etc/logrotate.d etc/alternatives etc/debconf.conf",
    "usr/bin/apt* usr/bin/dpkg* usr/bin/deb* usr/bin/update-alternatives usr/sbin/dpkg*",
    "usr/lib/apt usr/lib/dpkg usr/lib/*/libapt-*.so* usr/sbin/start-stop-daemon",
    "usr/share/dpkg usr/share/debconf usr/share/keyrings var/lib/apt var/lib/dpkg",
    "usr/bin/gpgv usr/lib/systemd usr/share/bash-completion usr/sbin/pam* usr/lib/*/security",
    # other languages and compilers
    "usr/bin/perl* usr/bin/cpan* usr/lib/*/perl* usr/share/perl* usr/bin/*awk etc/perl",
    "usr/bin/*gcc* usr/bin/*g++* usr/bin/cc usr/bin/c++ usr/bin/as usr/bin/ld usr/bin/ld.*",
    "usr/bin/make usr/lib/gcc usr/include usr/local/include",
    # accounts and mounts: nobody logs in here, and most of these are setuid
    "usr/bin/su usr/bin/passwd usr/bin/chfn usr/bin/chsh usr/bin/gpasswd usr/bin/newgrp",
    "usr/bin/*mount usr/bin/chage usr/bin/expiry usr/sbin/*user* usr/sbin/*group*",
    "etc/shadow etc/gshadow etc/*- etc/pam.d etc/pam.conf etc/security etc/update-motd.d",
    "etc/systemd etc/init.d etc/rc*.d",
    # documentation and caches; the licences in usr/share/doc/*/copyright stay
    "usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bug",
    "usr/share/doc-base usr/share/python3 usr/share/pixmaps usr/share/applications",
    "usr/share/menu usr/share/gdb usr/local/man usr/local/share/man",
    "var/backups var/cache/* var/log/* var/lib/systemd var/lib/pam tmp/* root/.*",
)
"""What a program does not need and an attacker may, as patterns below /."""

COMMANDS = "bash coreutils dash debianutils diffutils findutils grep gzip hostname libc-bin sed tar"
"""The Debian packages whose commands stay, besides Python's own."""

UNWANTED_LIBRARY = (
    "ensurepip idlelib lib2to3 tkinter turtledemo turtle.py test unittest/test sqlite3/test",
    "ctypes/test distutils/tests config-*",
)
"""Of the standard library: what installs, what draws, what tests Python itself."""

UNWANTED_SITE = "pip pip-* setuptools setuptools-* wheel wheel-* pkg_resources _distutils_hack"

KEPT_OF_TESTS = "numpy/_core/tests/_natype.py"
"""What numpy.testing imports, and with it much of SciPy; other tests of packages are removed."""

ACCOUNTS = """\
root:x:0:0:root:/:/bin/false
program:x:65532:65532:program:/tmp:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
"""
GROUPS = "root:x:0:\nprogram:x:65532:\nnogroup:x:65534:\n"


def main() -> None:
    """Install, remove, tighten, compile, and try the result."""
    if sys.version_info[:2] != PYTHON:
        sys.exit(f"the root image has Python {sys.version}, not {PYTHON}: the wheels do not fit it")
    record_packages()
    packages = install_wheels()
    remove_unwanted(packages)
    write_accounts()
    for each in OWN_DIRECTORIES:
        Path(each).mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.rmtree(BUILD)
    tighten_modes()
    if ldconfig := shutil.which("ldconfig", path="/usr/sbin:/sbin"):
        run(ldconfig)  # a bootstrapped root has no cache of its shared libraries yet
    compile_everything(packages)
    # A stack that cannot be imported must not get a tag.
    run(sys.executable, "-c", "import qiskit, qiskit_aer, sqlite3, ssl, ctypes, lzma, bz2, zlib")


def run(*command: str, **environment: str) -> None:
    """Run a command in this environment and `environment`; its failure ends the build."""
    subprocess.run(command, check=True, env={**os.environ, **environment})


def record_packages() -> None:
    """Leave the list of Debian packages in the image, unless the bootstrap has put it there."""
    if PACKAGES_FILE.exists():
        return
    lines = []
    for entry in Path("/var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in entry.splitlines() if ": " in line[:40])
        if "Package" in fields and "Version" in fields:
            lines.append(f"{fields['Package']}={fields['Version']}\n")
    PACKAGES_FILE.parent.mkdir(parents=True, exist_ok=True)
    PACKAGES_FILE.write_text("".join(sorted(lines)))


def install_wheels() -> Path:
    """Install the locked wheels where the interpreter looks; return that directory."""
    [pip] = (BUILD / "wheels").glob("pip-*.whl")
    run(
        *(sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(pip.parent)),
        *("--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile", "--no-cache-dir"),
        *("--break-system-packages", "--root-user-action=ignore", "--disable-pip-version-check"),
        *("--no-warn-script-location", "-r", str(BUILD / "requirements.lock")),
        PYTHONPATH=str(pip),
        PYTHONDONTWRITEBYTECODE="1",
    )
    importlib.invalidate_caches()
    site.main()  # the directory may not have been there when this interpreter started
    found = importlib.util.find_spec("qiskit")
    if found is None or found.origin is None:
        msg = f"pip installed the wheels where {sys.executable} does not look: {sys.path}"
        raise RuntimeError(msg)
    return Path(found.origin).parent.parent


def remove_unwanted(packages: Path) -> None:
    """Remove what installs, compiles, documents and tests."""
    # The official image has more commands than a bootstrapped root, and knows whose they are.
    for listing in Path("/var/lib/dpkg/info").glob("*.list"):
        package = listing.stem.partition(":")[0]
        if package not in COMMANDS.split() and not package.startswith("python3"):
            owned = (Path(line) for line in listing.read_text().splitlines())
            remove(path for path in owned if path.parent.name in ("bin", "sbin"))
    for pattern in " ".join(UNWANTED).split():
        remove(Path("/").glob(pattern))
    for pattern in " ".join(UNWANTED_LIBRARY).split():
        remove(STANDARD_LIBRARY.glob(pattern))
    for pattern in UNWANTED_SITE.split():
        remove(packages.glob(pattern))
    for pip in ("pip*", "wheel", "idle*", "2to3*", "pydoc*"):
        remove(path for each in ("usr/local/bin", "usr/bin") for path in Path("/", each).glob(pip))
    kept = packages / KEPT_OF_TESTS
    tests = [each for each in packages.glob("**/tests") if each.is_dir()]
    remove(each for each in tests if each != kept.parent)
    remove(each for each in kept.parent.glob("*") if each != kept)
    for each in ("/usr/bin", "/usr/sbin", "/etc"):  # what used to be a link to something removed
        remove(path for path in Path(each).iterdir() if path.is_symlink() and not path.exists())
    remove(path for path in Path("/usr/share/doc").glob("*/*") if path.name != "copyright")
    for top in ("/usr", "/opt", "/etc"):
        remove(Path(top).glob("**/__pycache__"))


def remove(paths: Iterator[Path]) -> None:
    """Remove files, links and whole directories."""
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_accounts() -> None:
    """Leave three accounts that nobody can log in to: programs may ask who they are."""
    Path("/etc/passwd").write_text(ACCOUNTS)
    Path("/etc/group").write_text(GROUPS)


def tighten_modes() -> None:
    """No setuid, no setgid, and nothing that everybody can write but /tmp."""
    for directory, subdirectories, files in os.walk("/"):
        if directory == "/":
            subdirectories[:] = [
                each for each in subdirectories if each not in ("proc", "sys", "dev")
            ]
        for name in [*subdirectories, *files]:
            path = os.path.join(directory, name)  # noqa: PTH118  # a hundred thousand of them
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode) and mode & 0o7022:
                Path(path).chmod(stat.S_IMODE(mode) & ~0o7022)
    TEMPORARY.mkdir(exist_ok=True)
    TEMPORARY.chmod(0o1777)


def compile_everything(packages: Path) -> None:
    """Compile the standard library and the stack to bytecode that is never checked again."""
    directories = [STANDARD_LIBRARY]
    if not packages.is_relative_to(STANDARD_LIBRARY):
        directories.append(packages)
    run(
        # -f: what the interpreter has written for itself on the way is of the kind that is checked
        *(sys.executable, "-I", "-B", "-m", "compileall", "-q", "-f", "-j", "0"),
        *("--invalidation-mode", "unchecked-hash", *map(str, directories)),
    )


if __name__ == "__main__":
    main()
