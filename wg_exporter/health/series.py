"""The metrics of a peer's health: what of its row becomes which series."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter import catalogue as c
from wg_exporter.catalogue import Point, points_of
from wg_exporter.health.states import PeerHealth, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.catalogue import Metric


class HealthField(NamedTuple):
    """A metric of a peer's health: `values` makes a value per point of its row; None = absent."""

    metric: Metric
    values: Callable[[PeerHealth], tuple[float | None, ...]]
    points: tuple[Point, ...] = (Point(),)


_STATES: dict[State | None, tuple[float | None, ...]] = {
    state: tuple(int(state is other) for other in State) if state else (None,) * len(State) for state in (None, *State)
}

# All but the reason, whose labels are those of the row itself; in the order of the catalogue, as it is around them.
STATE_FIELD = HealthField(c.PEER_STATE, lambda row: _STATES[row.state], points_of("state", tuple(State)))
COUNT_FIELDS = (
    HealthField(c.PEER_STATE_CHANGES, lambda row: (row.changes,)),
    HealthField(c.PEER_DOWN_SECONDS, lambda row: (row.down_seconds,)),
    HealthField(c.PEER_LAST_CHANGE, lambda row: (row.changed_at or None,)),
)
FIELDS = (STATE_FIELD, *COUNT_FIELDS)
METRICS = (c.PEER_STATE, c.PEER_REASON, *(field.metric for field in COUNT_FIELDS))


def reason_labels(row: PeerHealth) -> tuple[tuple[str, str], ...]:
    """What tells one reason from another; empty where there is none."""
    return (("state", row.state), ("reason", row.reason)) if row.state and row.reason else ()
