"""The rules of policy routing, as far as they tell whether users' packets may go another way than a packet of no sort.

A rule that asks for nothing but the target is seen by the look-up itself. One that asks where a packet comes from, who
sent it or what is in it may lead users' packets into the tunnel though the look-up says otherwise: that is what such
rules are made for. Where it asks for a mark or an address of this host, the kernel is asked again with these.

Sources: linux/fib_rules.h, net/core/fib_rules.c (fib_nl_fill_rule, fib_rule_match), ip-rule(8).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from wg_exporter.linux.netlink import DecodeError, attributes

RTM_GETRULE = 34
FIB_RULE_INVERT = 0x2
FRA_DST, FRA_SRC, FRA_IIFNAME, FRA_FWMARK, FRA_OIFNAME = 1, 2, 3, 10, 17
# Realms, tunnel id, users, protocol, ports, DSCP, flow label and the masks of these: what a look-up can't know.
_OTHER = frozenset({12, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30})

HEADER = struct.Struct("=BBBBBBBBI")  # family, lengths of both prefixes, TOS, table, two unused, action, flags
_UNSIGNED = struct.Struct("=I")


class PolicyRule(NamedTuple):
    """One rule. `target` and `source` are (packed address, length of the prefix); `mark` 0 = it asks for none.

    `other`: it asks for something else that a look-up can't know.
    """

    family: int
    target: tuple[bytes, int]
    source: tuple[bytes, int]
    mark: int
    other: bool
    inverted: bool

    @property
    def plain(self) -> bool:
        """Whether it asks for nothing but the target, or turns away marked packets: the look-up has seen it."""
        if self.inverted:
            return not self.other and not self.source[1]
        return not self.other and not self.source[1] and not self.mark

    @property
    def single(self) -> bool:
        """Whether it asks for a single address that packets come from."""
        return bool(self.source[0]) and self.source[1] == 8 * len(self.source[0])

    def may_match(self, target: bytes) -> bool:
        """Whether packets to this address can match."""
        address, length = self.target
        if (len(target) == 16) != (self.family == 10):
            return False
        if self.inverted or not length:
            return True
        spare = len(target) * 8 - length
        return int.from_bytes(target) >> spare == int.from_bytes(address) >> spare


def decode(data: bytes | bytearray, start: int, end: int) -> PolicyRule:
    """One RTM_NEWRULE message, `data[start:end]` without its netlink header. Raises DecodeError."""
    if end - start < HEADER.size:
        raise DecodeError("rule message cut short")
    family, target_bits, source_bits, tos, _table, _res1, _res2, _action, flags = HEADER.unpack_from(data, start)
    target = source = b""
    mark, other = 0, bool(tos)
    for kind, first, last in attributes(data, start + HEADER.size, end):
        if kind == FRA_DST:
            target = bytes(data[first:last])
        elif kind == FRA_SRC:
            source = bytes(data[first:last])
        elif kind == FRA_FWMARK and last - first == 4:
            (mark,) = _UNSIGNED.unpack_from(data, first)
        elif kind == FRA_IIFNAME:
            # What this host sends itself comes from lo, in the look-up too.
            other = other or bytes(data[first:last]).rstrip(b"\0") != b"lo"
        elif kind in _OTHER:
            other = True
    if len(target) * 8 < target_bits or len(source) * 8 < source_bits:
        raise DecodeError("rule message without its address")
    inverted = bool(flags & FIB_RULE_INVERT)
    return PolicyRule(family, (target, target_bits), (source, source_bits), mark, other, inverted)
