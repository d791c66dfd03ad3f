"""The packet socket of one network namespace (packet(7)): it sees what arrives before every filter of this host and
before rp_filter, and what leaves after all of them (net/core/dev.c: `__netif_receive_skb_core`, `xmit_one`).

ETH_P_ALL, as nothing else sees what leaves. While such a socket takes in what leaves, the kernel makes a clone of each
such packet, of the head alone and not of the data, before the filter drops it: `leaving` says when it does. It is bound
to no interface: which one a packet leaves by is for the host's rules to decide, at each packet.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from typing import TYPE_CHECKING

from wg_exporter.prober.watcher import filters
from wg_exporter.prober.watcher.book import Captured
from wg_exporter.prober.wire.sockets import SO_RCVBUFFORCE, attach_filter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from wg_exporter.prober.wire.sockets import Opener

ETH_P_ALL = 0x0003  # linux/if_ether.h
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23  # linux/socket.h, linux/if_packet.h
SIOCGIFINDEX = 0x8933  # linux/sockios.h

RECEIVE_BUFFER = 4 << 20  # bytes: a message takes 800 of them
LONGEST = 2048  # bytes of a packet: an error quotes 576 or 1280 at most

_REASONS = {
    errno.EPERM: "CAP_NET_RAW is missing",
    errno.EACCES: "CAP_NET_RAW is missing",
    errno.EAFNOSUPPORT: "AF_PACKET is not allowed (RestrictAddressFamilies in the unit), or the kernel has none",
}

_STATISTICS = struct.Struct("=II")  # struct tpacket_stats: packets, and of them those that found no room
_IFREQ = struct.Struct("=16si20x")
_ADDRESS = struct.Struct("=HHiHBB8x")  # struct sockaddr_ll: family, protocol (big endian), interface, and more

_LIBC = ctypes.CDLL(None, use_errno=True)


class WatchSocket:
    """Open from the beginning to `close`."""

    def __init__(self, netns: str, ports: Collection[int], open_socket: Opener) -> None:
        """For devices that listen on these UDP ports. Raises OSError: EPERM without CAP_NET_RAW."""
        # Without a protocol it gets nothing before it is bound, and then it has its filter.
        self._socket = open_socket(netns, socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._ports = frozenset(ports)
        try:
            self._socket.settimeout(0)
            attach_filter(self._socket, filters.watch(ports))
            self.choosy = self.look_at_leaving(look=False)
            """Whether it can leave out what leaves: before Linux 4.20 it always takes that in."""
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)  # up to net.core.rmem_max
            with contextlib.suppress(PermissionError):  # beyond it, with CAP_NET_ADMIN
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            _bind(self._socket)
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close it; packets cost nothing any more."""
        self._socket.close()

    def listen_to(self, ports: Collection[int]) -> None:
        """Take these ports from now on. Raises OSError."""
        if self._ports != ports:
            attach_filter(self._socket, filters.watch(ports))
            self._ports = frozenset(ports)

    def look_at_leaving(self, *, look: bool) -> bool:
        """Take in what leaves too, or what arrives alone. Returns whether that can be chosen."""
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, int(not look))
        except OSError:
            return False
        return True

    def read(self, most: int) -> Iterator[Captured]:
        """At most so many packets, in the order in which they passed. What can't be read is left."""
        for _ in range(most):
            try:
                packet, (interface, _, kind, *_) = self._socket.recvfrom(LONGEST)
            except OSError:  # nothing there, mostly
                return
            if kind in (filters.PACKET_HOST, filters.PACKET_OUTGOING):
                yield Captured(packet, interface, kind == filters.PACKET_OUTGOING)

    def lost(self) -> int:
        """How many packets found no room since the last call."""
        try:
            told = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        except OSError:
            return 0
        return int(_STATISTICS.unpack(told)[1]) if len(told) == _STATISTICS.size else 0

    def index(self, interface: str) -> int:
        """The index of an interface in the namespace of the socket. Raises OSError."""
        name = interface.encode("utf-8", "surrogateescape")[:15]
        return int(_IFREQ.unpack(fcntl.ioctl(self._socket, SIOCGIFINDEX, _IFREQ.pack(name, 0)))[1])


def _bind(sock: socket.socket) -> None:
    """Take in all protocols of all interfaces from now on, which Python's own bind can't: it wants an interface.
    Raises OSError.
    """
    address = _ADDRESS.pack(socket.AF_PACKET, socket.htons(ETH_P_ALL), 0, 0, 0, 0)
    if _LIBC.bind(sock.fileno(), address, len(address)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def why(error: OSError, netns: str) -> str:
    """One line on why there is no socket in this namespace."""
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return f"no packet socket{f' in {netns}' if netns else ''}: {reason}"
