"""Which UDP ports are bound in the network namespace of the calling thread.

A WireGuard device keeps its UDP socket in the namespace where it was created, or where its daemon runs. The device
itself may be moved to another, such as that of a container. The kernel does not say where the socket is (no
IFLA_LINK_NETNSID: drivers/net/wireguard/device.c has no get_link_net), but the port comes with the device, and the list
of bound ports, which has the kernel's own sockets too, shows where it is bound.

Read from /proc, for the faster sock_diag makes the kernel load a module. IPv4 is enough: WireGuard binds both families.

Source: net/ipv4/udp.c (udp4_format_sock), proc(5).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable

UDP = Path("/proc/thread-self/net/udp")

# A host with more sockets than this has other troubles, and must not fill our memory.
MAX_BYTES = 32 * 1024 * 1024


def udp_ports(path: Path = UDP) -> frozenset[int]:
    """The local ports of all UDP sockets. Raises SourceError if they can't be read."""
    try:
        with path.open("rb") as file:
            return decode(file.read(MAX_BYTES).splitlines()[1:])
    except OSError as error:
        raise SourceError(f"{path}: {os.strerror(error.errno or 0)}") from None


def decode(lines: Iterable[bytes]) -> frozenset[int]:
    """The local ports in lines like `  12: 00000000:CA6C 00000000:0000 07 ...`; others are passed over."""
    return frozenset(port for port in map(_port, lines) if port)


def _port(line: bytes) -> int:
    fields = line.split(None, 2)
    digits = fields[1].rpartition(b":")[2] if len(fields) > 1 else b""
    try:
        return int(digits, 16) if len(digits) == 4 and digits.isalnum() else 0
    except ValueError:
        return 0
