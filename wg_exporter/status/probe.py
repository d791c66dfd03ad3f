"""The part of the status document about the probes to a peer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wg_exporter.history.round_trips import STEP_SECONDS

if TYPE_CHECKING:
    from wg_exporter.health.quality import Window
    from wg_exporter.history.round_trips import Line
    from wg_exporter.status.rows import Echoes


class RoundTripsPart(msgspec.Struct, frozen=True, kw_only=True):
    """The last ten minutes in steps of equal length, the oldest first: of each the mean round trip in seconds, null
    where nothing was answered, and the number of probes that were lost. `until` is when the last one ended.
    """

    until: float
    step_seconds: float
    mean_seconds: list[float | None]
    lost: list[int]


class ProbePart(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes to a peer show. Counts are since the exporter started. `loss_ratio` (0 to 1) and
    `round_trip_seconds` are the means of the last minutes (`health.window`), and null where they are not of now.
    """

    up: bool
    sent: int
    lost: int
    late: int
    loss_ratio: float | None
    round_trip_seconds: float | None
    round_trips: RoundTripsPart | None = None


def probe_part(echoes: Echoes, window: Window | None, line: Line | None) -> ProbePart:
    """What is said of these probes, of loss and round trip of now, and of the last ten minutes."""
    return ProbePart(
        up=echoes.up,
        sent=echoes.sent,
        lost=echoes.lost,
        late=echoes.late,
        loss_ratio=window.loss if window else None,
        round_trip_seconds=window.rtt if window else None,
        round_trips=line
        and RoundTripsPart(
            until=line.until, step_seconds=STEP_SECONDS, mean_seconds=list(line.means), lost=list(line.lost)
        ),
    )
