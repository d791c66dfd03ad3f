"""It leaves and is refused: an ICMP error quotes what we sent, and says who refused it and why (RFC 792, RFC 4443)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Judgement, Rule, certain, likely, possible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.causes.facts import Facts

# By (IPv6, type, code): what it says, for a person, and the cause. Those that refuse nothing are not here.
_SAID: Mapping[tuple[bool, int, int], tuple[str, Cause]] = {
    (False, 3, 0): ("network unreachable", Cause.HOST_UNREACHABLE),
    (False, 3, 1): ("host unreachable", Cause.HOST_UNREACHABLE),
    (False, 3, 2): ("protocol unreachable", Cause.PROHIBITED),
    (False, 3, 3): ("port unreachable", Cause.PORT_UNREACHABLE),
    (False, 3, 5): ("source route failed", Cause.HOST_UNREACHABLE),
    (False, 3, 6): ("network unknown", Cause.HOST_UNREACHABLE),
    (False, 3, 7): ("host unknown", Cause.HOST_UNREACHABLE),
    (False, 3, 8): ("source host isolated", Cause.HOST_UNREACHABLE),
    (False, 3, 9): ("network administratively prohibited", Cause.PROHIBITED),
    (False, 3, 10): ("host administratively prohibited", Cause.PROHIBITED),
    (False, 3, 11): ("network unreachable for this type of service", Cause.HOST_UNREACHABLE),
    (False, 3, 12): ("host unreachable for this type of service", Cause.HOST_UNREACHABLE),
    (False, 3, 13): ("communication administratively prohibited", Cause.PROHIBITED),
    (False, 3, 14): ("host precedence violation", Cause.PROHIBITED),
    (False, 3, 15): ("precedence cutoff in effect", Cause.PROHIBITED),
    (False, 11, 0): ("time to live exceeded: packets go round in circles", Cause.HOST_UNREACHABLE),
    (True, 1, 0): ("no route to destination", Cause.HOST_UNREACHABLE),
    (True, 1, 1): ("administratively prohibited", Cause.PROHIBITED),
    (True, 1, 2): ("beyond scope of source address", Cause.HOST_UNREACHABLE),
    (True, 1, 3): ("address unreachable", Cause.HOST_UNREACHABLE),
    (True, 1, 4): ("port unreachable", Cause.PORT_UNREACHABLE),
    (True, 1, 5): ("source address failed policy", Cause.PROHIBITED),
    (True, 1, 6): ("reject route to destination", Cause.PROHIBITED),
    (True, 3, 0): ("hop limit exceeded: packets go round in circles", Cause.HOST_UNREACHABLE),
}


def words(kind: int, code: int, *, ipv6: bool) -> str:
    """What an ICMP error says, for a person; empty for one that refuses nothing."""
    return _SAID.get((ipv6, kind, code), ("", None))[0]


def _refused(cause: Cause) -> Callable[[Facts], Judgement]:
    def judge(facts: Facts) -> Judgement:
        sighting = facts.sighting
        if sighting is None:
            return None
        if seen.shakes(facts):
            return Excluded("handshakes pass")
        lines, proven = [], 0
        for one in sighting.refusals:
            said, means = _SAID.get((one.ipv6, one.type, one.code), ("", None))
            if means is cause:
                by = f"{one.by} (this host itself)" if seen.own(facts, one.by) else one.by
                times = "once" if one.times == 1 else f"{one.times} times"
                lines.append(f"{by} answered {times}: {said} (ICMP{'v6' if one.ipv6 else ''} {one.type}/{one.code})")
                proven += one.proven
        if lines and (place := _elsewhere(facts)):
            return Excluded(f"it calls from {place}, so it is elsewhere now")
        if lines and (place := seen.stranger(facts)):
            return possible(*lines, apart=_MOVED.format(place))
        if not lines:
            return Excluded("no such ICMP error came") if seen.left(facts) and not sighting.missed else None
        return certain(*lines) if proven else likely(*lines)

    return judge


_MOVED = (
    "Somebody calls from {} with messages for our key, and WireGuard does not answer: has the peer moved there?"
    " `wg-exporter diagnose` has the message opened."
)


def _elsewhere(facts: Facts) -> str:
    """From where the peer calls, as opened messages say, if that is not its endpoint."""
    mine = (one.sender for one in facts.opened or () if one.key == facts.key[2] and one.sender)
    return next((place for place in mine if place != facts.endpoint), "")


RULES = (
    Rule(
        Cause.PORT_UNREACHABLE,
        "The far host answers that nothing listens on that port: WireGuard is not running there, or on another port.",
        "An ICMP error `port unreachable` that quotes our handshake message.",
        (
            "On the far side: `wg show` says whether WireGuard runs and on which port (here it is sent to {port}).",
            "If the port is another: `{entry}wg set {interface} peer {key} endpoint {address}:PORT`, and in {conf}.",
        ),
        _refused(Cause.PORT_UNREACHABLE),
    ),
    Rule(
        Cause.PROHIBITED,
        "A firewall on the way forbids it, and says so.",
        "An ICMP error `administratively prohibited` that quotes our handshake message.",
        ("Let UDP to {endpoint} pass at the router or host that says so (see the evidence).",),
        _refused(Cause.PROHIBITED),
    ),
    Rule(
        Cause.HOST_UNREACHABLE,
        "A router on the way, or this host, cannot reach the far host or its network: it is off, or its line is.",
        "An ICMP error `host unreachable` or `network unreachable` that quotes our handshake message.",
        (
            "Look at the far host and its line; `mtr {address}` shows how far packets get.",
            "If this host says so itself: `{underlay}ip neigh show` tells who on the link answers (FAILED: nobody).",
        ),
        _refused(Cause.HOST_UNREACHABLE),
    ),
)
