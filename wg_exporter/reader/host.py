"""The sources of this host: which threads read what, in which network namespace, for one configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.linux.namespaces import Entrance
from wg_exporter.model import Backend, SourceName
from wg_exporter.reader.conf import DEFAULT_PATTERNS, ConfSource
from wg_exporter.reader.counting import Counting, counters
from wg_exporter.reader.dns.service import HostNames
from wg_exporter.reader.dns.setter import Setter
from wg_exporter.reader.kernel.source import KernelSource
from wg_exporter.reader.keys import Comparisons, KeyDigests, KeyLooks
from wg_exporter.reader.links.source import InterfaceSource
from wg_exporter.reader.reader import Reader, Reading, Worker, unasked
from wg_exporter.reader.userspace.source import UserspaceSource

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from wg_exporter.config import Config
    from wg_exporter.sources import Clock

# Names change rarely, and looking through directories of files takes longer than reading most devices.
CONF_SECONDS = 4.0


def host_sources(
    config: Config, clock: Clock, resolver: Callable[[], socket.socket] | None = None, *, serving: bool = False
) -> Reader:
    """A reader of all sources of this host, as `sources.OpenSources`.

    `resolver` gives the socket of a process that looks host names up; without one, nobody does. Packets are counted
    for who is `serving` alone: that takes somebody who stays, and one at a time.
    """
    looks = KeyLooks(KeyDigests(), clock.monotonic)
    namespaces = {place.name: place.path for place in config.namespaces}
    names = None
    if resolver is not None and config.dns.resolve:
        names = HostNames(resolver, clock, Setter().set if config.dns.reresolve else None)
    workers = host_workers(config, clock, looks)
    counting = _counting(config, clock) if serving else None
    return reader_of(workers, clock, namespaces=namespaces, keys=Comparisons(looks), names=names, counting=counting)


def reader_of(
    workers: Iterable[Worker],
    clock: Clock,
    *,
    namespaces: Mapping[str, str] | None = None,
    keys: Comparisons | None = None,
    names: HostNames | None = None,
    counting: Counting | None = None,
) -> Reader:
    """A reader of these, which are made here: those that were made are stopped if another one can't be. `namespaces`
    are the paths of the configured ones, by name.
    """
    made: list[Worker] = []
    try:
        made.extend(workers)
    except BaseException:
        for worker in made:
            worker.stop()
        if counting is not None:
            counting.stop()
        raise
    return Reader(made, clock, namespaces=namespaces or {}, keys=keys, names=names, counting=counting)


def _counting(config: Config, clock: Clock) -> Counting:
    """What counts packets or, where that is off, takes away what a killed exporter has left, once."""
    count = config.accounting.enabled
    places: list[tuple[str, Entrance | None]] = [("", None)]
    places += [(place.name, Entrance(place.name, place.path)) for place in config.namespaces]
    made = []
    try:
        for netns, namespace in places:
            made.append(counters(clock, netns, namespace, count=count))
    except BaseException:
        for worker, _source in made:
            worker.stop()
        raise
    return Counting(made, clock.monotonic, count=count)


def host_workers(config: Config, clock: Clock, looks: KeyLooks) -> Iterator[Worker]:
    """All sources of this host, each with a thread that waits to be asked. Keys are looked at as `looks` wants it."""
    wanted = config.interfaces.wanted
    yield from _workers_inside("", None, wanted, clock, looks)
    for place in config.namespaces:  # no file describes what is in them
        yield from _workers_inside(place.name, place.path, wanted, clock, None)
    userspace = UserspaceSource(wanted=wanted, looks=looks)
    yield Worker(SourceName.USERSPACE, lambda: _userspace(userspace), clock=clock)
    conf = ConfSource(DEFAULT_PATTERNS if config.names is None else config.names, digests=looks.digests)
    yield Worker(SourceName.CONF, lambda: _conf(conf), clock=clock, every=CONF_SECONDS)


def _conf(source: ConfSource) -> Reading:
    return Reading(conf=source.read(), idle_patterns=source.idle_patterns, keys=source.keys)


def _userspace(source: UserspaceSource) -> Reading:
    devices, failed = source.read()
    notes = tuple(f"{path}: a socket whose daemon is gone; remove it or start the daemon" for path in source.leftovers)
    return Reading(devices, failed, notes=notes, left_out=source.left_out, doubles=source.doubles)


def _links(source: InterfaceSource) -> Reading:
    links = source.read()
    return Reading(links=links, notes=source.notes, ports=source.ports, routes=source.routes)


def _workers_inside(
    netns: str, path: str | None, wanted: Callable[[str], bool], clock: Clock, looks: KeyLooks | None
) -> Iterator[Worker]:
    """The sources that each network namespace has of its own."""
    kernel, amneziawg = (KernelSource(one, wanted, looks=looks) for one in (Backend.KERNEL, Backend.AMNEZIAWG))
    links = InterfaceSource(clock.monotonic)
    for source, read, close, ask in (
        (SourceName.KERNEL, lambda: Reading(*kernel.read()), kernel.close, unasked),
        (SourceName.AMNEZIAWG, lambda: Reading(*amneziawg.read()), amneziawg.close, unasked),
        (SourceName.LINKS, lambda: _links(links), links.close, links.ask),
    ):
        namespace = None if path is None else Entrance(netns, path)
        yield Worker(source, read, close, ask, clock=clock, netns=netns, namespace=namespace)
