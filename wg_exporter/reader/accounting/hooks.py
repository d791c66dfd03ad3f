"""Puts programs at tc's hooks of interfaces and takes them away, in the network namespace of the calling thread.

Filters of others are never touched. A qdisc clsact that was made for ours goes with them, unless others use it by then.
"""

from __future__ import annotations

import errno
from contextlib import closing, suppress
from enum import Enum
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Netlink,
    NetlinkError,
    open_socket,
)
from wg_exporter.reader.accounting import filters

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection

    from wg_exporter.reader.accounting.counter import Programs
    from wg_exporter.reader.accounting.filters import Filter

HOOKS = (filters.INGRESS, filters.EGRESS)
_WORDS = {filters.INGRESS: "ingress", filters.EGRESS: "egress"}
_TCX = {filters.INGRESS: 46, filters.EGRESS: 47}  # BPF_TCX_INGRESS, BPF_TCX_EGRESS (linux/bpf.h)


class Found(Enum):
    """What is at the hooks of an interface."""

    OURS = "ours"  # both programs of this process
    OTHERS = "others"  # a program of another exporter
    NOTHING = "nothing"


class Hooks:
    """Those of all interfaces in one network namespace. Not thread-safe. All methods raise SourceError."""

    def __init__(
        self,
        others: Callable[[int, int], int] = lambda _ifindex, _hook: 0,
        open_socket: Callable[[int], socket.socket] = open_socket,
    ) -> None:
        """`others` says how many programs of the newer kind are at a hook (`Bpf.others`)."""
        self._others = others
        self._netlink = Netlink(NETLINK_ROUTE, open_socket)

    def close(self) -> None:
        """Close the socket, so that the next call opens it in the namespace of its thread."""
        self._netlink.close()

    def check(self, ifindex: int) -> None:
        """Raise SourceError if something may keep packets from our programs there; the message says what to do."""
        for hook in HOOKS:
            if (other := filters.in_the_way(self._filters(ifindex, hook))) is not None:
                what = f"a filter at {_WORDS[hook]} ({other.kind}, pref {other.preference}) may come before the counter"
                raise SourceError(f"{what}; give it a higher pref")
            if self._others(ifindex, _TCX[hook]):
                what = f"a program at tcx {_WORDS[hook]} comes before the counter"
                raise SourceError(f"{what}, and may keep packets from it (bpftool net)")

    def look(self, ifindex: int, numbers: Collection[int]) -> Found:
        """What is there. `numbers` are those of the two programs of this process."""
        ours = [one for hook in HOOKS for one in self._filters(ifindex, hook) if one.ours]
        if any(one.program not in numbers for one in ours):
            return Found.OTHERS
        return Found.OURS if len(ours) == len(HOOKS) else Found.NOTHING

    def put(self, ifindex: int, programs: Programs) -> None:
        """Have these count from now on, in place of those that an exporter has left there."""
        left = [one for hook in HOOKS for one in self._filters(ifindex, hook) if one.ours]
        made = any(one.name == filters.NAME_WITH_QDISC for one in left)
        kind = self._qdisc(ifindex)
        if kind not in {"", "clsact"}:
            raise SourceError(f"the qdisc {kind} is where clsact has to be; remove it (tc qdisc del)")
        created = False
        try:
            if not kind:
                self._netlink.command(filters.RTM_NEWQDISC, filters.qdisc(ifindex), NLM_F_CREATE | NLM_F_EXCL)
                created = True
            name = filters.NAME_WITH_QDISC if made or created else filters.NAME
            for hook, program in zip(HOOKS, programs, strict=True):
                message = filters.ours(ifindex, hook, program, name)
                self._netlink.command(filters.RTM_NEWTFILTER, message, NLM_F_CREATE | NLM_F_REPLACE)
        except NetlinkError as error:
            if created:
                self._remove_unused_qdisc(ifindex)
            if error.errno == errno.ENODEV:
                raise SourceError("the interface has just gone") from None
            what = "it needs sch_ingress, cls_bpf, and a clsact without shared blocks"
            raise SourceError(f"tc does not take the counter ({error}); {what}") from None

    def remove(self, ifindex: int, numbers: Collection[int] | None = None) -> None:
        """Take away the programs with these numbers, None = those of any exporter; nothing else, and what is gone is
        gone.
        """
        made = False
        for hook in HOOKS:
            for one in self._filters(ifindex, hook):
                if one.ours and (numbers is None or one.program in numbers):
                    made = made or one.name == filters.NAME_WITH_QDISC
                    with suppress(NetlinkError):
                        self._netlink.command(filters.RTM_DELTFILTER, filters.one(ifindex, hook, one.handle))
        if made:
            self._remove_unused_qdisc(ifindex)

    def _remove_unused_qdisc(self, ifindex: int) -> None:
        if not any(self._filters(ifindex, hook) for hook in HOOKS):
            with suppress(NetlinkError):
                self._netlink.command(filters.RTM_DELQDISC, filters.qdisc(ifindex))

    def _filters(self, ifindex: int, hook: int) -> list[Filter]:
        with closing(self._netlink.dump(filters.RTM_GETTFILTER, filters.at_hook(ifindex, hook))) as answers:
            return [filters.decode(data, start, end) for data, start, end in answers]

    def _qdisc(self, ifindex: int) -> str:
        """The kind of the qdisc that has the hooks; empty if there is none."""
        with closing(self._netlink.dump(filters.RTM_GETQDISC, filters.all_qdiscs())) as answers:
            found = [filters.decode_qdisc(data, start, end) for data, start, end in answers]
        return next((kind for index, kind in found if index == ifindex and kind), "")
