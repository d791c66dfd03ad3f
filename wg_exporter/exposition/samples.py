"""What `/metrics` says, before it is bytes: samples of interfaces and of the exporter, and sections of peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter import catalogue as c
from wg_exporter.exposition.causes import peer_causes
from wg_exporter.exposition.fast import fast_samples
from wg_exporter.exposition.fields import peers, probes
from wg_exporter.exposition.parts import Sample, samples_of
from wg_exporter.exposition.quiet import quiet_peers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wg_exporter.exposition.parts import Pairs, Parts
    from wg_exporter.exposition.view import View
    from wg_exporter.metric import Metric
    from wg_exporter.model import Link


def metrics(view: View, extra: Iterable[Sample] = ()) -> Parts:
    """The page, in the order of the catalogue. `extra` are samples of other families, which come last."""
    return (
        interface_samples(view),
        peers(view),
        peer_causes(view),
        quiet_peers(view),
        fast_samples(view),
        probes(view),
        exporter_samples(view),
        extra,
    )


def samples(view: View) -> Iterator[Sample]:
    """All samples of `view`, each family's together."""
    return samples_of(metrics(view))


def labels(metric: Metric, netns: str, *values: str) -> Pairs:
    """The labels of a sample. `netns` comes last, and only outside the exporter's own namespace."""
    pairs = tuple(zip(metric.labels, values, strict=True))
    return (*pairs, ("netns", netns)) if netns else pairs


def interface_samples(view: View) -> Iterator[Sample]:
    """The families of scope Interface."""
    devices = view.devices
    links: list[tuple[str, str, Link]] = [
        (row.device.netns, row.device.name, row.link) for row in devices if row.link is not None
    ] + [(failed.netns, failed.name, link) for failed, link in view.failed if link is not None]
    for row in devices:
        device = row.device
        values = (device.name, device.public_key, str(device.listen_port), device.backend)
        yield Sample(c.INTERFACE_INFO, labels(c.INTERFACE_INFO, device.netns, *values), 1)
    for netns, name, link in links:
        yield Sample(c.INTERFACE_UP, labels(c.INTERFACE_UP, netns, name), int(link.up))
    for netns, name in view.missing:
        yield Sample(c.INTERFACE_UP, labels(c.INTERFACE_UP, netns, name), 0)
    yield from device_success(view)
    for netns, name, link in links:
        yield Sample(c.INTERFACE_MTU, labels(c.INTERFACE_MTU, netns, name), link.mtu)
    for row in devices:
        yield Sample(
            c.INTERFACE_PEERS, labels(c.INTERFACE_PEERS, row.device.netns, row.device.name), len(row.device.peers)
        )
    for quiet in view.quiet.all:
        if not quiet.public_key:
            yield Sample(c.INTERFACE_QUIET, labels(c.INTERFACE_QUIET, quiet.netns, quiet.interface), 1)
    for metric, field in c.LINK_COUNTERS:
        for netns, name, link in links:
            yield Sample(metric, labels(metric, netns, name), getattr(link, field))
    for (netns, name), drift in view.drifts.items():
        for kind, number in drift.counts:
            yield Sample(c.CONFIG_DRIFT, labels(c.CONFIG_DRIFT, netns, name, kind), number)


def exporter_samples(view: View) -> Iterator[Sample]:
    """The families of the exporter itself."""
    exporter = view.exporter
    yield Sample(c.BUILD_INFO, labels(c.BUILD_INFO, "", exporter.version, exporter.python_version), 1)
    yield from source_success(view)
    for outcome in view.outcomes:
        yield Sample(c.SOURCE_DURATION, labels(c.SOURCE_DURATION, outcome.netns, outcome.source), outcome.duration)
    yield Sample(c.DEVICES, (), len(view.devices) + len(view.failed))
    yield Sample(c.RELOAD_SUCCESSFUL, (), int(exporter.reload_successful))
    yield Sample(c.RELOAD_TIMESTAMP, (), exporter.reload_timestamp)
    for name, able in exporter.capabilities:
        yield Sample(c.CAPABILITY, labels(c.CAPABILITY, "", name), int(able))
    if view.scheduling_delay is not None:
        yield Sample(c.SCHEDULING_DELAY, (), view.scheduling_delay)
    yield Sample(c.CLOCK_STEPS, (), exporter.clock_steps)


def device_success(view: View) -> Iterator[Sample]:
    """Which devices could be read."""
    for row in view.devices:
        success = labels(c.INTERFACE_READ_SUCCESS, row.device.netns, row.device.name)
        yield Sample(c.INTERFACE_READ_SUCCESS, success, int(row.device.fresh))
    for failed, _link in view.failed:
        yield Sample(c.INTERFACE_READ_SUCCESS, labels(c.INTERFACE_READ_SUCCESS, failed.netns, failed.name), 0)


def source_success(view: View) -> Iterator[Sample]:
    """Which sources could be read."""
    for outcome in view.outcomes:
        pairs = labels(c.SOURCE_SUCCESS, outcome.netns, outcome.source)
        yield Sample(c.SOURCE_SUCCESS, pairs, int(outcome.success))
