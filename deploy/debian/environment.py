"""Make the directory /usr/lib/wg-exporter of the package: a virtual environment with wg-exporter and its libraries.

    environment.py --python /usr/bin/python3 --lock requirements.lock --wheel WHEEL --copyright FILE DIRECTORY

`python -m venv` would write the path that it is made at into its files; this one is never run from there. Files of
libraries that nothing here imports are left out. At the end the parts that are left are used, in a process of its own,
each for what wg-exporter needs it for: a file too many left out ends the build, not a page at night.
"""

from __future__ import annotations

import argparse
import email
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Whole libraries that others ask for and wg-exporter never reaches.
UNUSED = {
    "pygments": "rich colours source code with it",
    "cffi": "builds modules; cryptography needs only _cffi_backend, which stays",
    "pycparser": "cffi needs it to build",
}
# Of scapy, the writer of captures is used, and what `diagnose --packets` takes apart.
KEPT = {
    f"scapy/{name}"
    for name in (
        *("layers/__init__.py", "layers/inet.py", "layers/inet6.py", "layers/l2.py"),
        *("contrib/__init__.py", "contrib/wireguard.py"),
    )
}
LEFT_OUT = (
    *("scapy/contrib/*", "scapy/layers/*", "scapy/modules", "scapy/tools", "scapy/cbor"),
    *("bin", "share", "click/testing.py"),
    *("**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.h", "**/*.c", "**/py.typed"),
    # Of use to pip alone, and with the path of this directory in it.
    *("*.dist-info/RECORD", "*.dist-info/REQUESTED", "*.dist-info/INSTALLER", "*.dist-info/direct_url.json"),
)
CONFIG = "home = /usr/bin\ninclude-system-site-packages = false\nversion = {}\n"
USE = """
import importlib, os, pkgutil, tempfile
from pathlib import Path
import wg_exporter
for module in pkgutil.walk_packages(wg_exporter.__path__, "wg_exporter."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
from wg_exporter.reader.userspace.secrets import derived_public_key
assert derived_public_key(bytearray(b"private_key=" + b"77" * 32 + b"\\n"))
from wg_exporter.cli.pcap import Caught, Capture
from wg_exporter.prober.mtu.probes import Layer
with tempfile.TemporaryDirectory() as directory:
    path = Path(directory, "x.pcapng")
    capture = Capture(path, None)
    capture.write(Caught(1.5, "wg0", Layer.INNER, True, b"\\x45" + bytes(40), bytes(16)))
    capture.close()
    assert path.stat().st_size > 100
from scapy.contrib.wireguard import Wireguard
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
assert Wireguard(bytes([2]) + bytes(91)).payload.receiver_index == 0
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
assert ChaCha20Poly1305(bytes(32)).encrypt(bytes(12), b"x", None)
from rich.console import Console
from rich.table import Table
Console(file=open(os.devnull, "w"), force_terminal=True).print(Table("a", "[bold]b"))
import bcrypt
assert bcrypt.checkpw(b"x", bcrypt.hashpw(b"x", bcrypt.gensalt(4)))
from wg_exporter.web.docs import Docs
assert b"<h1" in Docs().body("/docs/alerts/WireGuardPeerDown")
from pyroute2 import netns
from wg_exporter.config import load
"""


def make(directory: Path, python: Path, lock: Path, wheel: Path) -> Path:
    """Fill the directory; where its modules are. Raises CalledProcessError with what pip said already printed."""
    version = _output(python, "import platform; print(platform.python_version())")
    site = directory / f"lib/python{'.'.join(version.split('.')[:2])}/site-packages"
    (directory / "bin").mkdir(parents=True)
    (directory / "bin/python3").symlink_to("/usr/bin/python3")
    (directory / "pyvenv.cfg").write_text(CONFIG.format(version))
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-compile", "--no-deps"]
    # With a target, pip leaves alone what this interpreter has, and Debian's mark on it does not matter.
    into = ["--target", str(site), "--only-binary", ":all:"]
    subprocess.run([*pip, *into, "--require-hashes", "--requirement", str(lock)], check=True)
    subprocess.run([*pip, *into, "--upgrade", str(wheel)], check=True)
    for name in UNUSED:
        _remove(site / name)
        for info in site.glob(f"{name}-*.dist-info"):
            _remove(info)
    for pattern in LEFT_OUT:
        for path in site.glob(pattern):
            if str(path.relative_to(site)) not in KEPT:
                _remove(path)
    for module in site.rglob("*.py"):
        text = module.read_bytes()
        if text.startswith(b"#!"):  # some libraries have it in modules that are no programs
            module.write_bytes(b"#" + text[2:])
    subprocess.run([directory / "bin/python3", "-I", "-B", "-c", USE], check=True)
    return site


def licences(site: Path) -> str:
    """A paragraph of debian/copyright (DEP 5) for each library, from what it says of itself."""
    paragraphs = []
    for info in sorted(site.glob("*.dist-info")):
        about = email.message_from_string((info / "METADATA").read_text())
        name = about["Name"]
        if name == "wg-exporter":
            continue
        owners = [line for key in ("Author", "Author-email", "Maintainer") if (line := about[key])]
        licence = about["License-Expression"] or (about["License"] or "see its files").partition("\n")[0]
        paragraphs.append(
            f"Files: usr/lib/wg-exporter/{'/'.join(site.parts[-3:-1])}/*/{info.name.partition('-')[0]}*\n"
            f"Copyright: {owners[0] if owners else f'the authors of {name}'}\n"
            f"License: {re.sub('[^A-Za-z0-9.+-]+', '-', licence)}\n"
            f" {name} {about['Version']}: the text is in /usr/lib/wg-exporter,\n in {info.name}.\n"
        )
    return "\n" + "\n".join(paragraphs)


def _output(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("python", "lock", "wheel", "copyright"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("directory", type=Path)
    found = parser.parse_args()
    site = make(found.directory, found.python, found.lock, found.wheel)
    with found.copyright.open("a") as copyright_file:
        copyright_file.write(licences(site))


if __name__ == "__main__":
    main()
