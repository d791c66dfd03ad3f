"""The far side calls and gets nowhere: for another key of ours, with a key or a clock that is not taken, or one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import drifted, seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Judgement, Rule, certain, likely, possible
from wg_exporter.health.states import Reason

if TYPE_CHECKING:
    from wg_exporter.causes.facts import Facts, Opened

# One sentence for all, for several of these causes may be possible at once.
_OPENED = "`wg-exporter diagnose` opens the message, and says whose key it is and what the clock there shows."


def _old_key(facts: Facts) -> Judgement:
    sighting = facts.sighting
    if sighting is None:
        return None
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    if seen.came(facts):
        return Excluded("what comes from its endpoint is made for our public key")
    if sighting.misdirected:
        what = seen.number(sighting.misdirected, "handshake message")
        line = f"{what} came from its endpoint, made for another public key than ours (mac1)"
        return certain(line) if sighting.misdirected >= seen.ENOUGH else likely(line)
    strangers = [one for one in facts.callers.callers if not one.for_us] if facts.callers else []
    if strangers and not facts.endpoint:
        where = ", ".join(f"{one.sender.address}:{one.sender.port}" for one in strangers[:3])
        return possible(
            f"somebody calls from {where} with messages for another public key than ours",
            apart="Whether that is this peer, its own `wg show` says: it prints the key that it has of us.",
        )
    return None


def _of_endpoint(facts: Facts) -> list[Opened]:
    """The opened messages that came from the peer's endpoint; from anywhere, if it has none."""
    return [one for one in facts.opened or () if not facts.endpoint or not one.sender or one.sender == facts.endpoint]


def _ignored(facts: Facts) -> bool | None:
    """Whether WireGuard gives no answer to initiations that came from the peer's endpoint, made for our key."""
    sighting = facts.sighting
    if sighting is None or sighting.initiations_received < seen.ENOUGH or sighting.missed:
        return None
    return not sighting.responses_sent and not sighting.cookies_sent


def _unknown(facts: Facts) -> Judgement:
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    if facts.opened is not None:
        strangers = [one for one in _of_endpoint(facts) if not one.peer]
        if strangers:
            line = f"it calls with the public key {strangers[-1].key}, which no peer of {facts.key[1]} has"
            if known := drifted.described(facts, strangers[-1].key):
                return (certain if facts.endpoint else likely)(line, f"of that key: {known}", fix=(drifted.FIX,))
            fix = ((f"If that is its new key: `{{entry}}wg set {{interface}} peer {strangers[-1].key} allowed-ips ...`,"
                   " remove the old peer, and correct {conf}."),)  # fmt: skip
            return certain(line, fix=fix) if facts.endpoint else likely(line, fix=fix)
        return Excluded("the calling key is that of a peer here") if _of_endpoint(facts) else None
    if _ignored(facts):
        return possible(
            _ignored_line(facts),
            apart=_OPENED,
        )
    strangers_for_us = [one for one in facts.callers.callers if one.for_us] if facts.callers else []
    if strangers_for_us and (not facts.endpoint or seen.silent_endpoint(facts)):
        where = ", ".join(f"{one.sender.address}:{one.sender.port}" for one in strangers_for_us[:3])
        return possible(
            f"somebody calls with messages for our key from {where}, and WireGuard does not answer",
            apart=_OPENED,
        )
    return None


def _ignored_line(facts: Facts) -> str:
    number = facts.sighting.initiations_received if facts.sighting else 0
    return f"{seen.number(number, 'initiation')} for our key came from its endpoint, and WireGuard answered none"


def _clock(facts: Facts) -> Judgement:
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    mine = [one for one in facts.opened or () if one.key == facts.key[2]]
    if not mine:
        if facts.opened is None and _ignored(facts):
            return possible(_ignored_line(facts), apart=_OPENED)
        return None
    last = mine[-1]
    if facts.sighting and facts.sighting.taken_at:
        return Excluded("WireGuard takes its initiations")
    behind = last.at - last.stamp
    newest = max(one.stamp for one in mine)
    lines = []
    if newest - last.stamp >= 1.0:
        lines.append(f"its clock went back by {seen.span(newest - last.stamp)} while we watched")
    if behind > seen.STALE_STAMP_SECONDS:
        lines.append(f"the stamp of its initiation is {seen.span(behind)} behind our clock")
    if lines and facts.shaken_seconds is not None and behind > facts.shaken_seconds:
        lines.append(f"its last handshake here was {seen.span(facts.shaken_seconds)} ago: the stamp is older than that")
    if not lines:
        return Excluded("the stamp of its initiation is that of our clock")
    lines.append("WireGuard takes no initiation that is older than the last one that it took")
    return likely(*lines, apart="The stamp that WireGuard took last can't be read.")


def _lost(facts: Facts) -> Judgement:
    if facts.handshakes or (seen.shakes(facts) and facts.reason is not Reason.ONE_WAY):
        return Excluded("handshakes pass")
    sighting = facts.sighting
    if sighting is None:
        calls = facts.inbound_initiations or 0
        if calls < seen.ENOUGH:
            return None
        line = f"{seen.number(calls, 'initiation')} came from it and no session followed, by WireGuard's counters"
        return likely(line, apart=_PRESHARED_TOO)
    answers = len(sighting.taken_at)
    if answers < seen.ENOUGH:
        return Excluded("it does not call") if seen.watched(facts) and not seen.calls(facts) else None
    if sighting.answered:
        return Excluded("it answers our initiations, so what we send arrives")
    line = f"it called, and {seen.number(answers, 'answer')} of ours left for {facts.endpoint}; it called again"
    if sighting.initiations_sent >= seen.ENOUGH:
        what = seen.number(sighting.initiations_sent, "initiation")
        return certain(line, f"{what} of ours were not answered either: nothing that we send arrives")
    return likely(line, apart=_PRESHARED_TOO)


_PRESHARED_TOO = (
    "Preshared keys that differ look the same, as long as this host sends no initiation of its own: compare them, or"
    " run `wg-exporter diagnose`, which makes it send one."
)

RULES = (
    Rule(
        Cause.OLD_KEY,
        "The far side has another public key of ours, an old one perhaps: its messages are made for that.",
        "Messages from its endpoint, whose mac1 is not made with our public key.",
        (
            (
                "`{entry}wg show {interface} public-key` prints our key: set it on the far side, in the section of this"
                " host."
            ),
        ),
        _old_key,
    ),
    Rule(
        Cause.UNKNOWN_CALLER,
        "The far side calls with a key that no peer here has: its key was made anew, or it is not set up here.",
        "Initiations made for our key come and WireGuard does not answer; opened with the private key by `diagnose`,"
        " they show the caller's public key.",
        (
            "On the far side `wg show` prints its public key: compare it with {key}, which is configured here.",
            "Correct the peer here, and in {conf}.",
        ),
        _unknown,
    ),
    Rule(
        Cause.CLOCK_BACK,
        "The far side's clock went back: WireGuard takes no initiation with an older stamp than the last.",
        "Opened by `diagnose`, its initiations are of this peer and their stamps far behind our clock, or older than"
        " others.",
        (
            (
                "Set the clock on the far side (`timedatectl` there; a host without a clock chip needs NTP before the"
                " tunnel)."
            ),
            (
                "At once, but until it restarts again: `{entry}wg set {interface} peer {key} remove`, then load {conf}"
                " again; this forgets the last stamp."
            ),
        ),
        _clock,
    ),
    Rule(
        Cause.RESPONSES_LOST,
        "One way: the far side is heard, and nothing that we send arrives there.",
        "WireGuard takes its initiations and answers, the answers were seen leaving, and it calls again and again.",
        (
            (
                "Look for a filter on the way from here to {endpoint}, and in the input chain of the far side; also for"
                " a line that fails one way."
            ),
            "Do answers leave by the interface on which its calls arrive? `{underlay}ip route get {address}`.",
        ),
        _lost,
    ),
)
