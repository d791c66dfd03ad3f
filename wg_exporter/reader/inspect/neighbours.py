"""Whether a neighbour answers on its link: what is asked of the kernel's table, and what its answer means. No socket.

It is the question of `ip neigh get`. Kernels before 5.0 do not answer it.

Sources: linux/neighbour.h, net/core/neighbour.c (neigh_get, neigh_fill_info), ip-neighbour(8).
"""

from __future__ import annotations

import struct

from wg_exporter.inspected import Neighbour
from wg_exporter.linux.netlink import DecodeError, attribute
from wg_exporter.reader.links.lookups import family

RTM_GETNEIGH = 30
_NDA_DST = 1
_NDMSG = struct.Struct("=BxxxiHBB")  # family, interface, state, flags, type
_INCOMPLETE, _FAILED = 0x01, 0x20
_VALID = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80  # REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT


def request(address: bytes, ifindex: int) -> bytes:
    """The payload of RTM_GETNEIGH for a packed address on a link."""
    return _NDMSG.pack(family(address), ifindex, 0, 0, 0) + attribute(_NDA_DST, address)


def decode(answer: bytes) -> Neighbour | None:
    """An answer to RTM_GETNEIGH; None for a state that says nothing. Raises DecodeError."""
    if len(answer) < _NDMSG.size:
        raise DecodeError("neighbour message cut short")
    state = _NDMSG.unpack_from(answer)[2]
    if state & _FAILED:
        return Neighbour.SILENT
    if state & _INCOMPLETE:
        return Neighbour.ASKED
    return Neighbour.KNOWN if state & _VALID else None
