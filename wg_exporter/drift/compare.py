"""One device and one file that describes it: how they differ.

The rule behind all of it: a difference counts if it is certain. What the file leaves open, what was not understood in
it, and what could be the doing of something else than a change by hand does not count.

A device may have 10,000 peers of which hardly anything moves. So each kind is compared by columns of peers, and what
came of it is kept while its columns and the file are the same objects (`model`).
"""

from __future__ import annotations

from itertools import chain, compress, islice
from operator import is_, ne
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from wg_exporter.compared import KeysDiffer
from wg_exporter.drift import forms
from wg_exporter.drift.kinds import OF_PEERS, Difference, Drift, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.compared import KeyComparison
    from wg_exporter.model import ConfFile, ConfPeer, Device, Link

Made = TypeVar("Made")

MOST = 1000  # differences that are named, of one device
SET, ANOTHER = "set", "another"
_PARTS = (Kind.PEER_MISSING, Kind.PEER_EXTRA, Kind.ALLOWED_IPS, Kind.ENDPOINT, Kind.KEEPALIVE)


class _Keep:
    """Calls functions, and gives the last result again if one is called with the same objects as last time."""

    def __init__(self) -> None:
        self._known: dict[object, tuple[tuple[object, ...], object]] = {}

    def __call__(self, function: Callable[..., Made], *of: object) -> Made:
        known = self._known.get(function)
        if known is None or not all(map(is_, known[0], of)):
            known = self._known[function] = (of, function(*of))
        return cast("Made", known[1])


class _Match(NamedTuple):
    """The peers of the file and of the device. `places` are those of `both` on the device."""

    both: tuple[ConfPeer, ...]
    places: tuple[int, ...]
    missing: tuple[ConfPeer, ...]
    extra: tuple[int, ...]


class Comparison:
    """A device and a file, look after look. Not thread-safe."""

    def __init__(self) -> None:
        self._keep = _Keep()
        self._last: tuple[tuple[Any, ...], Drift] | None = None

    def look(
        self,
        device: Device,
        link: Link | None,
        file: ConfFile,
        keys: KeyComparison | None,
        resolved: Mapping[str, frozenset[str]],
    ) -> Drift:
        """How they differ now; the same object as before while that is the same.

        `resolved` has what endpoints with a host name, as they stand in files, resolve to at present: `address:port`
        each. One that is not in it is judged only if it is numeric.
        """
        keep, peers = self._keep, device.peers
        parts: list[Sequence[Difference]] = []
        match = None
        if not file.hooked:
            match = keep(_matched, file, device.public_key, peers.public_key)
            wanted = keep(_wanted, file)
            parts = [
                keep(_missing, match),
                keep(_extra, match, peers.public_key, peers.allowed_ips),
                keep(_allowed_ips, match, wanted, peers.allowed_ips),
                keep(_endpoints, keep(_placed, match, file), peers.endpoint, resolved),
                keep(_keepalives, match, peers.persistent_keepalive),
            ]
        addresses, mtu = (link.addresses, link.mtu) if link else (None, None)
        key = (parts, match, keys, file, device.listen_port, device.fwmark, mtu, addresses)
        if self._last is None or self._last[0] != key:
            found: dict[Kind, Sequence[Difference]] = dict(zip(_PARTS, parts, strict=False))
            found |= {kind: rows for kind, rows in _of_keys(keys) if match is not None or kind not in OF_PEERS}
            found |= _of_device(device, link, file)
            self._last = key, _drift(file, found)
        return self._last[1]


def _drift(file: ConfFile, found: Mapping[Kind, Sequence[Difference]]) -> Drift:
    # Each section without a key may be one of the extra peers.
    counts = {kind: max(0, len(found[kind]) - _unknown(kind, file)) for kind in Kind if kind in found}
    named = chain.from_iterable(found[kind] for kind, number in counts.items() if number)
    return Drift(file.path, tuple(counts.items()), tuple(islice(named, MOST)), file.saved, file.hooked)


def _unknown(kind: Kind, file: ConfFile) -> int:
    return file.left_out if kind is Kind.PEER_EXTRA else 0


def _matched(file: ConfFile, own_key: str, public_keys: Sequence[str]) -> _Match:
    """WireGuard leaves out a peer that has the key of the device itself."""
    there = {key: place for place, key in enumerate(public_keys)}
    both = [peer for peer in file.peers if peer.public_key in there]
    known = {peer.public_key for peer in file.peers}
    return _Match(
        tuple(both),
        tuple(there[peer.public_key] for peer in both),
        tuple(peer for peer in file.peers if peer.public_key not in there and peer.public_key != own_key),
        tuple(place for place, key in enumerate(public_keys) if key not in known),
    )


class _Wanted(NamedTuple):
    """What a file makes of allowed IPs: those of peers that do not have all that stands in their sections, by key, and
    those of which it is not known who has them.
    """

    others: dict[str, tuple[str, ...]]
    open: frozenset[str]


def _wanted(file: ConfFile) -> _Wanted:
    """Who has which allowed IPs, where several peers of the file name the same one: WireGuard has one owner for each.

    `wg setconf` goes through the file from top to bottom, so the last one has it. networkd has gone through it from
    bottom to top (wireguard_peer_new_static, src/network/netdev/wireguard.c), which is no promise.
    """
    owners: dict[str, str] = {}
    contested: set[str] = set()
    for peer in file.peers:
        for text in peer.allowed_ips:
            if owners.setdefault(text, peer.public_key) != peer.public_key:
                contested.add(text)
                owners[text] = peer.public_key
    if not contested:
        return _Wanted({}, frozenset())
    if file.path.endswith(".netdev"):
        return _Wanted({}, frozenset(contested))
    others = {
        peer.public_key: tuple(text for text in peer.allowed_ips if owners[text] == peer.public_key)
        for peer in file.peers
        if not contested.isdisjoint(peer.allowed_ips)
    }
    return _Wanted(others, frozenset())


def _missing(match: _Match) -> list[Difference]:
    return [
        Difference(Kind.PEER_MISSING, peer.public_key, forms.listed(peer.allowed_ips), "", peer.name)
        for peer in match.missing
    ]


def _extra(match: _Match, public_keys: Sequence[str], allowed_ips: Sequence[tuple[str, ...]]) -> list[Difference]:
    return [
        Difference(Kind.PEER_EXTRA, public_keys[place], "", forms.listed(allowed_ips[place])) for place in match.extra
    ]


def _allowed_ips(match: _Match, wanted: _Wanted, column: Sequence[tuple[str, ...]]) -> list[Difference]:
    now = tuple(map(column.__getitem__, match.places))
    said = tuple(wanted.others.get(peer.public_key, peer.allowed_ips) for peer in match.both)
    found = []
    for peer, file, device in compress(zip(match.both, said, now, strict=True), map(ne, said, now)):
        if "allowed_ips" in peer.unclear:
            continue
        open_ = forms.networks(wanted.open)
        if forms.networks(file) - open_ != forms.networks(device) - open_:
            found.append(
                Difference(Kind.ALLOWED_IPS, peer.public_key, forms.listed(file), forms.listed(device), peer.name)
            )
    return found


def _keepalives(match: _Match, column: Sequence[int]) -> list[Difference]:
    """A file that says nothing means off."""
    now = tuple(map(column.__getitem__, match.places))
    said = tuple(peer.persistent_keepalive or 0 for peer in match.both)
    return [
        Difference(Kind.KEEPALIVE, peer.public_key, str(file or "off"), str(device or "off"), peer.name)
        for peer, file, device in compress(zip(match.both, said, now, strict=True), map(ne, said, now))
        if "persistent_keepalive" not in peer.unclear
    ]


def _placed(match: _Match, file: ConfFile) -> tuple[tuple[ConfPeer, int], ...]:
    """The peers for which the file names an endpoint, and their places on the device. None where wg-quick saves the
    file, which then names where they were last seen.
    """
    both = zip(match.both, match.places, strict=True)
    return tuple(one for one in both if one[0].endpoint and not file.saved and "endpoint" not in one[0].unclear)


def _endpoints(
    placed: tuple[tuple[ConfPeer, int], ...], column: Sequence[str], resolved: Mapping[str, frozenset[str]]
) -> list[Difference]:
    return [
        Difference(Kind.ENDPOINT, peer.public_key, peer.endpoint, column[place], peer.name)
        for peer, place in placed
        if peer.endpoint != column[place] and _is_elsewhere(peer.endpoint, column[place], resolved)
    ]


def _is_elsewhere(wanted: str, used: str, resolved: Mapping[str, frozenset[str]]) -> bool:
    """Whether the endpoint in use is certainly not the one that the file names."""
    device = forms.endpoint(used)
    if device is None:
        return not used  # whatever a name resolves to, none is in use
    named = filter(None, map(forms.endpoint, resolved.get(wanted, (wanted,))))
    places = {(place.address, place.port) for place in named if place.address}
    # A port that is the name of a service is not known.
    return bool(places) and places.isdisjoint({(device.address, device.port), (device.address, 0)})


def _of_keys(keys: KeyComparison | None) -> list[tuple[Kind, list[Difference]]]:
    """Of what could be compared."""
    if keys is None:
        return []
    words = {
        KeysDiffer.FILE_ONLY: (SET, ""),
        KeysDiffer.DEVICE_ONLY: ("", SET),
        KeysDiffer.OTHER: (SET, ANOTHER),
    }
    preshared = [Difference(Kind.PRESHARED_KEY, key, *words[how]) for key, how in keys.preshared_keys]
    private = [Difference(Kind.PRIVATE_KEY, "", SET, ANOTHER)] if keys.private_key is False else []
    return [(Kind.PRESHARED_KEY, preshared), (Kind.PRIVATE_KEY, private)]


def _of_device(device: Device, link: Link | None, file: ConfFile) -> dict[Kind, list[Difference]]:
    """What the file says of the device itself. MTU and addresses are known by its link alone."""
    said = file.device

    def differing(kind: Kind, wanted: int | None, used: int, form: str = "d") -> list[Difference]:
        if wanted is None or wanted == used:
            return []
        return [Difference(kind, "", format(wanted, form), format(used, form))]

    found = {
        Kind.LISTEN_PORT: differing(Kind.LISTEN_PORT, said.listen_port, device.listen_port),
        Kind.FWMARK: differing(Kind.FWMARK, said.fwmark, device.fwmark, "#x"),
    }
    if link is not None:
        there = forms.interface_addresses(link.addresses)
        lacking = [text for text in said.addresses if not forms.interface_addresses((text,)) <= there]
        found[Kind.MTU] = differing(Kind.MTU, said.mtu, link.mtu)
        found[Kind.ADDRESS] = [Difference(Kind.ADDRESS, "", text, "") for text in lacking]
    return found
