"""Filters that the kernel runs on what a raw socket would get, so that nobody else's packets wake the prober.

A raw ICMP socket gets every ICMP message of its host, and a router or a host under a flood gets many. Each filter
passes echo replies with our tag (`packet`), and errors that quote an echo request with our tag or a UDP datagram from
one source port. Of echoes only those with an odd ident need errors: small ones, with an even ident, don't. An error
that quotes too little to hold the tag passes; it has to match in other ways then (`in_flight`).

Classic BPF (Linux Documentation/networking/filter.rst). A load beyond the packet's end drops the packet.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from wg_exporter.prober.wire.packet import TAG_AT

_INSTRUCTION = Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, constant

LOAD_BYTE, LOAD_HALF, LOAD_WORD = 0x30, 0x28, 0x20  # at a fixed offset
LOAD_BYTE_X, LOAD_HALF_X, LOAD_WORD_X = 0x50, 0x48, 0x40  # at an offset from X
X_IS, X_IS_HEADER = 0x01, 0xB1  # X = the constant; X = 4 * (byte & 15), the length of an IPv4 header
STORE, LOAD_STORED, TO_X = 0x02, 0x60, 0x07
AND, SHIFT, ADD_X, SUBTRACT_X = 0x54, 0x64, 0x0C, 0x1C
LENGTH = 0x80  # that of the packet
IF_EQUAL, IF_AT_LEAST, RETURN = 0x15, 0x35, 0x06

_ALL = 0x40000  # bytes of the packet to keep: more than any packet has


class Step(NamedTuple):
    """One instruction. A comparison goes to the label `then` or `otherwise`; an empty one is the next instruction."""

    code: int
    constant: int = 0
    then: str = ""
    otherwise: str = ""


def filter_v4(tag: int, port: int) -> bytes:
    """A filter for IPv4, where a raw socket gets packets with their IP header."""
    return assemble(
        Step(X_IS_HEADER, 0),
        Step(LOAD_BYTE_X, 0),
        Step(IF_EQUAL, 0, then="reply"),
        Step(IF_EQUAL, 3, then="error"),
        Step(IF_EQUAL, 11, then="error", otherwise="drop"),
        "error",
        Step(LOAD_BYTE_X, 8 + 9),
        Step(STORE),  # the quoted protocol
        Step(LOAD_BYTE_X, 8),
        Step(AND, 15),
        Step(SHIFT, 2),
        Step(ADD_X),
        Step(TO_X),
        Step(LOAD_STORED),
        Step(IF_EQUAL, 1, then="echo"),
        Step(IF_EQUAL, 17, otherwise="drop"),
        Step(LOAD_HALF_X, 8),
        Step(IF_EQUAL, port, then="pass", otherwise="drop"),
        "echo",
        Step(LOAD_HALF_X, 8 + 4),
        Step(AND, 1),
        Step(IF_EQUAL, 1, otherwise="drop"),
        Step(LENGTH),
        Step(SUBTRACT_X),
        Step(IF_AT_LEAST, 8 + TAG_AT + 2, otherwise="pass"),
        Step(LOAD_HALF_X, 8 + TAG_AT),
        Step(IF_EQUAL, tag, then="pass", otherwise="drop"),
        "reply",
        Step(LOAD_HALF_X, TAG_AT),
        Step(IF_EQUAL, tag, then="pass", otherwise="drop"),
    )


def filter_v6(tag: int, port: int) -> bytes:
    """A filter for IPv6, where a raw socket gets ICMPv6 messages without an IPv6 header."""
    return assemble(
        Step(LOAD_BYTE, 0),
        Step(IF_EQUAL, 129, then="reply"),
        Step(IF_EQUAL, 1, then="error"),
        Step(IF_EQUAL, 2, then="error"),
        Step(IF_EQUAL, 3, then="error", otherwise="drop"),
        "error",
        Step(LOAD_BYTE, 8 + 6),
        Step(IF_EQUAL, 58, then="echo"),
        Step(IF_EQUAL, 17, otherwise="drop"),
        Step(LOAD_HALF, 8 + 40),
        Step(IF_EQUAL, port, then="pass", otherwise="drop"),
        "echo",
        Step(LOAD_HALF, 8 + 40 + 4),
        Step(AND, 1),
        Step(IF_EQUAL, 1, otherwise="drop"),
        Step(LENGTH),
        Step(IF_AT_LEAST, 8 + 40 + TAG_AT + 2, otherwise="pass"),
        Step(LOAD_HALF, 8 + 40 + TAG_AT),
        Step(IF_EQUAL, tag, then="pass", otherwise="drop"),
        "reply",
        Step(LOAD_HALF, TAG_AT),
        Step(IF_EQUAL, tag, then="pass", otherwise="drop"),
    )


DROP_ALL = _INSTRUCTION.pack(RETURN, 0, 0, 0)


def assemble(*program: Step | str) -> bytes:
    """The bytes of a program. Strings in it are labels; the labels "drop" and "pass" are added at its end."""
    steps: list[Step] = []
    places: dict[str, int] = {}
    for part in (*program, "drop", Step(RETURN, 0), "pass", Step(RETURN, _ALL)):
        if isinstance(part, str):
            places[part] = len(steps)
        else:
            steps.append(part)

    def jump(label: str, here: int) -> int:
        return places[label] - here - 1 if label else 0

    return b"".join(
        _INSTRUCTION.pack(step.code, jump(step.then, here), jump(step.otherwise, here), step.constant)
        for here, step in enumerate(steps)
    )
