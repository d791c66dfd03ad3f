"""What one scrape shows: everything that was read, counted, judged and probed, as rows that never change."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.probe import RTT_BUCKETS
from wg_exporter.quiet import NOBODY, QuietNow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.causes.cause import Finding
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.health import GoneDevice
    from wg_exporter.health.states import PeerHealth
    from wg_exporter.history.counts import PeerCounts
    from wg_exporter.hostnames import EndpointName
    from wg_exporter.model import Device, DeviceKey, FailedDevice, Link, Outcome
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.probed import FastFound, Probed


class DeviceView(NamedTuple):
    """A device that was read, with all that is known of its peers.

    `metas`, `counts`, `health` and `host_names` run in parallel to `device.peers`. `health` is empty if the device was
    never judged, `host_names` if no peer has one.
    """

    device: Device
    link: Link | None
    metas: Sequence[PeerMeta]
    counts: Sequence[PeerCounts]
    health: Sequence[PeerHealth] = ()
    host_names: Sequence[EndpointName] = ()


class ExporterFacts(NamedTuple):
    """What the exporter says of itself. Times are seconds since the epoch. `capabilities` are (name, able)."""

    version: str
    python_version: str
    reload_successful: bool
    reload_timestamp: float
    capabilities: tuple[tuple[str, bool], ...]
    clock_steps: int


class View(NamedTuple):
    """Everything that one scrape shows.

    `missing` are expected interfaces that are gone. `gone` are the devices with peers expected up that are not among
    `devices`, because they are gone or can't be read. `lacking` are those with peers that they lack.
    `endpoints` is `full`, `address` or `off`. `probes` holds the peers that are probed, by device and public key; a
    device is the same object as before while nothing changed.
    `rtt_buckets` are the bounds in seconds by which their round trips were counted. `scheduling_delay` is in seconds,
    None where nothing is probed. `unmatched` are lines about entries of the configuration that match nothing. `quiet`
    is who pages nobody at the moment. `causes` are those that were found, by device and public key: perhaps of peers
    that are well again by now. `drifts` are how devices differ from the files that describe them. `fast` has the
    peers that should have fast echoes, by device and public key.
    """

    devices: tuple[DeviceView, ...]
    failed: tuple[tuple[FailedDevice, Link | None], ...]
    missing: tuple[DeviceKey, ...]
    outcomes: tuple[Outcome, ...]
    exporter: ExporterFacts
    endpoints: str = "full"
    probes: Mapping[DeviceKey, Mapping[str, Probed]] = MappingProxyType({})
    rtt_buckets: tuple[float, ...] = RTT_BUCKETS
    scheduling_delay: float | None = None
    gone: tuple[GoneDevice, ...] = ()
    lacking: tuple[GoneDevice, ...] = ()
    unmatched: tuple[str, ...] = ()
    quiet: QuietNow = NOBODY
    causes: Mapping[DeviceKey, Mapping[str, Finding]] = MappingProxyType({})
    drifts: Mapping[DeviceKey, Drift] = MappingProxyType({})
    fast: Mapping[DeviceKey, Mapping[str, FastFound]] = MappingProxyType({})
