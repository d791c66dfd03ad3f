"""Whether this host sends what it has for a target into the tunnel: the routes of one network namespace, looked at.

All targets are looked at every LOOK_SECONDS, and when a route, a rule, a link or an address changes, which the kernel
tells (rtnetlink(7), the RTMGRP_ groups). Of these messages only that there was one matters: then the socket is thrown
away with all that is in it, an overflow too, and opened anew before the look, so that nothing is missed in between.
Looks take at most 2 % of a processor, for on a router with all routes of the internet they change all the time.

An answer is one line that says what stands in the way, empty where nothing does, or where it is not for us to judge:
the way leads into another WireGuard device, or users' packets may take one of their own (rules.py).
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.netlink import NETLINK_ROUTE, Netlink, NetlinkError, open_socket
from wg_exporter.model import KERNEL_KINDS, USERSPACE_KIND
from wg_exporter.reader.links import lookups, rules
from wg_exporter.reader.links.lookups import Asked, LinkPlace, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

LOOK_SECONDS = 60.0
LEAST_SECONDS = 1.0  # between two looks
SHARE = 0.02  # of a processor

# How many targets one read looks at, so that no scrape waits for tens of thousands of them.
TARGETS_AT_ONCE = 4000

# How many look-ups one read makes to find out whether rules lead users' packets into the tunnel all the same.
MOST_TRIES = 4000

CONTROL_SOCKETS = (Path("/var/run/wireguard"), Path("/var/run/amneziawg"))

# RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, and RTNLGRP_IPV6_RULE, the 19th.
GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18

Question = tuple[int, str]
"""The index of a WireGuard device, and an address that is to be reached through it."""

Answers = MappingProxyType[Question, str]

NO_ANSWERS: Answers = MappingProxyType({})


def open_watch() -> socket.socket:
    """A socket that hears of changes, in the network namespace of the calling thread. Raises OSError."""
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_ROUTE
    )
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the first message is enough
        opened.bind((0, GROUPS))
    except BaseException:
        opened.close()
        raise
    return opened


class _Doubt(NamedTuple):
    """A target to which packets don't go as they should, and the line that says so, with {} for the target."""

    question: Question
    asked: Asked
    line: str
    elsewhere: tuple[int, ...]


class RouteReader:
    """Looks at routes. Not thread-safe but for `ask`: one thread, one namespace.

    `monotonic` gives seconds, `cpu` those that the calling thread has computed.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        open_socket: Callable[[int], socket.socket] = open_socket,
        open_watch: Callable[[], socket.socket] = open_watch,
        cpu: Callable[[], float] = time.thread_time,
        control_sockets: Sequence[Path] = CONTROL_SOCKETS,
    ) -> None:
        self._monotonic = monotonic
        self._cpu = cpu
        self._open_watch = open_watch
        self._control_sockets = control_sockets
        self._netlink = Netlink(NETLINK_ROUTE, open_socket)
        self._watch: socket.socket | None = None
        self._wanted: tuple[Question, ...] = ()
        self._asked: tuple[Question, ...] = ()  # in the look that is under way, or was last
        self._left: list[Question] = []  # of them, to be looked at yet
        self._found: dict[Question, str] = {}
        self._known = NO_ANSWERS
        self._begun = 0.0
        self._cost = 0.0  # of the last look, in seconds of a processor

    def ask(self, questions: tuple[Question, ...]) -> None:
        """What to look at from the next read on."""
        self._wanted = questions

    def close(self) -> None:
        """Close the sockets and forget: what comes next is read in the namespace that the thread is in then."""
        self._netlink.close()
        self._unwatch()
        self._asked, self._left, self._found, self._known = (), [], {}, NO_ANSWERS

    def read(self) -> Answers:
        """What is known, after a look if one is due; the same object while nothing changed.

        A question without an answer is one that was not looked at yet, or that the kernel can't answer. Raises
        SourceError if routes can't be looked at.
        """
        wanted = self._wanted
        if not wanted:
            if self._asked or self._known:
                self.close()
            return self._known
        if wanted is not self._asked or not self._left:
            self._begin(wanted)
        if self._left:
            before = self._cpu()
            try:
                self._look()
            except BaseException:
                self._asked, self._left = (), []
                self._unwatch()
                raise
            self._cost += self._cpu() - before
        return self._known

    def _begin(self, wanted: tuple[Question, ...]) -> None:
        """Begin a look, if one is due."""
        now = self._monotonic()
        anew = wanted is not self._asked and wanted != self._asked
        if self._asked and now - self._begun < max(LEAST_SECONDS, self._cost / SHARE):
            return
        if not anew and now - self._begun < LOOK_SECONDS and not self._changed():
            self._asked = wanted
            return
        self._unwatch()
        with suppress(OSError):  # without it, there is a look every LOOK_SECONDS all the same
            self._watch = self._open_watch()
        self._asked, self._left, self._found = wanted, list(wanted), {}
        self._begun, self._cost = now, 0.0

    def _changed(self) -> bool:
        """Whether anything was told since the last look began."""
        if self._watch is None:
            return False
        try:
            return bool(self._watch.recv(1))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:  # more than it holds
                return True
            raise NetlinkError(error.errno or errno.EIO) from None

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _look(self) -> None:
        """Look at the next targets."""
        now, self._left = self._left[:TARGETS_AT_ONCE], self._left[TARGETS_AT_ONCE:]
        self._found |= self._answers(now)
        if not self._left and self._found != self._known:
            self._known = MappingProxyType(self._found)

    def _answers(self, questions: Sequence[Question]) -> dict[Question, str]:
        devices = self._links({ifindex for ifindex, _ in questions})
        packed = [ip_address(target).packed for _, target in questions]
        asked = [
            Asked(target, devices[ifindex].vrf if ifindex in devices else 0)
            for (ifindex, _), target in zip(questions, packed, strict=True)
        ]
        found: dict[Question, str] = {}
        doubts = []
        for question, one, answer in zip(questions, asked, self._look_up(asked), strict=True):
            if question[0] not in devices:
                continue
            if isinstance(answer, Route) and answer.ifindices == question[:1] and not lookups.refusal(answer):
                found[question] = ""
            elif line := lookups.refusal(answer):
                doubts.append(_Doubt(question, one, line, ()))
            elif isinstance(answer, Route):
                doubts.append(_Doubt(question, one, "", answer.ifindices))
        return found | self._resolve(doubts) if doubts else found

    def _resolve(self, doubts: Sequence[_Doubt]) -> dict[Question, str]:
        """The answers for targets to which a packet of no sort does not go as it should."""
        found: dict[Question, str] = {}
        for doubt in self._excuse(self._name(doubts, found), found):
            found[doubt.question] = doubt.line.format(doubt.question[1])
        return found

    def _name(self, doubts: Iterable[_Doubt], found: dict[Question, str]) -> list[_Doubt]:
        """Those doubts that stay after a look at the whole route, with its next hops, and at where it leads."""
        detours = [doubt for doubt in doubts if not doubt.line]
        left = [doubt for doubt in doubts if doubt.line]
        routes = self._look_up([doubt.asked for doubt in detours], lookups.RTM_F_FIB_MATCH)
        whole = [
            route if isinstance(route, Route) and route.ifindices else Route(0, doubt.elsewhere, b"", 0)
            for doubt, route in zip(detours, routes, strict=True)
        ]
        links = self._links({ifindex for route in whole for ifindex in route.ifindices})
        for doubt, route in zip(detours, whole, strict=True):
            hops = [links[ifindex] for ifindex in route.ifindices if ifindex in links]
            if doubt.question[0] in route.ifindices or any(map(self._is_wireguard, hops)):
                found[doubt.question] = ""
            elif hops:  # else the device went meanwhile
                left.append(doubt._replace(line=lookups.detour(route, hops[0].name)))
        return left

    def _excuse(self, doubts: list[_Doubt], found: dict[Question, str]) -> list[_Doubt]:
        """Those doubts for which no rule may lead users' packets into the tunnel all the same."""
        if not doubts:
            return doubts
        families = {lookups.family(doubt.asked.target) for doubt in doubts}
        policy = list(dict.fromkeys(self._policy(families)))
        doubts = doubts[: max(MOST_TRIES // max(len(policy), 1), 1)]  # nothing is said of the others
        sources = {rule.source[0] for rule in policy if rule.single}
        own = self._own(sorted(sources))
        again: list[tuple[_Doubt, Asked]] = []
        for doubt in doubts:
            for rule in policy:
                if not rule.may_match(doubt.asked.target):
                    continue
                if rule.other or rule.inverted or (rule.source[1] and not (rule.single and rule.source[0] in own)):
                    found[doubt.question] = ""
                    break
                again.append((doubt, doubt.asked._replace(mark=rule.mark, source=rule.source[0])))
        answers = self._look_up([asked for _, asked in again])
        for (doubt, _), answer in zip(again, answers, strict=True):
            if isinstance(answer, Route) and doubt.question[0] in answer.ifindices:
                found[doubt.question] = ""
        return [doubt for doubt in doubts if doubt.question not in found]

    def _own(self, addresses: Sequence[bytes]) -> set[bytes]:
        """Those of these addresses that are this host's. of others the kernel tells no route: their packets come in."""
        answers = self._look_up([Asked(address) for address in addresses])
        rows = zip(addresses, answers, strict=True)
        return {address for address, route in rows if isinstance(route, Route) and route.kind == lookups.RTN_LOCAL}

    def _look_up(self, asked: Sequence[Asked], flags: int = 0) -> list[Route | int]:
        answers = self._netlink.ask(lookups.RTM_GETROUTE, [one.request(flags) for one in asked])
        return [answer if isinstance(answer, int) else lookups.decode_route(answer) for answer in answers]

    def _links(self, ifindices: Iterable[int]) -> Mapping[int, LinkPlace]:
        """Those of these links that are there."""
        order = sorted(ifindices)
        answers = self._netlink.ask(lookups.RTM_GETLINK, [lookups.link_request(ifindex) for ifindex in order])
        rows = zip(order, answers, strict=True)
        return {ifindex: lookups.decode_link(answer) for ifindex, answer in rows if not isinstance(answer, int)}

    def _policy(self, families: Iterable[int]) -> list[rules.PolicyRule]:
        """The rules that a look-up does not see."""
        found = []
        for family in families:
            with closing(self._netlink.dump(rules.RTM_GETRULE, rules.HEADER.pack(family, *(0,) * 8))) as answers:
                found += [rules.decode(data, start, end) for data, start, end in answers]
        return [rule for rule in found if not rule.plain]

    def _is_wireguard(self, link: LinkPlace) -> bool:
        if link.kind in KERNEL_KINDS:
            return True
        # Also where it is left out of what is read.
        sockets = (os.path.lexists(place / f"{link.name}.sock") for place in self._control_sockets)
        return link.kind == USERSPACE_KIND and any(sockets)
