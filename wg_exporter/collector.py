"""A collector for prometheus_client: the samples of `/metrics` in a registry of your own.

    from prometheus_client import REGISTRY
    from wg_exporter.collector import WireGuardCollector

    REGISTRY.register(WireGuardCollector())

The same rules as for the exporter hold: reading kernel devices needs CAP_NET_ADMIN, and what can't be read is told by
`wireguard_exporter_source_success`.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from wg_exporter.catalogue import NAMES
from wg_exporter.config import Config, load
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.metric import Kind
from wg_exporter.reader.host import host_sources

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from wg_exporter.exposition.parts import Sample
    from wg_exporter.sources import OpenSources

_FAMILIES: dict[Kind, type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]] = {
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


class WireGuardCollector(Collector):
    """Every WireGuard device of this host, read at each collection.

    A background thread of its own counts handshakes and roaming in between; `close` ends it. Raises ConfigError for
    a bad configuration file. `sources` are those of this host, unless a test has its own.
    """

    def __init__(self, config_file: Path | str | None = None, *, sources: OpenSources = host_sources) -> None:
        path = None if config_file is None else Path(config_file)
        config = Config() if path is None else load(path, NAMES)
        self._exporter = Exporter(config, path, sources)
        self._exporter.start()

    def collect(self) -> Iterator[Metric]:
        """The families, in the order of `/metrics`; those without a sample are left out, as there."""
        return collected(self._exporter.samples())

    def describe(self) -> list[Metric]:
        """Nothing: a registry must not read the host to learn the names."""
        return []

    def close(self) -> None:
        """End the background threads."""
        self._exporter.stop()


def collected(samples: Iterable[Sample]) -> Iterator[Metric]:
    """These samples as prometheus_client's families; `samples` must bring each family's together."""
    for metric, group in groupby(samples, key=lambda sample: sample.metric):
        family = _FAMILIES[metric.kind](metric.family, metric.help)
        for sample in group:
            family.add_sample(metric.name + sample.suffix, dict(sample.labels), sample.value)
        yield family
