"""Looks at this host for one peer, in the namespaces of its device and of its outer packets, within a deadline.

Each look has a thread for each namespace, as a thread can stay in one (setns(2)) and a look-up of the kernel can't be
cut short. What is late is left out and said.
"""

from __future__ import annotations

import re
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from ipaddress import ip_address
from socket import if_nametoindex
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from wg_exporter.inspected import Inspected, Neighbour, Path, PathKind, PortOwner
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.namespaces import Entrance
from wg_exporter.linux.netlink import NETLINK_ROUTE, Netlink
from wg_exporter.log import place
from wg_exporter.model import Backend
from wg_exporter.reader.inspect import neighbours, ports, proc
from wg_exporter.reader.links import lookups
from wg_exporter.reader.links.lookups import Asked, Route
from wg_exporter.reader.links.routes import CONTROL_SOCKETS, RouteReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path as FilePath

    from wg_exporter.reader.inspect.subject import Subject

DEADLINE_SECONDS = 2.0

_KINDS = {
    lookups.RTN_LOCAL: PathKind.LOCAL,
    lookups.RTN_BLACKHOLE: PathKind.BLACKHOLE,
    lookups.RTN_UNREACHABLE: PathKind.UNREACHABLE,
    lookups.RTN_PROHIBIT: PathKind.PROHIBIT,
}
_REFUSED = {"unreachable": PathKind.UNREACHABLE, "prohibit": PathKind.PROHIBIT, "blackhole": PathKind.BLACKHOLE}

_NUMBER = re.compile("[0-9]{1,9}")  # of a link: the kernel's are below 2**31

_T = TypeVar("_T")


class _Outer(NamedTuple):
    """What the namespace of the outer packets says."""

    path: Path | None
    owner: PortOwner | None
    holder: str
    rp_filter: int | None
    rp_drops: int | None
    received: int | None


class _Inner(NamedTuple):
    """And that of the device."""

    path: Path | None
    rp_filter: int | None
    rp_drops: int | None


def inspect(
    subject: Subject,
    namespaces: Mapping[str, str],
    monotonic: Callable[[], float],
    deadline: float = DEADLINE_SECONDS,
    control_sockets: Sequence[FilePath] = CONTROL_SOCKETS,
) -> Inspected:
    """Everything that can be found out; what can't is None, and in `problems` with the reason. Raises nothing.

    `namespaces` are the paths of the configured ones by name; "" is that of this process. Takes `deadline` seconds at
    most. `control_sockets` are the directories of userspace devices.
    """
    begun = monotonic()
    problems: list[str] = []
    waits: list[tuple[str, Future[_Outer] | Future[_Inner]]] = []
    outer: Future[_Outer] | None = None
    if subject.underlay is None:
        problems.append("the namespace of its UDP socket is not read, or not known")
    else:
        outer = _in_thread(subject.underlay, namespaces, lambda: _outer(subject, control_sockets))
        waits.append(("the outer side", outer))
    inner = _in_thread(subject.key[0], namespaces, lambda: _inner(subject, monotonic))
    waits.append(("the interface", inner))
    for what, future in waits:
        try:
            future.result(max(0.0, begun + deadline - monotonic()))
        except FutureTimeoutError:
            problems.append(f"{what}: no answer within {deadline:g} s")
        except SourceError as error:
            problems.append(f"{what}: {error}")
        except Exception as error:  # noqa: BLE001 - a bug here must not stop the reader, nor go unseen
            problems.append(f"{what}: unexpected {type(error).__name__} in {place(error)}")
    row = Inspected(
        subject.key,
        begun,
        subject.underlay,
        subject.endpoint,
        addresses=subject.addresses,
        owner=subject.owner,
        conf_endpoint=subject.conf_endpoint,
        problems=tuple(problems),
    )
    if outer is not None and _well(outer):
        found = outer.result()
        row = row._replace(
            to_endpoint=found.path,
            port_owner=found.owner,
            port_holder=found.holder,
            outer_rp_filter=found.rp_filter,
            outer_rp_drops=found.rp_drops,
            udp_received=found.received,
        )
    if _well(inner):
        there = inner.result()
        row = row._replace(to_target=there.path, inner_rp_filter=there.rp_filter, inner_rp_drops=there.rp_drops)
    return row


def _well(future: Future[_T]) -> bool:
    return future.done() and future.exception() is None


def _in_thread(netns: str, namespaces: Mapping[str, str], look: Callable[[], _T]) -> Future[_T]:
    """Look in a namespace, in a thread of its own."""
    future: Future[_T] = Future()
    if netns and netns not in namespaces:
        future.set_exception(SourceError(f"namespace {netns} is not configured"))
        return future

    def run() -> None:
        entrance: Entrance | None = None
        try:
            if netns:
                entrance = Entrance(netns, namespaces[netns])
                entrance.enter()
            future.set_result(look())
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            future.set_exception(error)
        finally:
            if entrance is not None:
                entrance.close()

    threading.Thread(target=run, name="inspect", daemon=True).start()
    return future


def _outer(subject: Subject, control_sockets: Sequence[FilePath]) -> _Outer:
    address, link = _address(subject.endpoint)
    ipv6, here = len(address) == 16, subject.underlay == subject.key[0]
    owner, holder = _port(subject, control_sockets)
    return _Outer(
        _path(Asked(address, link, subject.fwmark), subject.ifindex if here else 0) if address else None,
        owner,
        holder,
        proc.OFF if ipv6 else proc.strictest(but=subject.key[1] if here else ""),
        proc.reverse_path_drops(),
        proc.udp_received(ipv6=ipv6),
    )


def _inner(subject: Subject, monotonic: Callable[[], float]) -> _Inner:
    path = None
    try:
        target = ip_address(subject.target).packed
    except ValueError:
        target = b""
    if target:
        path = _path(Asked(target), subject.ifindex)
        if path is not None and not path.tunnel and subject.ifindex and _excused(subject, monotonic):
            path = path._replace(kind=PathKind.SENT, interface=subject.key[1], tunnel=True)
    drops = proc.reverse_path_drops()
    return _Inner(path, proc.OFF if len(target) == 16 else proc.rp_filter(subject.key[1]), drops)


def _excused(subject: Subject, monotonic: Callable[[], float]) -> bool:
    """Whether a rule may lead users' packets into the tunnel all the same, as the look at routes has it."""
    reader = RouteReader(monotonic)
    question = (subject.ifindex, subject.target)
    try:
        reader.ask((question,))
        return reader.read().get(question) == ""
    finally:
        reader.close()


def _path(asked: Asked, ifindex: int) -> Path | None:
    """Where a packet goes, None if the kernel does not say. `ifindex` is the tunnel's, 0 if it is elsewhere."""
    netlink = Netlink(NETLINK_ROUTE)
    to = str(ip_address(asked.target))
    try:
        answer = netlink.ask(lookups.RTM_GETROUTE, [asked.request()])[0]
        if isinstance(answer, int):
            if answer in lookups.NO_ROUTE:
                return Path(to, PathKind.NONE)
            kind = _REFUSED.get(lookups.REFUSED.get(answer, ""))
            return Path(to, kind) if kind else None
        route = lookups.decode_route(answer)
        return _named(netlink, to, route, ifindex)
    finally:
        netlink.close()


def _named(netlink: Netlink, to: str, route: Route, ifindex: int) -> Path:
    hop = route.ifindices[0] if route.ifindices else 0
    name = ""
    if hop:
        link = netlink.ask(lookups.RTM_GETLINK, [lookups.link_request(hop)])[0]
        name = "" if isinstance(link, int) else lookups.decode_link(link).name
    kind = _KINDS.get(route.kind, PathKind.SENT)
    return Path(
        to,
        kind,
        name,
        _text(route.gateway),
        _text(route.source),
        route.table,
        hop != 0 and hop == ifindex,
        _neighbour(netlink, route.gateway or ip_address(to).packed, hop) if kind is PathKind.SENT and hop else None,
    )


def _neighbour(netlink: Netlink, address: bytes, link: int) -> Neighbour | None:
    """What is known of a packed address on a link; None if it was never asked for there."""
    answer = netlink.ask(neighbours.RTM_GETNEIGH, [neighbours.request(address, link)])[0]
    return None if isinstance(answer, int) else neighbours.decode(answer)


def _text(packed: bytes) -> str:
    return str(ip_address(packed)) if len(packed) in {4, 16} else ""


def _address(endpoint: str) -> tuple[bytes, int]:
    """The packed address of "address:port", and the link that its zone names (RFC 4007; by name or number), 0 = none.
    Empty without an address, or with the zone of a link that is not there.
    """
    address, _, zone = endpoint.rpartition(":")[0].strip("[]").partition("%")
    try:
        packed = ip_address(address).packed
        if not zone:
            return packed, 0
        return packed, int(zone) if _NUMBER.fullmatch(zone) else if_nametoindex(zone)
    except (ValueError, OSError):
        return b"", 0


def _port(subject: Subject, control_sockets: Sequence[FilePath]) -> tuple[PortOwner | None, str]:
    """Who has the device's UDP port, and what that is called."""
    if not subject.listen_port:
        return None, ""
    found = ports.look(subject.listen_port)
    if found is None:
        return None, ""
    if not found.inodes:
        return PortOwner.NOBODY, ""
    others = ", ".join(f"{one.name or 'a process'} (pid {one.pid})" for one in found.holders[:3])
    if subject.backend is Backend.USERSPACE:
        sockets = (directory / f"{subject.key[1]}.sock" for directory in control_sockets)
        own = next((pid for pid in map(ports.daemon_of, sockets) if pid), None)
        if own is None or not ports.visible(own):
            return None, ""
        if any(one.pid == own for one in found.holders):
            return PortOwner.DEVICE, ""
        return (PortOwner.OTHER, others) if found.holders or found.complete else (None, "")
    if found.holders:
        return PortOwner.OTHER, others
    if subject.rivals or not found.complete:
        return None, ""
    return PortOwner.DEVICE, ""
