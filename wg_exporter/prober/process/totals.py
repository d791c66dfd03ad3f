"""Counters that go on when the process that counted starts anew. Prometheus would take a smaller number for a reset of
all of them, and what was counted before would be lost from every rate over that moment."""

from __future__ import annotations

from wg_exporter.model import Probed, ProbeStats


def continued(before: Probed, now: Probed) -> Probed:
    """What is known of a peer after a new start: `before` was known at its end, `now` is what was found since.

    A peer that got another target is another one: then `now` as it is. What isn't found again yet is as it was. Only
    a silence is not continued: nobody listened in between.
    """
    if before.target != now.target:
        return now
    mtu = before.mtu if now.mtu is None else now.mtu
    return Probed(now.target, _added(before.stats, now.stats), mtu)


def _added(a: ProbeStats, b: ProbeStats) -> ProbeStats:
    alike = len(a.buckets) == len(b.buckets)  # other bounds: the histogram begins anew
    if alike and not b.sent and not b.errors and not b.late and not b.duplicates:
        return a if a.silent_since is None else a._replace(silent_since=None)
    known = [least for least in (a.rtt_min, b.rtt_min) if least is not None]
    errors = dict(a.errors)
    for reason, number in b.errors:
        errors[reason] = errors.get(reason, 0) + number
    return ProbeStats(
        up=b.up,
        sent=a.sent + b.sent,
        lost=a.lost + b.lost,
        duplicates=a.duplicates + b.duplicates,
        late=a.late + b.late,
        errors=tuple(sorted(errors.items())),
        buckets=tuple(x + y for x, y in zip(a.buckets, b.buckets, strict=True)) if alike else b.buckets,
        rtt_sum=a.rtt_sum + b.rtt_sum if alike else b.rtt_sum,
        rtt_min=min(known, default=None),
        rtt_last=a.rtt_last if b.rtt_last is None else b.rtt_last,
        jitter=a.jitter if b.jitter is None else b.jitter,
        silent_since=b.silent_since,
    )
