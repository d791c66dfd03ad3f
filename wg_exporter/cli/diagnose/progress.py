"""What is new since the last look, in lines for whoever watches: each once, with the time since the beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.inspected import Neighbour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.causes.facts import Facts
    from wg_exporter.sighted import Sighting

_NONE: frozenset[str] = frozenset()


def lines(facts: Facts, told: frozenset[str] = _NONE) -> Iterator[str]:
    """What is known so far and was not told."""
    yield from (line for line in _all(facts) if line not in told)


def _all(facts: Facts) -> Iterator[str]:
    yield from _here(facts)
    if facts.sighting is not None:
        yield from _wire(facts, facts.sighting)
    if facts.callers is not None:
        for caller in facts.callers.callers:
            made = "our key" if caller.for_us else "another key than ours"
            yield f"{caller.sender.address}:{caller.sender.port} calls, with messages for {made}"
    for one in facts.opened or ():
        yield f"opened an initiation: it is from {one.peer or 'nobody that is a peer here'} ({one.key})"
    if facts.handshakes:
        yield "a handshake was completed"
    if facts.answered:
        yield f"{facts.target} answers"
    if facts.outer_ping is not None and facts.outer_ping.answered:
        yield f"the host {facts.outer_ping.to} answers pings outside the tunnel"
    for rule in facts.filters or ():
        yield f"a rule of this host drops packets of this tunnel: {rule.rule} ({rule.where})"
    if facts.dns_name and facts.resolved is not None:
        yield f"{facts.dns_name} resolves to {', '.join(facts.resolved[:4]) or 'nothing'}"
    if facts.verdict is not None and facts.answered:
        yield f"the verdict of the MTU probes: {facts.verdict}"


def _here(facts: Facts) -> Iterator[str]:
    if facts.provoked:
        yield f"sent an echo to {facts.target or 'an address of nobody'} into {facts.key[1]}"
    if facts.provoke_refused:
        yield f"this host refuses to send it: {facts.provoke_refused}"
    path = facts.host.to_endpoint if facts.host else None
    if path is not None and path.neighbour is Neighbour.SILENT:
        yield f"nobody on {path.interface} answers for {path.next_hop}, the next hop to the endpoint"


def _wire(facts: Facts, sighting: Sighting) -> Iterator[str]:
    there = facts.endpoint or "its endpoint"
    if sighting.initiations_sent:
        yield f"an initiation left this host for {there}"
    if sighting.initiations_sent >= seen.ENOUGH and not sighting.responses_received:
        yield "a second one left, as nothing came back"
    if sighting.responses_received:
        yield f"a response came from {there}"
    if sighting.cookies_received:
        yield f"a cookie reply came from {there}"
    if sighting.initiations_received:
        yield f"an initiation for our key came from {there}"
    if sighting.misdirected:
        yield f"a message for another key than ours came from {there}"
    for one in sighting.refusals:
        version = "v6" if one.ipv6 else ""
        who = f"{one.by} (this host itself)" if seen.own(facts, one) else one.by
        yield f"{who} refuses what we send (ICMP{version} {one.type}/{one.code})"
