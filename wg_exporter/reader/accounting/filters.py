"""tc's hooks of an interface: the messages that put our program there, show what is there, and take ours away.

Ours is the first filter at both hooks of a clsact qdisc, for a filter before it may end the way of a packet here. It is
known by its name, and the number of its program. The name also says whether the qdisc is ours, so that this outlives a
crash.

Sources: rtnetlink(7), tc-bpf(8), linux/rtnetlink.h (struct tcmsg), linux/pkt_cls.h (TCA_BPF_*), linux/pkt_sched.h,
net/sched/cls_api.c, net/sched/cls_bpf.c, net/sched/sch_ingress.c.
"""

from __future__ import annotations

import socket
import struct
from sys import byteorder
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.netlink import DecodeError, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46

INGRESS, EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000

FIRST, HANDLE = 1, 1  # the preference of our filters, and their handle
NAME, NAME_WITH_QDISC = "wg-exporter", "wg-exporter with qdisc"

_TCA_KIND, _TCA_OPTIONS, _TCA_CHAIN = 1, 2, 11
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS, _TCA_BPF_ID = 6, 7, 8, 11
_DIRECT_ACTION = 1
_ANY_PROTOCOL = socket.htons(3)  # ETH_P_ALL

TCMSG = struct.Struct("=BxxxiIII")  # family, interface, handle, parent, info
_UNSIGNED = struct.Struct("=I")


class Filter(NamedTuple):
    """One filter at a hook. `program` is the number of its program, 0 if it has none; `name` is what tc shows of it."""

    preference: int
    handle: int
    kind: str
    chain: int
    name: str = ""
    program: int = 0

    @property
    def ours(self) -> bool:
        """Whether an exporter has put it there."""
        return self.kind == "bpf" and self.preference == FIRST and self.name in {NAME, NAME_WITH_QDISC}


def qdisc(ifindex: int) -> bytes:
    """The payload of RTM_NEWQDISC and RTM_DELQDISC: clsact."""
    return TCMSG.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0) + attribute(_TCA_KIND, b"clsact\0")


def all_qdiscs() -> bytes:
    """The payload of a dump with RTM_GETQDISC. To a question for one the kernel answers all who listen, or nobody."""
    return TCMSG.pack(0, 0, 0, 0, 0)


def at_hook(ifindex: int, hook: int) -> bytes:
    """The payload of a dump with RTM_GETTFILTER: all filters at INGRESS or EGRESS."""
    return TCMSG.pack(0, ifindex, 0, hook, 0)


def ours(ifindex: int, hook: int, program: int, name: str) -> bytes:
    """The payload of RTM_NEWTFILTER: our filter, with the file of its program."""
    options = attribute(_TCA_BPF_FD, _UNSIGNED.pack(program))
    options += attribute(_TCA_BPF_NAME, name.encode() + b"\0")
    options += attribute(_TCA_BPF_FLAGS, _UNSIGNED.pack(_DIRECT_ACTION))
    return _filter(ifindex, hook, HANDLE) + attribute(_TCA_OPTIONS, options)


def one(ifindex: int, hook: int, handle: int) -> bytes:
    """The payload of RTM_DELTFILTER: that of our preference with this handle."""
    return _filter(ifindex, hook, handle)


def _filter(ifindex: int, hook: int, handle: int) -> bytes:
    info = FIRST << 16 | _ANY_PROTOCOL
    return TCMSG.pack(0, ifindex, handle, hook, info) + attribute(_TCA_KIND, b"bpf\0")


def decode(data: bytes | bytearray, start: int, end: int) -> Filter:
    """One RTM_NEWTFILTER message, `data[start:end]` without its netlink header. Raises DecodeError."""
    if end - start < TCMSG.size:
        raise DecodeError("filter message cut short")
    _family, _ifindex, handle, _parent, info = TCMSG.unpack_from(data, start)
    kind, chain, name, program = "", 0, "", 0
    for attr, first, last in attributes(data, start + TCMSG.size, end):
        if attr == _TCA_KIND:
            kind = _text(data[first:last])
        elif attr == _TCA_CHAIN:
            chain = int.from_bytes(data[first:last], byteorder)
        elif attr == _TCA_OPTIONS:
            options = dict(_options(data, first, last)) if kind == "bpf" else {}
            name = _text(options.get(_TCA_BPF_NAME, b""))
            program = int.from_bytes(options.get(_TCA_BPF_ID, b""), byteorder)
    return Filter(info >> 16, handle, kind, chain, name, program)


def decode_qdisc(data: bytes | bytearray, start: int, end: int) -> tuple[int, str]:
    """The interface and the kind of a qdisc in an RTM_NEWQDISC message, if it is in the place that clsact and ingress
    share; else the kind is empty. Raises DecodeError.
    """
    if end - start < TCMSG.size:
        raise DecodeError("qdisc message cut short")
    _family, ifindex, _handle, parent, _info = TCMSG.unpack_from(data, start)
    rows = attributes(data, start + TCMSG.size, end)
    kinds = (data[first:last] for attr, first, last in rows if attr == _TCA_KIND)
    return ifindex, _text(next(kinds, b"")) if parent == _CLSACT else ""


def in_the_way(found: Iterable[Filter]) -> Filter | None:
    """A filter of somebody else that may come before ours and end the way of a packet; None if there is none.

    The order within one preference is nobody's to rely on. The kernel lists each preference itself too, with handle 0.
    """
    return next((one for one in found if one.preference <= FIRST and not one.chain and _foreign(one)), None)


def _foreign(one: Filter) -> bool:
    return not one.ours and not (one.kind == "bpf" and not one.handle)


def _options(data: bytes | bytearray, start: int, end: int) -> list[tuple[int, bytes]]:
    return [(attr, bytes(data[first:last])) for attr, first, last in attributes(data, start, end)]


def _text(data: bytes | bytearray) -> str:
    return bytes(data).rstrip(b"\0").decode(errors="replace")
