"""What is to be counted in one network namespace, and what a reader wants of whatever counts (`reader.counting`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wg_exporter.model import Peers, Snapshot


class Wanted(NamedTuple):
    """What to count: the peers of the devices by name and index, and which indices there are in the namespace.

    `there` is None where nobody knows; then no device is taken for gone.
    """

    devices: Mapping[tuple[str, int], Peers]
    there: Collection[int] | None


class Counting(Protocol):
    """The last step of each pass."""

    def add(self, snapshot: Snapshot, until: float) -> Snapshot:
        """The snapshot with the packets of its peers. `until` is when the pass should end (monotonic seconds)."""

    def stop(self) -> None:
        """End it. Waits a moment until nothing of it is left on the host."""
