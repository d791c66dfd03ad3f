"""How all peers are probed, as configured."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.prober.echo.track import RTT_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Sequence


class ProbeSettings(NamedTuple):
    """What holds for all peers, as configured. Times in seconds, `rtt_buckets` the upper bounds of the histogram.

    `suspect_interval` is between small echoes while some are lost, `inner_interval` between full-size ones,
    `outer_interval` between looks at the path to the endpoint.
    """

    timeout: float = 3.0
    suspect_interval: float = 1.0
    rtt_buckets: Sequence[float] = RTT_BUCKETS
    inner_interval: float = 60.0
    outer_interval: float = 300.0
