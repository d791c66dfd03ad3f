"""The rows of a ruleset: chains, rules as the steps of the kernel's little machine, and sets.

A rule is a list of expressions (linux/netfilter/nf_tables.h). Each loads bytes of the packet or of its circumstances
into a register, compares a register, or gives a verdict. Here each is a `Step`: the name of its kind, and its fields
under the names of the kernel's attributes without their prefix.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

INET, IPV4, NETDEV, IPV6 = 1, 2, 5, 10  # families (linux/netfilter.h: NFPROTO_*)
FAMILIES: Mapping[int, str] = {INET: "inet", IPV4: "ip", NETDEV: "netdev", IPV6: "ip6"}

PLAIN = re.compile(r"[A-Za-z0-9_./-]+")
"""Names that may stand in a command for nft, which reads its arguments as one text."""

DROP, ACCEPT, STOLEN, QUEUE, REPEAT, STOP = range(6)  # verdicts (linux/netfilter.h: NF_*)
CONTINUE, BREAK, JUMP, GOTO, RETURN = -1, -2, -3, -4, -5  # and those of nf_tables.h: NFT_*
REJECT = -100  # ours: the expression `reject`, which drops and says so


class Hook(NamedTuple):
    """Where a base chain stands: the kernel's number, its order there, and the interfaces of a netdev chain."""

    number: int
    priority: int
    devices: tuple[str, ...] = ()


PREROUTING, INPUT, FORWARD, OUTPUT, POSTROUTING, INGRESS = range(6)
NETDEV_INGRESS, NETDEV_EGRESS = 0, 1  # the numbers of family netdev


class Verdict(NamedTuple):
    """What becomes of a packet; `chain` is where a jump leads."""

    code: int
    chain: str = ""


class Step(NamedTuple):
    """One expression. `fields` hold bytes, numbers, names and verdicts; None in place of what could not be decoded."""

    kind: str
    fields: Mapping[str, object]


class Rule(NamedTuple):
    """`packets` is its counter, None if it has none."""

    handle: int
    steps: tuple[Step, ...]
    packets: int | None = None


class Chain(NamedTuple):
    """A chain; one without a hook is jumped to. `accepts` is its policy."""

    family: int
    table: str
    name: str
    hook: Hook | None = None
    accepts: bool = True
    rules: tuple[Rule, ...] = ()


class Element(NamedTuple):
    """An element of a set or map. `ends`: in a set of intervals, it is where one ends. `data` is what a map says."""

    key: bytes
    key_end: bytes | None = None
    ends: bool = False
    data: bytes | Verdict | None = None


class Set(NamedTuple):
    """A set or map. `intervals`: an element is the begin of an interval. `known`: all of its elements are here."""

    elements: tuple[Element, ...] = ()
    intervals: bool = False
    known: bool = True


class Ruleset(NamedTuple):
    """All of one namespace. Chains are in no order. Sets by (family, table, name)."""

    chains: tuple[Chain, ...] = ()
    sets: Mapping[tuple[int, str, str], Set] = {}
