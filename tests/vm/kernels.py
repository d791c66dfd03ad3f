"""Debian's own kernels for the virtual machine: found with apt, unpacked into a cache, used from there the next time.

Only the plain amd64 images will do: the cloud flavour has no 9p (the guest's root is the host's file system) and the
unsigned and debug packages hold no bootable image. The first program in the guest has to be a statically linked
busybox, which the one that most machines have is not: it comes the same way, as its package would replace theirs.
Nothing is installed: the packages are only unpacked.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.surroundings import OUTSIDE, outside

if TYPE_CHECKING:
    from collections.abc import Callable

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
    tree = _fetched(lambda: _image(series), _modules, "depmod")
    release = next((tree / "lib" / "modules").iterdir()).name
    return Kernel(release, tree / "boot" / f"vmlinuz-{release}")


def busybox() -> Path:
    """A directory for PATH with a statically linked `busybox-static`, which vng prefers. Raises Unavailable."""
    return _fetched(lambda: ("busybox-static", _version("busybox-static")), _beside) / "tools"


def _fetched(find: Callable[[], tuple[str, str]], finish: Callable[[Path], None], *tools: str) -> Path:
    """The tree of the package that `find` names, from the cache or from apt: after an update, if it must be."""
    for tool in ("apt-cache", "apt-get", "dpkg", *tools):
        if shutil.which(tool) is None:
            raise Unavailable(f"no kernel for the virtual machine: {tool} is missing (it needs Debian with kmod)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several boots, and tests and the benchmark, may come at the same time
        try:
            return _unpacked(*find(), finish)
        except Unavailable:  # a fresh machine's apt knows no packages, and an old list those that are gone
            _apt("apt-get", "-q", "update")
            return _unpacked(*find(), finish)


def _image(series: str) -> tuple[str, str]:
    """Package and version of the newest image of the series."""
    for package in sorted(_images(series), key=_numbers, reverse=True):
        with contextlib.suppress(Unavailable):
            return package, _version(package)
    there = ", ".join(sorted({_IMAGE.match(name)["series"] for name in _images("")})) or "none"  # type: ignore[index]
    raise Unavailable(f"apt has no Debian kernel {series} for amd64 (kernels it has: {there})")


def _version(package: str) -> str:
    """The version that apt would install."""
    version = re.search(r"^\s*Candidate: (\S+)", _apt("apt-cache", "policy", package), re.MULTILINE)
    if version is None or version[1] == "(none)":
        raise Unavailable(f"apt has no {package} for the virtual machine")
    return version[1]


def _images(series: str) -> list[str]:
    """Every plain image package that apt knows; of all series with an empty one."""
    names = _apt("apt-cache", "pkgnames", f"linux-image-{series}").split()
    plain = [m for m in map(_IMAGE.match, names) if m is not None and not _OTHER_FLAVOURS.search(m[0])]
    return [m[0] for m in plain if series in ("", m["series"])]


def _numbers(package: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", package)]


def _unpacked(package: str, version: str, finish: Callable[[Path], None]) -> Path:
    """The package's files, completed by `finish`: made beside their final place, so no half of them looks whole."""
    tree = CACHE / f"{package}_{version.replace(':', '%3a')}"
    if tree.is_dir():
        return tree
    work = tree.with_name(tree.name + ".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    # apt gives up root for a user that may not write here; there is nothing to protect from in a download.
    _apt("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", f"{package}={version}", cwd=work)
    for deb in work.glob("*.deb"):
        _apt("dpkg", "-x", str(deb), str(work))
        deb.unlink()
    finish(work)
    work.rename(tree)
    return tree


def _modules(tree: Path) -> None:
    if not (tree / "lib").exists():  # from Debian 13 on the modules lie under /usr/lib
        (tree / "lib").symlink_to("usr/lib")
    _apt("depmod", "-b", str(tree), next((tree / "lib" / "modules").iterdir()).name)


def _beside(tree: Path) -> None:
    """The binary under the name that is looked for first."""
    (binary,) = tree.glob("**/bin/busybox")
    (tree / "tools").mkdir()
    binary.rename(tree / "tools" / "busybox-static")


def _apt(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        outside(command), cwd=cwd, env=OUTSIDE, capture_output=True, text=True, check=False, timeout=600
    )
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise Unavailable(f"no kernel for the virtual machine: {' '.join(command[:2])} failed: {last}")
    return done.stdout
