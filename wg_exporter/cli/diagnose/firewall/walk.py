"""Follows a packet through a ruleset, as the kernel would, as far as it can be known from outside.

Every step is true, false or not known (None): connection marks, limits, random numbers, matches of iptables that have
no nftables form. A rule of which a step is not known *may* match, so what it drops is reported as unsure, and what
comes after it is walked too. A rule with a step that is false does not match, whatever else is not known.

Sources: net/netfilter/nf_tables_core.c (nft_do_chain), nft_cmp.c, nft_bitwise.c, nft_payload.c, nft_set_rbtree.c.
"""

from __future__ import annotations

import operator
from sys import byteorder
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.cli.diagnose.firewall.ruleset import (
    ACCEPT,
    BREAK,
    CONTINUE,
    DROP,
    GOTO,
    INET,
    INGRESS,
    IPV4,
    IPV6,
    JUMP,
    NETDEV,
    NETDEV_EGRESS,
    NETDEV_INGRESS,
    REJECT,
    RETURN,
    STOP,
    Chain,
    Hook,
    Rule,
    Ruleset,
    Set,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.cli.diagnose.firewall.ruleset import Step

_ENDS: Mapping[int, bool | None] = {DROP: False, REJECT: False, ACCEPT: True, STOP: True, RETURN: None}

MOST_STEPS = 200_000  # of one packet: a ruleset may jump so that no end is in sight
DEEPEST = 16  # jumps in a row (NFT_JUMP_STACK_SIZE)

LOADED = {"payload", "meta", "ct", "fib", "rt", "socket", "numgen", "hash", "osf", "exthdr", "xfrm", "tunnel"}
PASSING = {
    "counter", "log", "notrack", "nat", "masq", "redir", "dup", "objref", "flow_offload", "synproxy", "secmark",
    "tproxy", "last",
}  # fmt: skip

_COMPARE: Mapping[int, Callable[[bytes, bytes], bool]] = {
    0: operator.eq, 1: operator.ne, 2: operator.lt, 3: operator.le, 4: operator.gt, 5: operator.ge
}  # fmt: skip


class Packet(NamedTuple):
    """A packet and where it is. `data` begins with its IP header, `transport` is where UDP or ICMP begins.

    `meta` and `ct` are what those expressions load, by their number (NFT_META_*, NFT_CT_*); what is not in there is not
    known.
    """

    data: bytes
    transport: int
    incoming: str = ""
    outgoing: str = ""
    meta: Mapping[int, bytes] = {}
    ct: Mapping[int, bytes] = {}

    @property
    def ipv6(self) -> bool:
        """Whether it is an IPv6 packet."""
        return self.data[0] >> 4 == 6


class Drop(NamedTuple):
    """Where a packet ends. Without a `rule` it is the policy of the chain. `sure`: it is certain that it gets there."""

    chain: Chain
    rule: Rule | None
    sure: bool
    rejects: bool = False


class _Walk:
    """One packet through one base chain."""

    def __init__(self, ruleset: Ruleset, chains: Mapping[tuple[int, str, str], Chain], packet: Packet) -> None:
        self._ruleset = ruleset
        self._chains = chains
        self._packet = packet
        self._left = MOST_STEPS
        self.drops: list[Drop] = []

    def through(self, chain: Chain) -> bool | None:
        """Whether the packet comes out of a base chain alive; None = not known."""
        passed, sure = self._chain(chain, sure=True, depth=0)
        if passed is not None:
            return passed if sure else None
        if not chain.accepts:
            self.drops.append(Drop(chain, None, sure))
        return chain.accepts if sure else None

    def _chain(self, chain: Chain, *, sure: bool, depth: int) -> tuple[bool | None, bool]:
        """(whether it was accepted, None if it came to the end of the chain; whether all before that is known)."""
        for rule in chain.rules:
            verdict, certain = self._rule(chain, rule)
            if verdict is None:
                continue
            if verdict.code in (JUMP, GOTO):
                ended, passed, known = self._jump(chain, verdict, sure=sure and certain, depth=depth)
                if certain and ended:
                    return passed, known
                sure = known
                continue
            if verdict.code in (DROP, REJECT):
                self.drops.append(Drop(chain, rule, sure and certain, verdict.code == REJECT))
            if certain and verdict.code in _ENDS:
                return _ENDS[verdict.code], sure
            sure = False  # it may match, or a program decides (a queue)
        return None, sure

    def _jump(self, chain: Chain, verdict: Verdict, *, sure: bool, depth: int) -> tuple[bool, bool | None, bool]:
        """(whether this chain is at its end by that, what became of the packet, whether that is known)."""
        target = self._chains.get((chain.family, chain.table, verdict.chain))
        if target is None or depth >= DEEPEST or self._left <= 0:
            return False, None, False
        passed, known = self._chain(target, sure=sure, depth=depth + 1)
        return passed is not None or verdict.code == GOTO, passed, known

    def _rule(self, chain: Chain, rule: Rule) -> tuple[Verdict | None, bool]:
        """The verdict of a rule, None if it does not match; whether that is certain."""
        registers: dict[int, bytes | None] = {}
        certain = True
        for step in rule.steps:
            self._left -= 1
            if self._left <= 0:
                return None, False
            result = self._step(chain, step, registers)
            if isinstance(result, Verdict):
                if result.code == CONTINUE:
                    continue
                return (None, certain) if result.code == BREAK else (result, certain)
            if result is False:
                return None, True
            if result is None:
                certain = False
        return None, certain

    def _step(self, chain: Chain, step: Step, registers: dict[int, bytes | None]) -> bool | Verdict | None:
        kind, fields = step
        if kind == "immediate":
            value = fields.get("data")
            if isinstance(value, Verdict):
                return value
            _store(registers, fields.get("dreg"), value if isinstance(value, bytes) else None)
            return True
        if kind == "reject":
            return Verdict(REJECT)
        if kind in LOADED:
            loaded = self._load(kind, fields)
            if loaded is False:
                return False
            _store(registers, fields.get("dreg"), loaded if isinstance(loaded, bytes) else None)
            return True
        if kind in ("bitwise", "byteorder"):
            _store(registers, fields.get("dreg"), _changed(kind, fields, registers))
            return True
        if kind in ("cmp", "range"):
            return _compared(kind, fields, registers)
        if kind == "lookup":
            return self._lookup(chain, fields, registers)
        if kind in PASSING:
            return True
        if kind == "match":  # iptables: a comment says nothing of the packet
            return True if fields.get("name") == "comment" else None
        if kind == "target":
            return Verdict(REJECT) if fields.get("name") == "REJECT" else True
        return None

    def _load(self, kind: str, fields: Mapping[str, object]) -> bytes | bool | None:
        """What an expression loads; None = not known, False = there is nothing, and the rule ends."""
        packet = self._packet
        key = fields.get("key")
        if kind == "meta" and isinstance(key, int):
            return packet.meta.get(key)
        if kind == "ct" and isinstance(key, int):
            return packet.ct.get(key)
        if kind != "payload":
            return None
        base, offset, length = fields.get("base"), fields.get("offset"), fields.get("len")
        if base not in (1, 2) or not isinstance(offset, int) or not isinstance(length, int):
            return None
        start = offset + (packet.transport if base == 2 else 0)
        found = packet.data[start : start + length]
        return found if len(found) == length else False

    def _lookup(
        self, chain: Chain, fields: Mapping[str, object], registers: dict[int, bytes | None]
    ) -> bool | Verdict | None:
        known = self._ruleset.sets.get((chain.family, chain.table, str(fields.get("set"))))
        destination = fields.get("dreg")
        key = _fetch(registers, fields.get("sreg"))
        if known is None or not known.known or key is None:
            _store(registers, destination, None)
            return None
        found = _element(known, key)
        if found is None:
            _store(registers, destination, None)
            return None
        there, data = found
        if fields.get("flags"):  # inverted
            return not there
        if there and isinstance(data, Verdict):
            return data
        if there:
            _store(registers, destination, data if isinstance(data, bytes) else None)
        return there


def _element(known: Set, key: bytes) -> tuple[bool, bytes | Verdict | None] | None:
    """(whether the key is in the set, what a map has for it); None = not known."""
    if any(element.key_end is not None for element in known.elements):
        return None  # intervals of several fields at once
    if not known.intervals:
        for element in known.elements:
            if element.key == key[: len(element.key)]:
                return True, element.data
        return False, None
    below = [element for element in known.elements if element.key <= key[: len(element.key)]]
    # At one key an interval may end and the next begin.
    last = max(below, key=lambda element: (element.key, not element.ends), default=None)
    return (True, last.data) if last is not None and not last.ends else (False, None)


def _changed(kind: str, fields: Mapping[str, object], registers: dict[int, bytes | None]) -> bytes | None:
    value, length = _fetch(registers, fields.get("sreg")), fields.get("len")
    if value is None or not isinstance(length, int) or not 0 < length <= 64:
        return None
    value = value[:length].ljust(length, b"\0")
    if kind == "byteorder":
        size = fields.get("size")
        if byteorder != "little" or not isinstance(size, int) or size < 1:
            return value if byteorder != "little" else None
        return b"".join(value[at : at + size][::-1] for at in range(0, length, size))
    mask, xor = fields.get("mask"), fields.get("xor")
    if fields.get("op") or not isinstance(mask, bytes) or not isinstance(xor, bytes):
        return None
    masked = zip(value, mask.ljust(length, b"\0"), xor.ljust(length, b"\0"), strict=False)
    return bytes((one & and_) ^ or_ for one, and_, or_ in masked)


def _compared(kind: str, fields: Mapping[str, object], registers: dict[int, bytes | None]) -> bool | None:
    value = _fetch(registers, fields.get("sreg"))
    if value is None:
        return None
    if kind == "range":
        first, last = fields.get("from"), fields.get("to")
        if not isinstance(first, bytes) or not isinstance(last, bytes):
            return None
        inside = first <= value[: len(first)] <= last
        return inside if not fields.get("op") else not inside
    data, code = fields.get("data"), fields.get("op")
    if not isinstance(data, bytes) or not isinstance(code, int) or code not in _COMPARE:
        return None
    return _COMPARE[code](value[: len(data)].ljust(len(data), b"\0"), data)


def _place(register: object) -> int | None:
    """The first of the 32-bit registers that this one is: NFT_REG_1 to _4 have 16 bytes each, NFT_REG32_00 and up 4."""
    if not isinstance(register, int):
        return None
    return (register - 1) * 4 if 1 <= register <= 4 else register - 8 if 8 <= register < 24 else None


def _store(registers: dict[int, bytes | None], register: object, value: bytes | None) -> None:
    """Store bytes from this register on; what is shorter than a register is filled with zeros, as the kernel does."""
    place = _place(register)
    if place is None:
        return
    if value is None:
        for number in range(place, place + 4):
            registers[number] = None
        return
    for number, at in enumerate(range(0, max(len(value), 1), 4), place):
        registers[number] = value[at : at + 4].ljust(4, b"\0")


def _fetch(registers: dict[int, bytes | None], register: object) -> bytes | None:
    """What is stored from this register on; None if that is not known."""
    place = _place(register)
    if place is None or registers.get(place) is None:
        return None
    parts = []
    while (part := registers.get(place)) is not None:
        parts.append(part)
        place += 1
    return b"".join(parts)


# --- where a packet passes ------------------------------------------------------------------------------------------


def drops(ruleset: Ruleset, packet: Packet, hooks: Sequence[int]) -> list[Drop]:
    """Where the packet ends on its way through these hooks, in their order; each place that may end it."""
    chains = {(chain.family, chain.table, chain.name): chain for chain in ruleset.chains}
    found: list[Drop] = []
    sure = True
    for chain, _hook in _passed(ruleset, packet, hooks):
        walk = _Walk(ruleset, chains, packet)
        passed = walk.through(chain)
        found += [drop if sure else drop._replace(sure=False) for drop in walk.drops]
        if passed is False:
            break
        sure = sure and passed is not None
    return found


def _passed(ruleset: Ruleset, packet: Packet, hooks: Sequence[int]) -> Iterator[tuple[Chain, Hook]]:
    """The base chains that see this packet, in their order."""
    own = IPV6 if packet.ipv6 else IPV4
    for number in hooks:
        here = [
            (chain, chain.hook)
            for chain in ruleset.chains
            if chain.hook is not None and _stands_at(chain, chain.hook, number, packet, own)
        ]
        yield from sorted(here, key=lambda one: one[1].priority)


# Hooks as `drops` takes them: the numbers of IP, with those of the interface outside of them.
BEFORE_ALL, AFTER_ALL = 100, 101


def _stands_at(chain: Chain, hook: Hook, number: int, packet: Packet, own: int) -> bool:
    if chain.family == NETDEV or (chain.family == INET and hook.number == INGRESS):
        if number == BEFORE_ALL:
            return hook.number in (NETDEV_INGRESS, INGRESS) and packet.incoming in hook.devices
        return number == AFTER_ALL and hook.number == NETDEV_EGRESS and packet.outgoing in hook.devices
    return chain.family in (INET, own) and hook.number == number
