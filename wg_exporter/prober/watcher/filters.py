"""The filter of a packet socket, so that no message of data ever leaves the kernel: it passes handshake messages of the
watched devices' ports, arriving and leaving, and arriving ICMP errors that quote a datagram from one of these ports.

It runs on every packet of a network namespace while the socket is open. So what most packets are, data, is dropped
after eight instructions, by the first word of its payload. Messages that arrive for others (of a bridge, or of a card
that takes everything in) are dropped too.

The socket is of the kind SOCK_DGRAM: the packet begins with its IP header (packet(7)). What the kernel knows besides is
loaded from beyond `_KNOWN` (linux/filter.h, SKF_AD_OFF).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.prober.watcher.decode import LENGTHS
from wg_exporter.prober.wire.bpf import (
    ADD_X,
    AND,
    IF_EQUAL,
    LOAD_BYTE,
    LOAD_BYTE_X,
    LOAD_HALF_X,
    LOAD_WORD,
    LOAD_WORD_X,
    SHIFT,
    TO_X,
    X_IS,
    X_IS_HEADER,
    Step,
    assemble,
)
from wg_exporter.prober.wire.packet import ICMP, ICMPV6, UDP

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PACKET_HOST, PACKET_OUTGOING = 0, 4  # linux/if_packet.h
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD  # linux/if_ether.h

MOST_PORTS = 40  # in the filter, as its jumps reach no farther than 255 instructions; more are told apart afterwards

_KNOWN = 0xFFFFF000
_PROTOCOL, _PACKET_TYPE = _KNOWN, _KNOWN + 4
_UDP_HEADER = 8


def watch(ports: Collection[int]) -> bytes:
    """The program for devices that listen on these UDP ports."""
    listed = sorted(ports) if len(ports) <= MOST_PORTS else []
    return assemble(
        Step(LOAD_WORD, _PROTOCOL),
        Step(IF_EQUAL, ETH_P_IP, then="ipv4"),
        Step(IF_EQUAL, ETH_P_IPV6, otherwise="drop"),
        Step(X_IS, 40),
        Step(LOAD_BYTE, 6),
        Step(IF_EQUAL, UDP, then="udp"),
        Step(IF_EQUAL, ICMPV6, otherwise="drop"),
        Step(LOAD_BYTE_X, 0),
        Step(IF_EQUAL, 1, then="error6"),
        Step(IF_EQUAL, 3, otherwise="drop"),
        "error6",
        Step(LOAD_BYTE_X, 8 + 6),
        Step(IF_EQUAL, UDP, otherwise="drop"),
        Step(X_IS, 40 + 8 + 40),
        Step(LOAD_WORD, _PACKET_TYPE),
        Step(IF_EQUAL, PACKET_HOST, then="from", otherwise="drop"),
        "ipv4",
        Step(X_IS_HEADER, 0),
        Step(LOAD_BYTE, 9),
        Step(IF_EQUAL, UDP, then="udp"),
        Step(IF_EQUAL, ICMP, otherwise="drop"),
        Step(LOAD_BYTE_X, 0),
        Step(IF_EQUAL, 3, then="error4"),
        Step(IF_EQUAL, 11, otherwise="drop"),
        "error4",
        Step(LOAD_BYTE_X, 8 + 9),
        Step(IF_EQUAL, UDP, otherwise="drop"),
        Step(LOAD_WORD, _PACKET_TYPE),
        Step(IF_EQUAL, PACKET_HOST, otherwise="drop"),
        Step(LOAD_BYTE_X, 8),
        Step(AND, 15),
        Step(SHIFT, 2),
        Step(ADD_X),
        Step(TO_X),
        Step(LOAD_HALF_X, 8),  # the quoted source port, behind the quoted header
        *_any_of(listed, "pass", "drop"),
        "udp",
        Step(LOAD_WORD_X, _UDP_HEADER),
        *_messages(),
        "handshake",
        Step(LOAD_WORD, _PACKET_TYPE),
        Step(IF_EQUAL, PACKET_HOST, then="ports"),
        Step(IF_EQUAL, PACKET_OUTGOING, otherwise="drop"),
        "ports",
        Step(LOAD_HALF_X, 2),
        *_any_of(listed, "pass", "from"),
        "from",
        Step(LOAD_HALF_X, 0),
        *_any_of(listed, "pass", "drop"),
    )


def _messages() -> Iterator[Step | str]:
    """Of which length each type has to be, header of UDP included."""
    for kind in LENGTHS:
        yield Step(IF_EQUAL, kind << 24, then=f"type {kind}", otherwise="drop" if kind == max(LENGTHS) else "")
    for kind, length in LENGTHS.items():
        yield f"type {kind}"
        yield Step(LOAD_HALF_X, 4)
        yield Step(IF_EQUAL, length + _UDP_HEADER, then="handshake", otherwise="drop")


def _any_of(ports: list[int], then: str, otherwise: str) -> Iterator[Step]:
    """Where to go if a port is one of these; without any, as if it were."""
    if not ports:
        yield Step(IF_EQUAL, 0, then=then, otherwise=then)
    for port in ports:
        yield Step(IF_EQUAL, port, then=then, otherwise=otherwise if port == ports[-1] else "")
