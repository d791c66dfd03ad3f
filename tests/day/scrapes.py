"""What the scrapes of one host showed: of each series, the scrapes at which its value was another than before."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter import catalogue as c
from wg_exporter.exposition.fields import HEALTH_FIELDS, peer_labels
from wg_exporter.names.identity import PeerMeta
from wg_exporter.names.tunnel import tunnel_name
from wg_exporter.probed import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from wg_exporter.exposition.parts import Pairs
    from wg_exporter.exposition.view import View
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.model import Peers

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A name and its labels, without those of the target."""


_tunnel = cache(tunnel_name)


class _Row(NamedTuple):
    """All that the series of a peer are made of. `verdict` is None where it is not probed."""

    meta: PeerMeta
    health: PeerHealth
    verdict: Verdict | None
    info: Pairs = ()


class Scrapes:
    """The scrapes of one target. `points` has for each series when it changed, and to what; None = it was not there.

    `devices` has what every scrape saw of the devices themselves, by name, where this is to be kept.
    """

    def __init__(self, instance: str, *, seconds: float = 15.0, keep: bool = False) -> None:
        """`seconds` are from one scrape to the next."""
        self.instance, self.seconds = instance, seconds
        self._keep = keep
        self.number = 0
        self.lost: list[int] = []
        self.points: dict[Series, list[tuple[int, float | None]]] = {}
        self.devices: list[tuple[int, dict[str, Peers]]] = []
        self._rows: dict[tuple[str, str], _Row] = {}
        self._fixed: dict[Series, float] = {}

    def lose(self) -> None:
        """A scrape failed."""
        self.lost.append(self.number)
        self.number += 1

    def take(self, page: View) -> None:
        """A scrape succeeded."""
        self._put(self._fixed, fixed := dict(_of_devices(page)))
        self._fixed = fixed
        rows = dict(_rows(page))
        for who in rows.keys() | self._rows.keys():
            before, after = self._rows.get(who), rows.get(who)
            if before != after:
                self._put(dict(_of_peer(*who, before)), dict(_of_peer(*who, after)))
        self._rows = rows
        if self._keep:
            self.devices.append((self.number, {row.device.name: row.device.peers for row in page.devices}))
        self.number += 1

    def _put(self, before: Mapping[Series, float], after: Mapping[Series, float]) -> None:
        for series in before.keys() - after.keys():
            self.points[series].append((self.number, None))
        for series, value in after.items():
            if before.get(series) != value:
                self.points.setdefault(series, []).append((self.number, value))


def _rows(page: View) -> Iterator[tuple[tuple[str, str], _Row]]:
    for row in page.devices:
        probed = page.probes.get(("", row.device.name), {})
        own, ips = row.device.public_key, row.device.peers.allowed_ips
        for key, meta, health, allowed in zip(row.device.peers.public_key, row.metas, row.health, ips, strict=True):
            found = probed.get(key)
            verdict = None if found is None else found.mtu.verdict if found.mtu else Verdict.UNKNOWN
            info = (("tunnel", _tunnel(own, key)), ("allowed_ips", ",".join(allowed)))
            yield (row.device.name, key), _Row(meta, health, verdict, info)
    for gone in page.gone:
        for key, meta, health in zip(gone.public_key, gone.metas, gone.rows, strict=True):
            yield (gone.name, key), _Row(meta, health, None)


def _of_devices(page: View) -> Iterator[tuple[Series, float]]:
    yield (c.BUILD_INFO.name, (("version", "1"),)), 1
    for source in ("kernel", "links", "conf"):
        yield (c.SOURCE_SUCCESS.name, (("source", source),)), 1
    for device, link in ((row.device, row.link) for row in page.devices):
        pairs = (("interface", device.name),)
        info = zip(c.INTERFACE_INFO.labels, (device.name, device.public_key, "51820", device.backend), strict=True)
        yield (c.INTERFACE_INFO.name, tuple(info)), 1
        yield (c.INTERFACE_UP.name, pairs), 1
        yield (c.INTERFACE_READ_SUCCESS.name, pairs), 1
        yield (c.INTERFACE_PEERS.name, pairs), len(device.peers)
        if link is not None:
            yield (c.INTERFACE_MTU.name, pairs), link.mtu
    for _netns, name in page.missing:
        yield (c.INTERFACE_UP.name, (("interface", name),)), 0


def _of_peer(interface: str, key: str, row: _Row | None) -> Iterator[tuple[Series, float]]:
    if row is None:
        return
    who = peer_labels(interface, key, row.meta)
    if row.info:
        yield (c.PEER_INFO.name, (*who, *row.info)), 1
    for field in HEALTH_FIELDS:
        for point, value in field.series(row.meta if field.row is PeerMeta else row.health):
            yield (field.metric.name, (*who, *point.labels)), value
    if row.verdict is not None:
        for verdict in Verdict:
            yield (c.MTU_VERDICT.name, (*who, ("verdict", verdict))), int(verdict is row.verdict)
