"""The packets of one tunnel, and which rules of this host end them.

Outer packets are WireGuard's messages by UDP to and from the endpoint, inner ones are echoes to and from the target. A
rule is told if it certainly ends one of them, or if it may and its counter grew while we looked.

Whether connection tracking knows the flow decides about many rulesets: `established` is what holds for whatever has
been answered before.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from sys import byteorder
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.causes.facts import Filter
from wg_exporter.cli.diagnose.firewall import walk
from wg_exporter.cli.diagnose.firewall.ruleset import FAMILIES, INPUT, OUTPUT, PLAIN, POSTROUTING, PREROUTING
from wg_exporter.cli.diagnose.firewall.walk import AFTER_ALL, BEFORE_ALL, Drop, Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wg_exporter.cli.diagnose.firewall.ruleset import Chain, Ruleset

UDP, ICMP, ICMPV6 = 17, 1, 58
INITIATION, RESPONSE, DATA = 1, 2, 4  # types of messages, of which one packet each is tried
_LENGTHS = {INITIATION: 148, RESPONSE: 92, DATA: 128}
ECHO_LENGTH = 56

# NFT_META_* and NFT_CT_* (linux/netfilter/nf_tables.h), and bits of a connection's state (nf_conntrack_common.h).
_PROTOCOL, _MARK, _IIF, _OIF, _IIFNAME, _OIFNAME, _NFPROTO, _L4PROTO, _PKTTYPE = 1, 3, 4, 5, 6, 7, 15, 16, 19
_LENGTH = 0
_STATE, _CT_DIRECTION = 0, 1
_ESTABLISHED, _NEW = 2, 8

LEAVING, ARRIVING = (OUTPUT, POSTROUTING, AFTER_ALL), (BEFORE_ALL, PREROUTING, INPUT)


class Flow(NamedTuple):
    """Addresses and interfaces of one tunnel, for one namespace. Empty and 0 = not known.

    `indices` are those of interfaces by name. `established`: packets went both ways before, so that connection tracking
    knows the flow; `asked`: ours were sent, so that it knows those that answer. `mark` is the device's fwmark.
    """

    here: str
    there: str
    interface: str
    port: int = 0
    far_port: int = 0
    mark: int = 0
    established: bool = False
    asked: bool = False
    indices: Mapping[str, int] = {}


class Way(NamedTuple):
    """A packet, and the hooks through which it goes; `hook` is what `Filter` calls them, `accepted` is a match of nft
    for such packets.
    """

    hook: str
    packet: Packet
    hooks: tuple[int, ...]
    accepted: str
    data: bool = False


def outer(flow: Flow) -> Iterator[Way]:
    """The tunnel's messages on their way out and in."""
    for kind in (INITIATION, DATA):
        yield Way("output", _udp(flow, kind, out=True), LEAVING, f"udp sport {flow.port}", kind == DATA)
    for kind in (RESPONSE, DATA):
        yield Way("input", _udp(flow, kind, out=False), ARRIVING, f"udp dport {flow.port}", kind == DATA)


def inner(flow: Flow) -> Iterator[Way]:
    """An echo to the target, and its reply."""
    yield Way("inner_output", _echo(flow, out=True), LEAVING, f'oifname "{flow.interface}"')
    yield Way("inner_input", _echo(flow, out=False), ARRIVING, f'iifname "{flow.interface}"')


def filters(
    before: Ruleset,
    after: Ruleset,
    ways: Iterator[Way],
    texts: Callable[[Chain], Mapping[int, str]] = lambda _: {},
    entry: str = "",
) -> list[Filter]:
    """The rules that end packets on one of these ways; `texts` are rules as nft writes them, by handle.

    A rule that ends data alone, and no handshake, is marked so.
    """
    counted = {
        (chain.family, chain.table, rule.handle): rule.packets for chain in before.chains for rule in chain.rules
    }
    found: dict[tuple[str, int, str, str, int], tuple[Drop, set[bool], str]] = {}
    for way in ways:
        for drop in walk.drops(after, way.packet, way.hooks):
            grew = _grew(drop, counted)
            if not drop.sure and not grew:
                continue
            chain = drop.chain
            place = (way.hook, chain.family, chain.table, chain.name, drop.rule.handle if drop.rule else 0)
            found.setdefault(place, (drop, set(), way.accepted))[1].add(way.data)
    return [
        _filter(place[0], drop, _grew(drop, counted), entry, texts, accepted=accepted, data_only=kinds == {True})
        for place, (drop, kinds, accepted) in found.items()
    ]


def _grew(drop: Drop, counted: Mapping[tuple[int, str, int], int | None]) -> int | None:
    if drop.rule is None or drop.rule.packets is None:
        return None
    then = counted.get((drop.chain.family, drop.chain.table, drop.rule.handle))
    return None if then is None else max(drop.rule.packets - then, 0)


def _filter(
    hook: str,
    drop: Drop,
    grew: int | None,
    entry: str,
    texts: Callable[[Chain], Mapping[int, str]],
    *,
    accepted: str,
    data_only: bool,
) -> Filter:
    """`accepted` is what nft calls the packets that were dropped."""
    chain = drop.chain
    family = FAMILIES.get(chain.family, str(chain.family))
    where = f"table {family} {chain.table}, chain {chain.name}"
    nameable = PLAIN.fullmatch(chain.table) and PLAIN.fullmatch(chain.name)
    place = f"{family} {chain.table} {chain.name}"
    if drop.rule is None:
        let = f"{entry}nft insert rule {place} {accepted} accept" if nameable and accepted else ""
        return Filter(hook, "its policy is drop, and no rule before accepts it", where, let, grew, data_only)
    text = texts(chain).get(drop.rule.handle, "") or ("a rule that rejects" if drop.rejects else "a rule that drops")
    remove = f"{entry}nft delete rule {place} handle {drop.rule.handle}" if nameable else ""
    return Filter(hook, text, f"{where}, handle {drop.rule.handle}", remove, grew, data_only)


# --- packets --------------------------------------------------------------------------------------------------------


def _udp(flow: Flow, kind: int, *, out: bool) -> Packet:
    length = _LENGTHS[kind]
    ports = (flow.port, flow.far_port) if out else (flow.far_port, flow.port)
    segment = struct.pack("!HHHH", *ports, 8 + length, 0) + bytes([kind, 0, 0, 0]) + bytes(length - 4)
    return _packet(flow, UDP, segment, out=out, established=flow.established or (flow.asked and not out))


def _echo(flow: Flow, *, out: bool) -> Packet:
    ipv6 = ":" in flow.there
    kind = (128 if out else 129) if ipv6 else (8 if out else 0)
    segment = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + bytes(ECHO_LENGTH)
    return _packet(flow, ICMPV6 if ipv6 else ICMP, segment, out=out, established=not out)


def _packet(flow: Flow, protocol: int, segment: bytes, *, out: bool, established: bool) -> Packet:
    there = ip_address(flow.there.partition("%")[0])
    here = ip_address(flow.here.partition("%")[0]) if flow.here else type(there)(0)
    source, destination = (here, there) if out else (there, here)
    if there.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(segment), protocol, 64)
    else:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, protocol, 0)
    data = head + source.packed + destination.packed + segment
    meta = {
        _LENGTH: len(data).to_bytes(4, byteorder),
        _PROTOCOL: (0x86DD if there.version == 6 else 0x0800).to_bytes(2),
        _NFPROTO: bytes([10 if there.version == 6 else 2]),
        _L4PROTO: bytes([protocol]),
    }
    name = flow.interface.encode().ljust(16, b"\0")
    index = flow.indices.get(flow.interface, 0)
    if out:
        meta[_MARK] = flow.mark.to_bytes(4, byteorder)
        meta |= {_IIFNAME: bytes(16), _IIF: bytes(4)}
    else:
        meta |= {_PKTTYPE: b"\0", _OIFNAME: bytes(16), _OIF: bytes(4)}
    if flow.interface:
        meta[_OIFNAME if out else _IIFNAME] = name
    if index:
        meta[_OIF if out else _IIF] = index.to_bytes(4, byteorder)
    state = _ESTABLISHED if established else _NEW
    ct = {_STATE: state.to_bytes(4, byteorder), _CT_DIRECTION: bytes([int(established and not out)])}
    names = {"outgoing": flow.interface} if out else {"incoming": flow.interface}
    return Packet(data, len(data) - len(segment), meta=meta, ct=ct, **names)
