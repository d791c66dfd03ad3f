"""Something comes back and no session comes of it: it is dropped between the wire and WireGuard, or not accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Judgement, Rule, certain, likely, literal, possible

if TYPE_CHECKING:
    from wg_exporter.causes.facts import Facts

_STRICT, _LOOSE = 1, 2


def _arrived(facts: Facts) -> int:
    """How many messages made for our key arrived at this host's interfaces, from the peer's endpoint."""
    return seen.came(facts) or 0


def _reached(facts: Facts) -> bool | None:
    """Whether what arrived came through all filters to WireGuard's socket."""
    sighting = facts.sighting
    if sighting is None or not _arrived(facts):
        return None
    if sighting.taken_at or facts.inbound_initiations:  # WireGuard answered, or counted
        return True
    if sighting.answered and sighting.initiations_received >= seen.ENOUGH and not sighting.missed:
        return False  # it has our key and its own, so that WireGuard would have answered
    datagrams, between = seen.grew(facts, "udp_received"), seen.came_between(facts)
    if datagrams is None or between is None:
        return None
    # Others may have sent these. What is on its way at a look is in one of the two counts alone.
    return False if between - datagrams - seen.came_outside(facts) >= seen.ENOUGH else None


def _input(facts: Facts) -> Judgement:
    arrived = _arrived(facts)
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    if not arrived:
        return None
    rules = seen.filters(facts, "input")
    if rules:
        lines = [f"a rule of this host drops what comes for it: {rule.rule} ({rule.where})" for rule in rules]
        lines.insert(0, f"{seen.number(arrived, 'message')} for WireGuard arrived, and no session came of it")
        fix = tuple(f"`{literal(rule.remove)}`" for rule in rules if rule.remove)
        grew = any(rule.grew for rule in rules)
        return certain(*lines, fix=fix) if grew or _reached(facts) is False else likely(*lines, fix=fix)
    reached = _reached(facts)
    if reached:
        return Excluded("WireGuard takes messages of it")
    if seen.grew(facts, "outer_rp_drops"):
        return None  # that is why
    if reached is None:
        answered = facts.sighting.answered if facts.sighting else 0
        if answered < seen.ENOUGH or seen.unfiltered(facts, "input") or _accounted(facts):
            return None
        return possible(_responses(answered), apart=_FILTER_OR_KEY)
    not_dropped = ["rp_filter dropped nothing meanwhile"] if seen.grew(facts, "outer_rp_drops") == 0 else []
    datagrams, between = seen.grew(facts, "udp_received"), seen.came_between(facts) or 0
    if datagrams is None or between - datagrams < seen.ENOUGH:
        line = f"{seen.number(arrived, 'message')} for WireGuard arrived here, and it answered none of its calls"
        return likely(line, *not_dropped)
    return likely(
        f"{seen.number(between, 'message')} for WireGuard arrived at this host, while its UDP sockets got"
        f" {datagrams or 'none'} in all",
        *not_dropped,
    )


_FILTER_OR_KEY = (
    "A filter here between the wire and WireGuard and preshared keys that differ look the same: `wg-exporter diagnose`"
    " reads the firewall."
)


def _responses(answered: int) -> str:
    what = seen.number(answered, "response")
    return f"{what} to our own initiations arrived, made for our key, and no session came of it"


def _accounted(facts: Facts) -> bool:
    """Whether the UDP sockets got about as many datagrams as messages arrived, so that these must be among them.

    As in `_reached`, one may be in the watcher's count alone. More may have come outside of the looks, which takes them
    from those that are missing; that they were taken it does not prove.
    """
    datagrams, between = seen.grew(facts, "udp_received"), seen.came_between(facts)
    if datagrams is None or between is None or min(datagrams, between) < seen.ENOUGH:
        return False
    return between - datagrams < seen.ENOUGH and datagrams <= 2 * between + 2


def _reverse(facts: Facts) -> Judgement:
    drops, between = seen.grew(facts, "outer_rp_drops"), seen.came_between(facts)
    mode = facts.host.outer_rp_filter if facts.host else None
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    if mode == 0:
        return Excluded("rp_filter is off")
    if drops == 0 and between:
        return Excluded("rp_filter dropped nothing while messages arrived")
    if not drops or not between or _reached(facts):
        return None
    lines = (
        (
            f"{seen.number(between, 'message')} for WireGuard arrived, and rp_filter dropped"
            f" {seen.number(drops, 'packet')} meanwhile (IPReversePathFilter)"
        ),
        *([f"rp_filter is {'strict' if mode == _STRICT else 'loose'} where they arrive"] if mode else []),
    )
    return certain(*lines) if drops >= between and mode == _STRICT else likely(*lines)


def _load(facts: Facts) -> Judgement:
    sighting = facts.sighting
    if sighting is None:
        return None
    if not sighting.cookies_received:
        return Excluded("no cookie reply came") if seen.watched(facts) and not sighting.missed else None
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    line = f"{seen.number(sighting.cookies_received, 'cookie reply', 'cookie replies')} to our initiations came"
    return certain(line) if sighting.cookies_received >= seen.ENOUGH else likely(line)


def _preshared(facts: Facts) -> Judgement:
    sighting = facts.sighting
    if sighting is None:
        return None
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    if not sighting.answered:
        return None
    line = _responses(sighting.answered)
    if sighting.answered < seen.ENOUGH:
        return possible(line, apart="More responses without a session decide.")
    if _reached(facts) is False:
        return Excluded("what arrives does not reach WireGuard")
    not_dropped = seen.grew(facts, "outer_rp_drops") == 0 or bool(facts.host and facts.host.outer_rp_filter == 0)
    more = ["rp_filter drops nothing"] if not_dropped else []
    if _reached(facts):
        return certain(line, "WireGuard takes its own initiations, so nothing is dropped on this host", *more)
    if seen.unfiltered(facts, "input"):
        line_2 = "no nftables rule here drops them"
        return certain(line, line_2, *more) if not_dropped else likely(line, line_2, apart=_FILTER_OR_KEY)
    if _accounted(facts):
        return likely(line, "the UDP sockets of this host got as many datagrams", *more, apart=_FILTER_OR_KEY)
    return possible(line, *more, apart=_FILTER_OR_KEY)


def _roamed(facts: Facts) -> Judgement:
    if seen.shakes(facts) or not facts.endpoint:
        return None
    mine = [one for one in facts.opened or () if one.peer and one.key == facts.key[2] and one.sender]
    elsewhere = [one for one in mine if one.sender != facts.endpoint]
    strangers = [one for one in facts.callers.callers if one.for_us] if facts.callers else []
    if elsewhere:
        line = f"it calls from {elsewhere[-1].sender}, and its endpoint here is still {facts.endpoint}"
        stale = elsewhere[-1].at - elsewhere[-1].stamp > seen.STALE_STAMP_SECONDS
        if stale:
            return None
        rules = seen.filters(facts, "input")
        lines = [f"a rule of this host drops what comes for it: {rule.rule} ({rule.where})" for rule in rules]
        fix = tuple(f"`{literal(rule.remove)}`" for rule in rules if rule.remove)
        return certain(line, *lines, fix=fix) if rules else likely(line, "it is not taken here")
    if facts.opened is not None or not strangers or seen.came(facts):
        return None
    if not seen.silent_endpoint(facts):
        return None
    where = ", ".join(f"{one.sender.address}:{one.sender.port}" for one in strangers[:3])
    return possible(
        f"nothing comes from {facts.endpoint}, while somebody calls with messages for our key from {where},"
        " and WireGuard does not answer",
        apart="`wg-exporter diagnose` opens the message, and says who calls.",
    )


RULES = (
    Rule(
        Cause.OUTER_REVERSE_PATH,
        "The reverse path filter of this host (rp_filter) drops what comes back, as its own route to the far side leads"
        " elsewhere.",
        "Messages were seen arriving, no session came of them, and IPReversePathFilter in /proc/net/netstat grew.",
        (
            (
                "`{underlay}ip route get {address}` says where this host would send: with strict rp_filter answers must"
                " come from there. Correct the route."
            ),
            (
                "Or loosen it: `{underlay}sysctl net.ipv4.conf.{device}.rp_filter=2`; for a full tunnel by fwmark"
                " `{underlay}sysctl net.ipv4.conf.all.src_valid_mark=1`."
            ),
        ),
        _reverse,
    ),
    Rule(
        Cause.ROAMED,
        "The peer calls from another address than its endpoint, and a filter of this host drops that: WireGuard would"
        " follow it.",
        "Messages for our key arrive from an address that is no peer's endpoint; opened by `diagnose`, they are this"
        " peer's.",
        (
            (
                "Let UDP to port {listen_port} in from anywhere, as peers may roam: `{underlay}nft list ruleset` shows"
                " the input rules."
            ),
        ),
        _roamed,
    ),
    Rule(
        Cause.PRESHARED_KEY,
        "The preshared keys of both sides differ: everything else of the handshake is right.",
        "Responses to our own initiations arrive, made for our public key, and no session comes of them.",
        (
            (
                "Set the same preshared key on both sides: `{entry}wg set {interface} peer {key} preshared-key"
                " KEYFILE`, and in {conf}; or none on both."
            ),
        ),
        _preshared,
    ),
    Rule(
        Cause.INPUT_FILTERED,
        "A filter of this host drops what comes for WireGuard.",
        "Messages were seen arriving, and the counter of UDP datagrams (/proc/net/snmp) shows that they did not reach a"
        " socket; `diagnose` names the rule.",
        (
            (
                "`{underlay}nft list ruleset` and, where iptables is in use, `{underlay}iptables-save` and"
                " `{underlay}iptables-legacy-save` show the input rules: let UDP to port {listen_port} in."
            ),
        ),
        _input,
    ),
    Rule(
        Cause.UNDER_LOAD,
        "The far side is under load: it answers handshakes with cookies, to tell real callers from forged ones.",
        "Cookie replies to our own initiations came, and no session.",
        (
            "Look at the far side: its load, and who floods its UDP port with handshakes.",
            "Several devices behind one address share its limit of handshakes.",
        ),
        _load,
    ),
)
