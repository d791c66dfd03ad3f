"""What the prober's processes have told of the peers, one process after the other.

A new process counts from 0. Prometheus would take that for a reset of all counters, and every rate over that moment
would miss something. So what earlier processes had counted is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.probed import Probed, ProbeStats
from wg_exporter.remote.prober.probed import ProbedPeers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wg_exporter.model import DeviceKey, PeerKey
    from wg_exporter.probed import MtuReport


class Known:
    """What is known of each peer. Not thread-safe."""

    def __init__(self) -> None:
        self._probed = ProbedPeers()
        self._before: dict[PeerKey, Probed] = {}  # what earlier processes had told in the end

    def __getitem__(self, key: PeerKey) -> Probed:
        return self._probed[key]

    @property
    def probed(self) -> Mapping[PeerKey, Probed]:
        """What is known, by peer; it changes with every `take`."""
        return self._probed

    def by_device(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        """What is known, by device and public key. It never changes; the same objects while nothing is told."""
        return self._probed.by_device()

    def take(
        self, echoes: Mapping[PeerKey, tuple[str, ProbeStats]], reports: Mapping[PeerKey, MtuReport | None]
    ) -> None:
        """Take what the present process tells: (target, statistics of echoes), and reports on the MTU.

        A peer with another target begins anew: its earlier statistics and report are dropped.
        """
        for key, (target, stats) in echoes.items():
            last, before = self._probed.get(key), self._before.get(key)
            if before is not None and before.target == target:
                stats = added(before.stats, stats)  # noqa: PLW2901
            mtu = last.mtu if last is not None and last.target == target else None
            self._probed[key] = Probed(target, stats, mtu)
        for key, report in reports.items():
            if key in self._probed:
                self._probed[key] = self._probed[key]._replace(mtu=report)

    def begin(self) -> None:
        """A new process begins to count: from now on its numbers are added to what is known now."""
        self._before = dict(self._probed)

    def forget(self, keys: Iterable[PeerKey]) -> None:
        """Drop what is known of peers that are not probed any more."""
        for key in keys:
            self._probed.pop(key, None)
            self._before.pop(key, None)

    def end_silences(self) -> None:
        """End all silences: while no process runs, no probe is lost or refused."""
        for key, one in self._probed.items():
            if one.stats.silent_since is not None or one.stats.refused is not None:
                self._probed[key] = one._replace(stats=one.stats._replace(silent_since=None, refused=None))

    def empty_histograms(self, bounds: int) -> None:
        """Begin all histograms at 0, because their bounds change. `bounds` is how many there are from now on."""
        empty = (0,) * (bounds + 1)
        for known in (self._probed, self._before):
            for key, one in known.items():
                known[key] = one._replace(stats=one.stats._replace(buckets=empty, rtt_sum=0.0))


def added(before: ProbeStats, since: ProbeStats) -> ProbeStats:
    """The statistics of all processes: `before` those of earlier ones, `since` those of the present one.

    What the present one has not measured yet stays as it was, but a silence ends: nobody listened in between.
    """
    alike = len(before.buckets) == len(since.buckets)  # else the bounds changed, and the histogram begins anew
    known = [least for least in (before.rtt_min, since.rtt_min) if least is not None]
    errors = dict(before.errors)
    for reason, number in since.errors:
        errors[reason] = errors.get(reason, 0) + number
    return ProbeStats(
        up=since.up,
        sent=before.sent + since.sent,
        lost=before.lost + since.lost,
        duplicates=before.duplicates + since.duplicates,
        late=before.late + since.late,
        errors=tuple(sorted(errors.items())),
        buckets=tuple(x + y for x, y in zip(before.buckets, since.buckets, strict=True)) if alike else since.buckets,
        rtt_sum=before.rtt_sum + since.rtt_sum if alike else since.rtt_sum,
        rtt_min=min(known, default=None),
        rtt_last=before.rtt_last if since.rtt_last is None else since.rtt_last,
        jitter=before.jitter if since.jitter is None else since.jitter,
        silent_since=since.silent_since,
        extra_sent=before.extra_sent + since.extra_sent,
        extra_lost=before.extra_lost + since.extra_lost,
        late_sum=before.late_sum + since.late_sum,
        refused=since.refused,
    )
