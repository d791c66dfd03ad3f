"""Debian's own kernels for the virtual machine: found with apt, unpacked into a cache, used from there the next time.

Only the plain amd64 images will do: the cloud flavour has no 9p (the guest's root is the host's file system) and the
unsigned and debug packages hold no bootable image. Nothing is installed: the packages are only unpacked.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
CACHE = REPO / ".cache" / "vm"
_IMAGE = re.compile(r"^linux-image-(?P<release>(?P<series>\d+\.\d+)\.\d+\S*?-amd64)$")
_OTHER_FLAVOURS = re.compile(r"-(cloud|rt|unsigned|dbg)\b|-template$")


class Unavailable(Exception):  # noqa: N818 - not a fault of the program: a reason to skip, in one line
    """This machine cannot run the virtual machine; the message says why and what to do."""


class Kernel(NamedTuple):
    """A bootable kernel: its release as in `uname -r`, and its image with the modules beside it."""

    release: str
    image: Path


def kernel(series: str) -> Kernel:
    """The newest Debian kernel of a series such as `6.12`, fetched if the cache lacks it. Raises Unavailable."""
    for tool in ("apt-cache", "apt-get", "dpkg", "depmod"):
        if shutil.which(tool) is None:
            raise Unavailable(f"no kernel for the virtual machine: {tool} is missing (it needs Debian with kmod)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several boots, and tests and the benchmark, may come at the same time
        package, version = _candidate(series)
        release = package.removeprefix("linux-image-")
        tree = CACHE / f"{package}_{version.replace(':', '%3a')}"
        if not tree.is_dir():
            _unpack(package, version, release, tree)
    return Kernel(release, tree / "boot" / f"vmlinuz-{release}")


def _candidate(series: str) -> tuple[str, str]:
    """Package and version of the newest image of the series."""
    found = _images(series)
    if not found:
        _apt("apt-get", "-q", "update")
        found = _images(series)
    for package in sorted(found, key=_numbers, reverse=True):
        version = re.search(r"^\s*Candidate: (\S+)", _apt("apt-cache", "policy", package), re.MULTILINE)
        if version is not None and version[1] != "(none)":
            return package, version[1]
    there = ", ".join(sorted({_IMAGE.match(name)["series"] for name in _images("")})) or "none"  # type: ignore[index]
    raise Unavailable(f"apt has no Debian kernel {series} for amd64 (kernels it has: {there})")


def _images(series: str) -> list[str]:
    """Every plain image package that apt knows; of all series with an empty one."""
    names = _apt("apt-cache", "pkgnames", f"linux-image-{series}").split()
    plain = [m for m in map(_IMAGE.match, names) if m is not None and not _OTHER_FLAVOURS.search(m[0])]
    return [m[0] for m in plain if series in ("", m["series"])]


def _numbers(package: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", package)]


def _unpack(package: str, version: str, release: str, tree: Path) -> None:
    """Download and unpack beside the final place, so that a broken download never looks like a kernel."""
    work = tree.with_name(tree.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    # apt gives up root for a user that may not write here; there is nothing to protect from in a download.
    _apt("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", f"{package}={version}", cwd=work)
    for deb in work.glob("*.deb"):
        _apt("dpkg", "-x", str(deb), str(work))
        deb.unlink()
    if not (work / "lib").exists():  # from Debian 13 on the modules lie under /usr/lib
        (work / "lib").symlink_to("usr/lib")
    _apt("depmod", "-b", str(work), release)
    work.rename(tree)


def _apt(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"no kernel for the virtual machine: {' '.join(command[:2])} failed: {last}")
    return done.stdout
