"""Whether a captured packet is one of our probes or an answer to one: by its token, and by nothing else.

A probe carries 8 random bytes after its ICMP or UDP header; an echo reply returns them, an ICMP error quotes them. Of a
fragmented packet only the first fragment has them; the others are known by having the same identification.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

ICMP, UDP, FRAGMENT, ICMPV6 = 1, 17, 44, 58  # protocol numbers (IANA)
MOST_FRAGMENTED = 1_024  # packets of ours whose later fragments are recognised

_HALF = Struct("!H")
_TOKEN = Struct("!Q")
_ECHOES = {ICMP: (0, 8), ICMPV6: (128, 129)}
_ERRORS = {ICMP: (3, 11), ICMPV6: (1, 2, 3)}


class _Header(NamedTuple):
    """What matters of an IP header: protocol and start of the payload. `fragment_of` names the packet of a fragment."""

    protocol: int
    start: int
    first: bool = True
    fragment_of: Hashable = None


class Fragments:
    """Recognises our packets, later fragments included. Memory is bounded by `MOST_FRAGMENTED`."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, None] = OrderedDict()

    def belong(self, packet: bytes, ours: Callable[[int], bool]) -> bool:
        """Whether this packet is ours. Fragments have to come in the order in which they were captured."""
        header = _header(packet)
        if header is None:
            return False
        if not header.first:
            return header.fragment_of in self._known
        token = _token(packet, header)
        if token is None or not ours(token):
            return False
        if header.fragment_of is not None:
            self._known[header.fragment_of] = None
            if len(self._known) > MOST_FRAGMENTED:
                self._known.popitem(last=False)
        return True


def token_of(packet: bytes) -> int | None:
    """The token of a probe, of a reply, or of the probe that an error quotes; None if there is none."""
    header = _header(packet)
    return _token(packet, header) if header is not None and header.first else None


def _token(packet: bytes, header: _Header) -> int | None:
    if header.protocol in _ERRORS and len(packet) > header.start and packet[header.start] in _ERRORS[header.protocol]:
        packet = packet[header.start + 8 :]
        quoted = _header(packet)
        if quoted is None or not quoted.first:
            return None
        header = quoted
    if len(packet) < header.start + 16:
        return None
    if header.protocol != UDP and packet[header.start] not in _ECHOES.get(header.protocol, ()):
        return None
    token: int = _TOKEN.unpack_from(packet, header.start + 8)[0]
    return token


def _header(packet: bytes) -> _Header | None:
    if len(packet) < 28:
        return None
    if packet[0] >> 4 == 4:
        (offset,) = _HALF.unpack_from(packet, 6)
        piece = packet[4:6] + packet[9:10] + packet[12:20] if offset & 0x3FFF else None
        return _Header(packet[9], (packet[0] & 15) * 4, first=not offset & 0x1FFF, fragment_of=piece)
    if packet[0] >> 4 != 6 or len(packet) < 48:
        return None
    if packet[6] != FRAGMENT:
        return _Header(packet[6], 40)
    (offset,) = _HALF.unpack_from(packet, 42)
    return _Header(packet[40], 48, first=not offset & 0xFFF8, fragment_of=packet[44:48] + packet[8:40])
