"""Who listens on which TCP port of this network namespace (proc(5): /proc/net/tcp, /proc/PID/fd)."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN = "0A"  # TCP_LISTEN (net/tcp_states.h)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Listener(NamedTuple):
    """A socket that listens; `inode` is its number (sockfs)."""

    address: Address
    port: int
    inode: int


def parse(text: str) -> Iterator[Listener]:
    """The listening sockets in the text of /proc/net/tcp or tcp6. Lines that are none are passed over."""
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or words[3] != _LISTEN:
            continue
        host, _, port = words[1].partition(":")
        yield Listener(_address(host), int(port, 16), int(words[9]))


def _address(digits: str) -> Address:
    """The kernel prints words of 32 bits in its own byte order."""
    raw = bytes.fromhex(digits)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return ipaddress.ip_address(raw)


def listeners() -> list[Listener]:
    """All of this namespace. Without /proc there are none."""
    found: list[Listener] = []
    for name in ("tcp", "tcp6"):
        try:
            found += parse(Path(f"/proc/net/{name}").read_text())
        except OSError:
            continue
    return found


def owner(inode: int) -> tuple[int, str]:
    """Process and command that have the socket open; (0, "") where that can't be seen."""
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(file) == wanted for file in (process / "fd").iterdir()):  # noqa: PTH115 - text, no path
                return int(process.name), (process / "comm").read_text().strip()
        except OSError:
            continue
    return 0, ""
