"""Filters that the kernel runs on what a raw socket would get, so that nobody else's packets ever wake us.

A raw ICMP socket is given every ICMP message of its host, and a router or a machine under a flood has plenty. Each
filter lets pass: echo replies with one of two idents (`ident` and the odd one after it), and errors that quote an echo
request with the odd ident or a UDP datagram from one source port. Small echoes, with the even ident, need no errors.

Classic BPF (Linux Documentation/networking/filter.rst). A load beyond the packet's end drops the packet.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

_INSTRUCTION = Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, constant

_LOAD_BYTE, _LOAD_HALF = 0x30, 0x28  # at a fixed place
_LOAD_BYTE_X, _LOAD_HALF_X = 0x50, 0x48  # at a place after X
_X_IS_HEADER = 0xB1  # X = 4 * (byte & 15): the length of an IPv4 header
_STORE, _LOAD_STORED, _TO_X = 0x02, 0x60, 0x07
_AND, _SHIFT, _ADD_X = 0x54, 0x64, 0x0C
_IF_EQUAL, _RETURN = 0x15, 0x06

_ALL = 0x40000  # bytes of the packet to keep: more than there can be


class _Step(NamedTuple):
    """One instruction; after `_IF_EQUAL`, the label to go to, or the next instruction if it is not equal."""

    code: int
    constant: int = 0
    then: str = ""
    otherwise: str = ""


def filter_v4(ident: int, port: int) -> bytes:
    """For IPv4, where a raw socket gets packets with their IP header. `ident` is even."""
    return _assemble(
        _Step(_X_IS_HEADER, 0),
        _Step(_LOAD_BYTE_X, 0),
        _Step(_IF_EQUAL, 0, then="reply"),
        _Step(_IF_EQUAL, 3, then="error"),
        _Step(_IF_EQUAL, 11, then="error", otherwise="drop"),
        "error",
        _Step(_LOAD_BYTE_X, 8 + 9),
        _Step(_STORE),  # the quoted protocol
        _Step(_LOAD_BYTE_X, 8),
        _Step(_AND, 15),
        _Step(_SHIFT, 2),
        _Step(_ADD_X),
        _Step(_TO_X),
        _Step(_LOAD_STORED),
        _Step(_IF_EQUAL, 1, then="echo"),
        _Step(_IF_EQUAL, 17, otherwise="drop"),
        _Step(_LOAD_HALF_X, 8),
        _Step(_IF_EQUAL, port, then="pass", otherwise="drop"),
        "echo",
        _Step(_LOAD_HALF_X, 8 + 4),
        _Step(_IF_EQUAL, ident | 1, then="pass", otherwise="drop"),
        "reply",
        _Step(_LOAD_HALF_X, 4),
        _Step(_AND, 0xFFFE),
        _Step(_IF_EQUAL, ident, then="pass", otherwise="drop"),
    )


def filter_v6(ident: int, port: int) -> bytes:
    """For IPv6, where a raw socket gets ICMPv6 messages without IPv6 header. `ident` is even."""
    return _assemble(
        _Step(_LOAD_BYTE, 0),
        _Step(_IF_EQUAL, 129, then="reply"),
        _Step(_IF_EQUAL, 1, then="error"),
        _Step(_IF_EQUAL, 2, then="error"),
        _Step(_IF_EQUAL, 3, then="error", otherwise="drop"),
        "error",
        _Step(_LOAD_BYTE, 8 + 6),
        _Step(_IF_EQUAL, 58, then="echo"),
        _Step(_IF_EQUAL, 17, otherwise="drop"),
        _Step(_LOAD_HALF, 8 + 40),
        _Step(_IF_EQUAL, port, then="pass", otherwise="drop"),
        "echo",
        _Step(_LOAD_HALF, 8 + 40 + 4),
        _Step(_IF_EQUAL, ident | 1, then="pass", otherwise="drop"),
        "reply",
        _Step(_LOAD_HALF, 4),
        _Step(_AND, 0xFFFE),
        _Step(_IF_EQUAL, ident, then="pass", otherwise="drop"),
    )


DROP_ALL = _INSTRUCTION.pack(_RETURN, 0, 0, 0)


def _assemble(*program: _Step | str) -> bytes:
    """The bytes of a program, whose strings are labels; "drop" and "pass" follow at its end."""
    steps: list[_Step] = []
    places: dict[str, int] = {}
    for part in (*program, "drop", _Step(_RETURN, 0), "pass", _Step(_RETURN, _ALL)):
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
