"""Who has a UDP port in the network namespace of the calling thread: a device's own daemon, another process, nobody.

The kernel's own sockets belong to no process, so a kernel device is known to have its port only if no process has it
and no other device claims it. Without CAP_SYS_PTRACE the files of other users' processes can't be looked at, and in a
container, or where /proc hides processes (hidepid), there are others that are not seen; then nothing is said that would
need it.

Sources: net/ipv4/udp.c (udp4_format_sock), proc(5) (/proc/PID/fd, hidepid), unix(7) (SO_PEERCRED),
include/linux/proc_ns.h (PROC_PID_INIT_INO).
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

NET = Path("/proc/thread-self/net")
PROC = Path("/proc")

MOST_BYTES = 32 << 20  # of the list of sockets
MOST_PROCESSES = 4096
MOST_FILES = 65536  # of all processes together

CONNECT_SECONDS = 0.5
ALL_PROCESSES = "pid:[4026531836]"  # the namespace in which every process of the host has a number
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: process, user, group


class Holder(NamedTuple):
    """A process that has the port open."""

    pid: int
    name: str


class Found(NamedTuple):
    """The sockets on a port. `complete`: all processes could be looked at, so that no other one has it."""

    inodes: frozenset[int]
    holders: tuple[Holder, ...]
    complete: bool


def inodes(port: int, net: Path = NET) -> frozenset[int] | None:
    """The inodes of the UDP sockets bound to a port, of both families; None if the list can't be read."""
    found: set[int] = set()
    for name in ("udp", "udp6"):
        try:
            with (net / name).open("rb") as file:
                found |= set(decode(file.read(MOST_BYTES).splitlines()[1:], port))
        except FileNotFoundError:
            if name == "udp":
                return None
        except OSError:
            return None
    return frozenset(found)


def decode(lines: Iterable[bytes], port: int) -> Iterator[int]:
    """The inodes in lines like `  12: 00000000:CA6C 00000000:0000 07 0:0 0:0 0 0 0 4711 ...` of this port."""
    for line in lines:
        fields = line.split(None, 10)
        digits = fields[1].rpartition(b":")[2] if len(fields) > 9 else b""
        with suppress(ValueError):
            if len(digits) == 4 and digits.isalnum() and int(digits, 16) == port and fields[9].isdigit():
                yield int(fields[9])


def look(port: int, net: Path = NET, proc: Path = PROC) -> Found | None:
    """Who has the port here. None if it can't be read."""
    wanted = inodes(port, net)
    if wanted is None:
        return None
    if not wanted:
        return Found(wanted, (), complete=True)
    links = {f"socket:[{inode}]" for inode in wanted}
    holders: list[Holder] = []
    files = 0
    processes = [name for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - names alone
    complete = len(processes) <= MOST_PROCESSES and "1" in processes and _link(proc / "self/ns/pid") == ALL_PROCESSES
    for name in processes[:MOST_PROCESSES]:
        opened = _opened(proc / name)
        if opened is None:
            complete = False
            continue
        files += len(opened)
        if files > MOST_FILES:
            return Found(wanted, tuple(holders), complete=False)
        if not links.isdisjoint(opened):
            holders.append(Holder(int(name), _name(proc / name)))
    return Found(wanted, tuple(holders), complete=complete)


def _opened(process: Path) -> list[str] | None:
    """What a process has open, nothing if it has ended; None if that can't be looked at. Of one with capabilities that
    we lack the list of files may be read and the files may not (ptrace(2), access mode checking).
    """
    found = []
    try:
        for number in os.listdir(process / "fd"):  # noqa: PTH208 - names alone
            with suppress(FileNotFoundError):  # it was closed
                found.append(os.readlink(process / "fd" / number))  # noqa: PTH115 - text is what is compared
    except FileNotFoundError:
        return found
    except OSError:
        return None
    return found


def visible(pid: int, proc: Path = PROC) -> bool:
    """Whether the files of a process can be looked at."""
    return os.access(proc / str(pid) / "fd", os.R_OK | os.X_OK) and _opened(proc / str(pid)) is not None


def daemon_of(control: Path) -> int | None:
    """The process that listens on a control socket (/var/run/wireguard/NAME.sock); None if it can't be asked."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.settimeout(CONNECT_SECONDS)
        opened.connect(str(control))
        pid, _user, _group = _CREDENTIALS.unpack(opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid) or None
    return None


def _link(path: Path) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 - text is what is compared
    except OSError:
        return ""


def _name(process: Path) -> str:
    with suppress(OSError):
        return (process / "comm").read_bytes()[:64].decode(errors="replace").strip()
    return ""
