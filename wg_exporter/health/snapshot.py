"""The snapshot judgement: how peers are as far as one snapshot tells, by the table of rules.

It is for `wg-exporter show` where no exporter runs that could be asked. One look shows the age of handshakes and
whether the interface is up. Whether anything goes unanswered takes several, so what a peer is whose latest handshake is
not too old is not known: it may have been dead for three minutes. `idle` says no more than that nothing was heard
lately, which is known of a peer that nobody expects up; of one that is expected, it would say that it is not down.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.evidence import Evidence
from wg_exporter.health.place import Place
from wg_exporter.health.rules import decide
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, State
from wg_exporter.health.words import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.model import Device, Link
    from wg_exporter.names.identity import PeerMeta

_NOW = 0.0  # any value does: only differences count


def judge_snapshot(
    device: Device, link: Link | None, metas: Sequence[PeerMeta], wall: float, limits: HealthLimits
) -> tuple[PeerHealth, ...]:
    """The health of the device's peers, in its order. `wall` is when they were read, in seconds since the epoch.

    `link` None = not known, which counts as up.
    """
    place = Place()
    place.down_since = -inf if link is not None and not link.up else None
    found = []
    for peer, meta in zip(device.peers, metas, strict=True):
        seen = Evidence(place, peer, meta, _NOW, wall)
        seen.first_seen = seen.expected_since = -inf  # it may have been there, and expected, for ever
        rule, _ = decide(seen, _NOW, limits)
        if rule.state is State.UP or (rule.state is State.IDLE and meta.expected_up):
            found.append(NOT_JUDGED)
        else:
            found.append(PeerHealth(rule.state, rule.reason, evidence=in_words(seen, _NOW) if rule.reason else ""))
    return tuple(found)
