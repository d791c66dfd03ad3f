"""It leaves and is refused: an ICMP error quotes what we sent, and says who refused it and why (RFC 792, RFC 4443)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Holds, Judgement, Rule, certain, likely, possible
from wg_exporter.inspected import Neighbour

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.causes.facts import Facts
    from wg_exporter.inspected import Path

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
                by = f"{one.by} (this host itself)" if seen.own(facts, one) else one.by
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


_FAR = ("Look at the far host and its line; `mtr {address}` shows how far packets get.",)
_LINE = "`{underlay}ip link show dev {device}`: is the line up (NO-CARRIER: it is not)? Then VLAN and switch port."
_NEIGHBOUR = "`{underlay}ip neigh show to {next_hop} dev {device}` (FAILED, INCOMPLETE: it does not answer):"
_GATEWAY = (f"{_NEIGHBOUR} is that gateway on, is it on this link, and is it the right one?", _LINE)
_ON_LINK = (f"{_NEIGHBOUR} is the far host on, is it on this link, and is that still its address?", _LINE)

_by_icmp = _refused(Cause.HOST_UNREACHABLE)


def _unreachable(facts: Facts) -> Judgement:
    """By a router, which says so; or by this host, which finds nobody on the link."""
    said = _by_icmp(facts)
    if seen.next_hop_silent(facts) and not seen.shakes(facts):
        path, table = facts.host.to_endpoint if facts.host else None, seen.next_hop(facts)
        lines = (*(said.evidence if isinstance(said, Holds) else ()), _nobody_answers(path, table))
        fix = _GATEWAY if path and path.gateway else _ON_LINK
        sure = seen.no_neighbour(facts) and table in {Neighbour.SILENT, Neighbour.ASKED}
        return certain(*lines, fix=fix) if sure else likely(*lines, fix=fix)
    if not isinstance(said, Holds):
        return said
    others = [one for one in facts.sighting.refusals if not seen.own(facts, one)] if facts.sighting else []
    return said._replace(fix=_FAR) if others else None  # else it is a filter of this host that rejects


def _nobody_answers(path: Path | None, table: Neighbour | None) -> str:
    if path is None:
        return "this host says so where nobody on the link answers for the next hop (ARP, NDP)"
    whom = f"the gateway {path.gateway} to {path.to}" if path.gateway else f"{path.to} itself, which is on that link"
    asked = "NDP" if ":" in path.next_hop else "ARP"
    state = {Neighbour.SILENT: "; `ip neigh`: FAILED", Neighbour.ASKED: "; `ip neigh`: INCOMPLETE"}
    return f"nobody on {path.interface} answers for {whom} ({asked}{state.get(table, '') if table else ''})"


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
        "A router on the way, or this host itself, cannot get packets any farther: the far host, a line or a gateway is"
        " off, or a route is missing.",
        "An ICMP error `host unreachable` or `network unreachable` that quotes our handshake message; of this host also"
        " its table of neighbours (`ip neigh`): nobody on the link answers for the next hop.",
        (
            *_FAR,
            (
                "If this host says so itself, the next hop does not answer, which is the gateway or the far host:"
                " `{underlay}ip neigh show to {next_hop} dev {device}` and `{underlay}ip link show dev {device}` tell"
                " whether that is off, or the line."
            ),
        ),
        _unreachable,
    ),
)
