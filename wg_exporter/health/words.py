"""The evidence of one peer in one line for a person: what was seen, what is unanswered, and since when."""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING

from wg_exporter.health.states import Reason, State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.health.evidence import Evidence


def in_words(seen: Evidence, now: float) -> str:
    """The evidence for the present state, in one line for a person."""
    parts = []
    if seen.place.gone_since is not None:
        parts.append(f"interface gone{_for(now - seen.place.gone_since)}")
    elif seen.place.down_since is not None:
        parts.append(f"interface down{_for(now - seen.place.down_since)}")
    elif seen.place.hung_since is not None:
        parts.append(f"neither its daemon nor any probe answers{_for(now - seen.place.hung_since)}")
    if seen.obstacle is not None and seen.reason is seen.obstacle.reason:
        parts.append(seen.obstacle.line)
    if seen.refused is not None:
        parts.append(f"probes can't be sent: {seen.refused}")
    parts.append(_heard(seen, now))
    if seen.unanswered_since is not None:
        what = [_number(seen.initiations, "handshake initiation")] if seen.initiations else []
        what += ["data"] if seen.data else []
        what += [_number(seen.probes, "probe")] if seen.probes else []
        if what:
            parts.append(f"{_listed(what)} unanswered{_for(now - seen.unanswered_since)}")
        if seen.inbound_initiations:
            parts.append(f"{_number(seen.inbound_initiations, 'initiation')} came from it")
    elif seen.silent_since is not None and seen.reason in {Reason.ONE_WAY, Reason.TARGET_SILENT}:
        parts.append(f"probes unanswered{_for(now - seen.silent_since)}")
    if seen.reason is Reason.ONE_WAY and seen.unanswered_since is None:
        parts.append("it starts handshakes again and again")
    parts += _on_the_wire(seen)
    measured = seen.quality if seen.state is not State.DOWN else None  # what was measured before is not of now
    if measured is not None and measured.lossy:
        parts.append(f"{measured.loss:.0%} of probes lost")
    if measured is not None and measured.slow and measured.rtt is not None:
        parts.append(f"round trips of {measured.rtt * 1e3:.1f} ms, usually {measured.usual * 1e3:.1f} ms")
    return ", ".join(parts)


def _on_the_wire(seen: Evidence) -> list[str]:
    """What the watcher saw that decides, or that tells whether it was this host."""
    row = seen.wire.row
    asked = seen.target_silent_since if seen.unanswered_since is None else seen.unanswered_since
    if asked is None and seen.reason is Reason.ONE_WAY:  # told by the wire alone, of one that is heard
        asked = -inf
    if row is None or seen.state is not State.DOWN or asked is None or row.began + row.seconds < asked:
        return []
    if seen.reason is Reason.NOT_SENT and seen.wire.unsent_at is not None:
        return ["nothing was seen leaving this host"]
    parts = [_number(row.initiations_sent, "initiation")] if row.initiations_sent else []
    parts += [_number(row.responses_sent, "response")] if row.responses_sent else []
    return [f"{_listed(parts)} seen leaving this host"] if parts else []


def _heard(seen: Evidence, now: float) -> str:
    """What was last heard of it, and when."""
    if seen.heard is None:
        return "never heard"
    if seen.heard == -inf:
        return "heard once, not known when"
    if seen.data_since is None or seen.shaken != seen.heard:
        return f"last heard {_span(now - seen.heard)} ago"
    data = "no data from it" if seen.heard_data is None else f"its last data {_span(now - seen.heard_data)} ago"
    return f"last handshake {_span(now - seen.heard)} ago, but {data}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _for(seconds: float) -> str:
    """Empty if it is not known for how long."""
    return f" for {_span(seconds)}" if isfinite(seconds) else ""


def _span(seconds: float) -> str:
    """Seconds in whole units, cut. A larger unit is used from two of it on."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
