"""It leaves and nothing comes back: the far end is elsewhere, off, behind a filter, or does not know us."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Holds, Judgement, Rule, likely, possible

if TYPE_CHECKING:
    from wg_exporter.causes.facts import Facts

# A NAT forgets a UDP flow after 30 s to some minutes (RFC 4787, REQ-5): before that, silence has other causes.
FORGOTTEN_SECONDS = 30.0

_APART = (
    "What tells them apart is on the far side: is it running, does `wg show` there list our public key, and does"
    " `tcpdump udp port {port}` there see our packets?"
)


def _dns(facts: Facts) -> Judgement:
    if not facts.dns_name or facts.resolved is None or not facts.endpoint:
        return None
    address, _ = seen.split(facts.endpoint)
    if address in facts.resolved:
        return Excluded(f"{facts.dns_name} still resolves to {address}")
    if seen.shakes(facts) is not False or seen.came(facts):
        return None
    if not facts.resolved:
        return None
    return likely(
        f"{facts.dns_name} resolves to {', '.join(facts.resolved[:4])} now, and the endpoint in use is {address}",
        f"nothing comes back from {address}",
    )


def _nat(facts: Facts) -> Judgement:
    if seen.came(facts) or seen.shakes(facts):
        return Excluded("messages come from its endpoint")
    if facts.conf_endpoint:
        return Excluded(f"the far side has a fixed endpoint ({facts.conf_endpoint}), so it is asked there again")
    heard = facts.heard_seconds
    known = facts.conf_endpoint is not None and facts.endpoint and heard is not None and seen.left(facts) != 0
    if not known or heard is None or not isfinite(heard) or heard < FORGOTTEN_SECONDS or not _sent(facts):
        return None
    if seen.shakes(facts) is not False:
        return None
    return likely(
        f"its endpoint {facts.endpoint} is where it last called from, {seen.span(heard)} ago; no file names one",
        "what we send there is lost, and it has not called since",
        apart="If it is behind no NAT, or keeps its mapping alive (PersistentKeepalive), it is off: its next packet"
        " decides.",
    )


def _forgotten_soon(facts: Facts) -> bool:
    """Whether it is too early to tell a NAT that forgot from all else: no file names an endpoint, and it was heard."""
    heard = facts.heard_seconds
    return facts.conf_endpoint == "" and heard is not None and heard < FORGOTTEN_SECONDS


def _sent(facts: Facts) -> int:
    """How many attempts went out without an answer: seen on the wire or, where nobody watched, by the counters."""
    left = seen.left(facts)
    return (facts.initiations or 0) if left is None else left


def _silent(facts: Facts) -> Judgement:
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    sighting = facts.sighting
    if seen.came(facts) or (sighting and sighting.misdirected):
        return Excluded("messages come from its endpoint")
    if sighting and any(one.proven for one in sighting.refusals):
        return Excluded("what we send is refused, not lost")
    if seen.next_hop_silent(facts):
        return Excluded("nobody on the link answers for the next hop, so nothing leaves")
    left = seen.left(facts)
    if not facts.endpoint or not _sent(facts):
        return None
    lines = [_where(facts, left), *_around(facts)]
    proved = left and sighting and seen.watched(facts) and not seen.stranger(facts) and not _forgotten_soon(facts)
    confidence = likely if proved else possible
    return Holds(confidence(*lines, apart="").confidence, tuple(lines), (), _APART)


def _where(facts: Facts, left: int | None) -> str:
    if left is None:
        what = seen.number(facts.initiations or 0, "handshake initiation")
        return f"{what} to {facts.endpoint} unanswered, by WireGuard's counters; nobody watched the wire"
    seconds = facts.sighting.seconds if facts.sighting else 0.0
    what = seen.number(left, "handshake message")
    return f"{what} left for {facts.endpoint} within {seconds:.0f} s, and nothing came back"


def _around(facts: Facts) -> list[str]:
    """What is known of the far host beside its silence."""
    ping, lines = facts.outer_ping, []
    if ping is not None and ping.answered:
        lines.append(
            f"the host {ping.to} answers pings: it is on, and its WireGuard is off, behind a filter, on another port,"
            " or does not have our public key"
        )
    elif ping is not None and ping.sent and not ping.refused:
        lines.append(f"the host {ping.to} does not answer pings either")
    if facts.others_received:
        lines.append("other peers of the interface are heard, so this host and its line work")
    if facts.conf_endpoint == "" and facts.endpoint:
        lines.append("no file names its endpoint: it is the last address that it called from")
    return lines


RULES = (
    Rule(
        Cause.DNS_MOVED,
        "The host name of the endpoint resolves to another address than the one in use: WireGuard looks it up only"
        " once, when the interface is set up.",
        "The name from the file is looked up; the endpoint in use is not among its addresses, and nothing comes back.",
        (
            "`{entry}wg set {interface} peer {key} endpoint {name}:{port}` looks the name up again.",
            "So that it does by itself: `dns: {{reresolve: true}}` in the configuration.",
        ),
        _dns,
    ),
)

LAST_RULES = (
    Rule(
        Cause.NAT_FORGOT,
        "A NAT between us has forgotten the far side, which sends no keepalives: only the far side can open it again.",
        "Nothing comes back from the address from which it last called, no file names an endpoint, and it does not"
        " call.",
        ("On the far side: `PersistentKeepalive = 25` in the section of this host.",),
        _nat,
    ),
    Rule(
        Cause.SILENT,
        "What we send leaves this host, and nothing comes back: the far end is off, a filter on the way or there drops"
        " it, the endpoint is wrong, or the far side does not have our public key (WireGuard answers strangers"
        " nothing).",
        "Handshake messages were seen leaving within some seconds, and neither an answer nor an ICMP error came.",
        (
            (
                "On the far side: is it running, does `wg show` list our public key, is its UDP port the {port} of the"
                " endpoint, and does a firewall let it in?"
            ),
            "`{entry}wg show {interface} public-key` prints the key that the far side must have.",
        ),
        _silent,
    ),
)
