"""What a metric is: its name, type, labels and help. Which ones there are says the catalogue."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "wireguard_"


class Kind(StrEnum):
    """The types of the exposition formats that are used."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Scope(StrEnum):
    """What a metric speaks of; the order is that of the documentation."""

    INTERFACE = "Interface"
    DRIFT = "Configuration drift"
    PEER = "Peer"
    PROBE = "Probe"
    MTU = "MTU"
    EXPORTER = "The exporter itself"


class Metric(NamedTuple):
    """One metric family. `labels` are in the order in which they are written; the `le` of a histogram is not listed."""

    name: str
    kind: Kind
    scope: Scope
    labels: tuple[str, ...]
    help: str

    @property
    def family(self) -> str:
        """The name that OpenMetrics gives the family: a counter's without its `_total`."""
        return self.name.removesuffix("_total") if self.kind is Kind.COUNTER else self.name

    @property
    def unit(self) -> str:
        """The OpenMetrics unit, empty where the name ends in none."""
        return next((unit for unit in ("bytes", "seconds") if self.family.endswith("_" + unit)), "")


class Point(NamedTuple):
    """One of the series that a metric has for one thing: what follows the name, and the labels the others have not."""

    suffix: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def points_of(label: str, words: Sequence[str]) -> tuple[Point, ...]:
    """A series for each word of a closed set."""
    return tuple(Point("", ((label, str(word)),)) for word in words)
