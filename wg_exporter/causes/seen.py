"""What the facts say about one question each. True, False or a number; None = not known.

The questions are those that an engineer asks in this order: does anything leave, does anything come back, does a
session come of it, does data pass?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.health.states import Reason, State
from wg_exporter.inspected import Neighbour
from wg_exporter.wireguard import INITIATION, RESPONSE

if TYPE_CHECKING:
    from wg_exporter.causes.facts import Facts, Filter
    from wg_exporter.sighted import Refusal

# WireGuard tries a handshake again every 5 to 5.33 s (REKEY_TIMEOUT and its jitter): within this time one is sent.
WATCHED_SECONDS = 6.0

# Two tries take this long, with a moment more.
RETRIED_SECONDS = 11.0

# REJECT_AFTER_TIME: a session older than this sends and takes nothing.
SESSION_SECONDS = 180.0

# A peer with nothing to send acknowledges data within 10 s (KEEPALIVE_TIMEOUT): later an answer is overdue.
OVERDUE_SECONDS = 15.0

# An initiation is on its way for less than this, and clocks that are kept by NTP differ by less.
STALE_STAMP_SECONDS = 30.0

# WireGuard's bytes for an echo of ours inside, or its answer: 48 of IPv4, and 32 around them (protocol, 5.4.6).
ECHO_BYTES = 80

# More than acknowledgements: bytes from the peer within the window that only real data makes.
REAL_DATA = 2048

# Echoes that are compared with packets: fewer may be equal by chance. Beside them some probes of the MTU are sent.
ENOUGH_ECHOES, MORE_PROBES = 10, 8

# One message may be lost, or forged; two that say the same are believed.
ENOUGH = 2

# What this host says to itself where nobody on the link answers for the next hop: (IPv6, ICMP type, code). Sources:
# arp_error_report (net/ipv4/arp.c) and ipv4_link_failure, ndisc_error_report (net/ipv6/ndisc.c) and ip6_link_failure.
_NO_NEIGHBOUR = frozenset({(False, 3, 1), (True, 1, 3)})

_OF_HANDSHAKES = frozenset({Reason.HANDSHAKE_UNANSWERED, Reason.NEVER_HEARD})


def split(endpoint: str) -> tuple[str, str]:
    """The address and the port of "address:port"; an IPv6 address loses its brackets."""
    address, _, port = endpoint.rpartition(":")
    return address.strip("[]"), port


def watched(facts: Facts) -> bool:
    """Whether the watcher was open for long enough to see an attempt."""
    sighting = facts.sighting
    return sighting is not None and sighting.seconds >= WATCHED_SECONDS


def tried(facts: Facts) -> bool | None:
    """Whether this host has had a reason to send: it counts initiations, or inner packets were sent."""
    if facts.initiations or facts.provoked or (facts.echo is not None and facts.echo.sent):
        return True
    return None if facts.initiations is None and facts.provoked is None and facts.echo is None else False


def looked_out(facts: Facts) -> float:
    """For how many seconds what leaves was looked at without a break: on a busy host that is done in turns."""
    sighting = facts.sighting
    if sighting is None or sighting.missed:
        return 0.0
    begin, end = max(sighting.began, sighting.out_from), min(sighting.began + sighting.seconds, sighting.out_to)
    return max(end - begin, 0.0)


def left(facts: Facts) -> int | None:
    """How many handshake messages left for the endpoint, seen on the wire; 0 only after a long enough look."""
    sighting = facts.sighting
    if sighting is None:
        return None
    number = sighting.initiations_sent + sighting.responses_sent + sighting.cookies_sent
    return number or (0 if looked_out(facts) >= WATCHED_SECONDS else None)


def came(facts: Facts) -> int | None:
    """How many handshake messages made for our key came from the endpoint, seen on the wire."""
    sighting = facts.sighting
    if sighting is None:
        return None
    number = sighting.initiations_received + sighting.responses_received + sighting.cookies_received
    return number or (0 if watched(facts) and not sighting.missed else None)


def came_between(facts: Facts) -> int | None:
    """How many messages came from the endpoint between the two looks at this host's counters, made for our key."""
    sighting, before = facts.seen_then or facts.sighting, facts.before
    if sighting is None or before is None:
        return None
    number = came(facts._replace(sighting=sighting)) or 0
    if facts.seen_before is not None and facts.seen_before.began == sighting.began:
        return max(number - (came(facts._replace(sighting=facts.seen_before)) or 0), 0)
    return number if sighting.began >= before.at else None


def came_outside(facts: Facts) -> float:
    """How many of these may have come outside of the two looks: on a busy host what the watcher saw was read some time
    before the first look at the host, or after the second.
    """
    sighting, before, host = facts.seen_then or facts.sighting, facts.before, facts.host
    if sighting is None or before is None or host is None or sighting.seconds <= 0:
        return 0.0
    late = sighting.began + sighting.seconds - host.at
    then = facts.seen_before
    early = before.at - then.began - then.seconds if then is not None and then.began == sighting.began else 0.0
    pace = (came(facts._replace(sighting=sighting)) or 0) / sighting.seconds
    return pace * (max(late, 0.0) + max(early, 0.0))


def calls(facts: Facts) -> bool:
    """Whether the peer calls: its initiations came, by the wire or by the counters."""
    seen = facts.sighting.initiations_received if facts.sighting else 0
    return bool(seen or facts.inbound_initiations)


def own(facts: Facts, one: Refusal) -> bool:
    """Whether it was this host itself that refused: from one of its addresses."""
    return one.own or bool(facts.host and facts.host.to_endpoint and facts.host.to_endpoint.source == one.by)


def no_neighbour(facts: Facts) -> bool:
    """Whether this host says itself what it says where nobody on the link answers for the next hop. A filter that
    rejects can say the same.
    """
    refusals = facts.sighting.refusals if facts.sighting else ()
    return any(own(facts, one) and (one.ipv6, one.type, one.code) in _NO_NEIGHBOUR for one in refusals)


def next_hop(facts: Facts) -> Neighbour | None:
    """What the kernel knew at the last look of the next hop to the endpoint."""
    return facts.host.to_endpoint.neighbour if facts.host and facts.host.to_endpoint else None


def next_hop_silent(facts: Facts) -> bool | None:
    """Whether nobody on the link answers for the next hop to the endpoint (ARP, NDP), so that nothing leaves."""
    now = next_hop(facts)
    if now is Neighbour.SILENT:
        return True
    before = facts.before.to_endpoint.neighbour if facts.before and facts.before.to_endpoint else None
    if no_neighbour(facts):  # the table is right where it says both times that somebody is there
        return now is not Neighbour.KNOWN or before is not Neighbour.KNOWN
    return False if now is Neighbour.KNOWN else None


def shakes(facts: Facts) -> bool | None:
    """Whether handshakes come to a session."""
    if facts.session is not None:
        return facts.session
    if facts.handshakes:
        return True
    sighting = facts.sighting
    stuck = (facts.initiations or 0) >= ENOUGH or (facts.inbound_initiations or 0) >= ENOUGH
    if stuck or facts.reason in _OF_HANDSHAKES:
        return False
    if sighting is not None and facts.handshakes == 0:
        both = max(sighting.initiations_sent, sighting.initiations_received, sighting.misdirected)
        if both >= ENOUGH:
            return False
    # The session of a peer that fell silent lives on for minutes: that says nothing of a handshake now.
    if facts.shaken_seconds is not None and facts.shaken_seconds < SESSION_SECONDS and facts.state is not State.DOWN:
        return True
    return False if facts.reason is Reason.STALE_HANDSHAKE else None


def data_came(facts: Facts) -> bool | None:
    """Whether more came from the peer than handshake messages, within `seconds`: a keepalive at least."""
    if facts.answered or (facts.echo is not None and facts.echo.answered and facts.state is not State.DOWN):
        return True
    if facts.data_seconds is not None:
        return facts.data_seconds < max(facts.seconds or 0.0, OVERDUE_SECONDS)
    if facts.received_bytes is None or facts.opaque:
        return None
    if not facts.received_bytes:
        return False
    sighting = facts.sighting
    if sighting is None:
        return None
    shaking = sighting.initiations_received * INITIATION + sighting.responses_received * RESPONSE
    return facts.received_bytes > shaking


def answered(facts: Facts) -> bool:
    """Whether what was sent inside the tunnel was answered, other than by WireGuard itself."""
    return bool(facts.answered) or (facts.answered is None and facts.echo is not None and facts.echo.answered > 0)


def silent_endpoint(facts: Facts) -> bool:
    """Whether what leaves for the endpoint comes to nothing, by the wire: no answer, no refusal."""
    sighting = facts.sighting
    return sighting is not None and came(facts) == 0 and not sighting.misdirected and not sighting.refusals


def echoes_lost(facts: Facts) -> bool | None:
    """Whether echoes to the target were sent and none came back."""
    if facts.answered:
        return False
    if facts.echo is None or not facts.echo.sent:
        return None if facts.answered is None else True
    return facts.echo.answered == 0


def data_of_users(facts: Facts) -> bool:
    """Whether more comes from the peer than answers to probes, which may be dropped on this host, would be."""
    if facts.left_packets is not None and facts.echoes_sent is not None and not facts.others_received:
        return facts.left_packets > 2 * facts.echoes_sent + MORE_PROBES
    return (facts.received_bytes or 0) >= REAL_DATA + 2 * ECHO_BYTES * (facts.echoes_sent or 0)


def answers_dropped(facts: Facts) -> int | None:
    """How many answers came out of the interface and did not reach who sent the echoes: as many packets as echoes were
    sent, which neither users nor keepalives are likely to give. 0 = not so; None = not known. A kernel device counts
    handshake messages too (drivers/net/wireguard/receive.c, update_rx_stats): many where none comes to a session.
    """
    sent, left = facts.echoes_sent, facts.left_packets
    if shakes(facts) is False:
        return None
    if not echoes_lost(facts) or sent is None or left is None or sent < ENOUGH_ECHOES or facts.others_received:
        return None
    many = (facts.received_bytes or 0) >= left * ECHO_BYTES * 0.9
    return left if many and sent * 0.9 <= left <= sent * 1.15 + MORE_PROBES else 0


def stranger(facts: Facts) -> str:
    """From where somebody calls with messages for our key whom WireGuard does not answer, if that may be this peer: it
    is the only one of its device, and nobody has opened the message. Empty if nobody does.
    """
    if facts.opened is not None or facts.others != 0 or facts.callers is None:
        return ""
    sender = next((one.sender for one in facts.callers.callers if one.for_us), None)
    return f"{sender.address}:{sender.port}" if sender else ""


def filters(facts: Facts, *hooks: str, data_only: bool = False) -> tuple[Filter, ...]:
    """The rules of the firewall at these hooks that drop packets of the tunnel: those for data, or all others."""
    return tuple(one for one in facts.filters or () if one.hook in hooks and one.data_only is data_only)


def unfiltered(facts: Facts, *hooks: str) -> bool | None:
    """Whether no rule of nftables drops packets of the tunnel at these hooks, and there are no others that may. None:
    rules were not read, or not all of them.
    """
    if filters(facts, *hooks):
        return False
    return None if facts.filters is None or facts.unread_filters else True


def grew(facts: Facts, counter: str) -> int | None:
    """By how much a counter of the host grew from the first look at it to the second."""
    if facts.host is None or facts.before is None:
        return None
    now, then = getattr(facts.host, counter), getattr(facts.before, counter)
    return None if now is None or then is None or now < then else now - then


def span(seconds: float) -> str:
    """Seconds in whole units, cut. A larger unit is used from two of it on."""
    for length, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def number(count: int, noun: str, nouns: str = "") -> str:
    """A number of things: `1 packet`, `2 packets`."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"
