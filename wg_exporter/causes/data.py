"""The session is fine and the data is not: filters, allowed IPs, routes, rp_filter, what is behind the peer, loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Holds, Judgement, Rule, certain, likely, literal, possible
from wg_exporter.health.states import Reason, State
from wg_exporter.inspected import PathKind
from wg_exporter.probed import Verdict

if TYPE_CHECKING:
    from wg_exporter.causes.facts import Facts

# Loss at which it is named, where health has not judged it: `health.loss`, as it is by default.
LOSSY = 0.05

# A peer that hears nothing from here calls 15 s after it sent data, and then every 5 s, or 15 s where handshakes pass.
FIRST_CALL_SECONDS, SECOND_CALL_SECONDS = 14.0, 21.0
CALLS_SECONDS = 18.0

_MTU_FAULTS = {
    Verdict.BLACKHOLE: "full-size packets vanish without a word",
    Verdict.INTERFACE_ABOVE_ROUTE: "this host refuses packets as large as the interface's MTU",
    Verdict.INNER_PATH_SMALLER: "a hop behind the peer takes no full-size packets",
    Verdict.FRAGMENTED_LOCAL: "this host sends full packets in fragments",
    Verdict.FRAGMENTED_PATH: "full packets are fragmented on the way",
}
_SILENT = frozenset({Reason.TARGET_SILENT, Reason.DATA_UNANSWERED, Reason.ONE_WAY})


def mtu_fault(facts: Facts) -> bool:
    """Whether probing found that full-size packets do not pass as they should."""
    return facts.verdict in _MTU_FAULTS


def heavy_loss(facts: Facts) -> bool:
    """Whether a part of the probes is lost, and not all."""
    lossy = facts.reason is Reason.LOSSY or (facts.loss is not None and LOSSY <= facts.loss < 1.0)
    return lossy and (facts.echo is None or facts.echo.answered > 0)


def _filtered(facts: Facts) -> Judgement:
    rules = seen.filters(facts, "output", "input", data_only=True)
    if seen.answered(facts):
        return Excluded("data passes")
    if rules:
        lines = [f"a rule of this host drops data packets of WireGuard: {rule.rule} ({rule.where})" for rule in rules]
        fix = tuple(f"`{literal(rule.remove)}`" for rule in rules if rule.remove)
        return certain(*lines, fix=fix) if any(rule.grew for rule in rules) else likely(*lines, fix=fix)
    if facts.reason is Reason.ONE_WAY and facts.handshakes and seen.echoes_lost(facts):
        return likely(
            "handshakes pass, and it starts a new one again and again, as a peer does that hears no data from here",
            "nothing that is sent inside the tunnel is answered",
        )
    came = seen.data_came(facts)
    if came:
        return Excluded("more than handshakes comes from it")
    if seen.shakes(facts) is not True or came is None or not _asked(facts):
        return None
    if (facts.seconds or 0.0) < seen.OVERDUE_SECONDS:
        return None
    again = facts.handshakes or 0
    lines = ["handshakes pass, and no data or keepalive comes from it, though a peer that hears data acknowledges it"]
    if again >= seen.ENOUGH:
        lines.append(f"{again} handshakes within {seen.span(facts.seconds or 0.0)}: a new one each time data is lost")
        return certain(*lines)
    return likely(*lines)


def _asked(facts: Facts) -> bool:
    """Whether data was sent that asks for an answer."""
    sent = facts.provoked or (facts.echo is not None and facts.echo.sent > 0)
    return bool(sent) or facts.reason in _SILENT


def _owner(facts: Facts) -> str | None:
    if facts.owner is not None:
        return facts.owner
    return facts.host.owner if facts.host and facts.target else None


def _not_here(facts: Facts) -> Judgement:
    owner = _owner(facts)
    if owner is None:
        if facts.reason is not Reason.NOT_ALLOWED:
            return None
        return certain(facts.obstacle or "its allowed IPs here do not hold the target")
    if owner:
        return Excluded(f"the allowed IPs of a peer hold {facts.target}")
    return certain(f"the allowed IPs of no peer of {facts.key[1]} hold {facts.target}")


def _of_another(facts: Facts) -> Judgement:
    owner = _owner(facts)
    if owner is None or not owner:
        return None
    if owner == facts.key[2]:
        return Excluded(f"{facts.target} is in its own allowed IPs, by the longest prefix")
    other = facts.owner_name or owner[:8]
    return certain(f"{facts.target} belongs to the peer {other} by allowed IPs, so WireGuard sends it nothing of that")


def _routed(facts: Facts) -> Judgement:
    path = facts.host.to_target if facts.host else None
    if path is None:
        if facts.reason is Reason.NOT_ROUTED:
            return certain(facts.obstacle or "users' packets to its target do not go into the interface")
        return None
    if path.kind is PathKind.SENT and path.tunnel:
        return Excluded(f"the route to {path.to} leads into {facts.key[1]}")
    if path.kind is PathKind.SENT:
        via = f" via {path.gateway}" if path.gateway else ""
        table = f", table {path.table}" if path.table not in (0, 254) else ""
        return certain(f"this host sends packets to {path.to} out of {path.interface}{via}{table}")
    if path.kind is PathKind.LOCAL:
        return certain(f"{path.to} is an address of this host itself")
    if path.kind is PathKind.NONE:
        return certain(f"this host has no route to {path.to}")
    return certain(f"a route or rule of this host refuses packets to {path.to} ({path.kind})")


def _reverse(facts: Facts) -> Judgement:
    drops = seen.grew(facts, "inner_rp_drops")
    mode = facts.host.inner_rp_filter if facts.host else None
    if mode == 0:
        return Excluded(f"rp_filter is off for {facts.key[1]}")
    if drops == 0 and seen.echoes_lost(facts):
        return Excluded("rp_filter dropped nothing while echoes went unanswered")
    if not drops or not seen.echoes_lost(facts) or seen.shakes(facts) is False:
        return None
    if seen.data_came(facts) is False:
        return None
    lines = (
        f"no echo is answered, and rp_filter dropped {seen.number(drops, 'packet')} meanwhile (IPReversePathFilter)",
        *([f"rp_filter is {'strict' if mode == 1 else 'loose'} for {facts.key[1]}"] if mode else []),
    )
    sent = facts.echo.sent if facts.echo else 0
    return certain(*lines) if sent and drops >= sent and mode == 1 else likely(*lines)


def _not_forwarded(facts: Facts) -> Judgement:
    if not seen.echoes_lost(facts) or not facts.target:
        return None
    others = [one for one in facts.other_inner or () if one.answered and one.to != facts.target]
    if not others:
        return None
    return likely(
        f"{facts.target} does not answer, and {others[0].to}, inside the same tunnel, does",
        apart=f"Or the host {facts.target} is off, or drops what comes from us: look there.",
    )


def _not_there(facts: Facts) -> Judgement:
    if seen.answered(facts) or any(one.answered for one in facts.other_inner or ()):
        return Excluded("the far side answers what is sent inside the tunnel")
    if not seen.echoes_lost(facts) or not seen.data_came(facts) or seen.shakes(facts) is False:
        return None
    lines = [
        "WireGuard of the far side takes our data and acknowledges it, and nothing behind it answers",
        *(["no other address inside the tunnel answers either"] if facts.other_inner else []),
    ]
    if facts.other_inner or facts.answered is False:
        return likely(*lines, apart=_THERE)
    return possible(*lines, apart=_THERE)


_THERE = (
    "On the far side `wg show` must list the addresses of this interface under our key's allowed IPs; if it does, a"
    " firewall there drops what comes out of the tunnel."
)


def _echoes(facts: Facts) -> Judgement:
    if facts.knocked and facts.echo is not None and facts.echo.sent and not facts.echo.answered:
        return certain(
            f"echoes to {facts.target} are not answered, and what is sent to a closed port of it is refused by it:"
            " it is there, and the tunnel carries data both ways"
        )
    if seen.echoes_lost(facts) is False:
        return Excluded("echoes are answered")
    if not seen.echoes_lost(facts) or not seen.data_came(facts) or facts.state is State.DOWN:
        return None
    real = (facts.received_bytes or 0) >= seen.REAL_DATA and seen.data_of_users(facts)
    if real and facts.seconds and _hears(facts):
        amount = f"{facts.received_bytes} bytes within {seen.span(facts.seconds)}"
        return likely(f"echoes to {facts.target} are not answered, while data comes from the peer ({amount})")
    return possible(
        f"echoes to {facts.target} are not answered, while the peer itself is heard",
        apart=f"Does another address behind it answer, or another service on {facts.target}?",
    )


def _hears(facts: Facts) -> bool:
    """Whether the peer hears what is sent from here, as it sends data and was not seen to call when it had to."""
    sighting = facts.sighting
    if sighting is None or sighting.missed or sighting.initiations_received or sighting.misdirected:
        return False
    silent = facts.silent_seconds or 0.0
    from_the_first = silent - sighting.seconds <= FIRST_CALL_SECONDS and silent >= SECOND_CALL_SECONDS
    return bool(facts.provoked) or from_the_first or sighting.seconds >= CALLS_SECONDS


def _lossy(facts: Facts) -> Judgement:
    if not heavy_loss(facts):
        return Excluded("few probes are lost") if facts.loss is not None and facts.loss < LOSSY else None
    return certain(f"{facts.loss:.0%} of the probes were lost" if facts.loss is not None else "probes are lost")


def _slow(facts: Facts) -> Judgement:
    if facts.reason is not Reason.SLOW:
        return None
    if facts.round_trip is None or facts.usual_round_trip is None:
        return certain("round trips take far longer than usual")
    usual, now = facts.usual_round_trip * 1e3, facts.round_trip * 1e3
    return certain(f"round trips take {now:.1f} ms, usually {usual:.1f} ms")


def _mtu(facts: Facts) -> Judgement:
    if facts.verdict is None:
        return None
    if facts.verdict is Verdict.OK:
        return Excluded("full-size packets pass")
    line = _MTU_FAULTS.get(facts.verdict)
    if line is None:
        return None
    mtu = facts.recommended_mtu
    fix = (f"`{{entry}}ip link set {{interface}} mtu {mtu}`, and MTU = {mtu} in {{conf}}.",) if mtu else ()
    return Holds(certain().confidence, (f"{line} (verdict of the MTU probes: {facts.verdict})",), fix)


RULES = (
    Rule(
        Cause.NOT_ALLOWED_HERE,
        "No peer here has the address that users send to: WireGuard has nobody to send it to.",
        "The allowed IPs of the device, by the longest prefix.",
        ("`{entry}wg set {interface} peer {key} allowed-ips ...,{target}`, all of them, and in {conf}.",),
        _not_here,
    ),
    Rule(
        Cause.OWNED_BY_ANOTHER,
        "Another peer here has the address that users send to: of two with the same allowed IP, the one that was set"
        " last has it.",
        "The allowed IPs of the device, by the longest prefix.",
        (
            (
                "`{entry}wg show {interface} allowed-ips` says which peer gets what: take {target} from the other, then"
                " `{entry}wg set {interface} peer {key} allowed-ips ...`, all of them."
            ),
        ),
        _of_another,
    ),
    Rule(
        Cause.INNER_REVERSE_PATH,
        "The reverse path filter of this host (rp_filter) drops answers that come out of the tunnel, as its own route"
        " to the sender leads elsewhere.",
        "Echoes go unanswered while bytes come, and IPReversePathFilter in /proc/net/netstat grows with them.",
        (
            "`{entry}ip route get {target}` must lead into {interface}; correct the route.",
            "Or loosen it: `{entry}sysctl net.ipv4.conf.{interface}.rp_filter=2`.",
        ),
        _reverse,
    ),
    Rule(
        Cause.ROUTED_ELSEWHERE,
        "A route or rule of this host leads what users send elsewhere, not into the tunnel.",
        "The route look-up for the target, as users' packets take it.",
        (
            "`{entry}ip route get {target}` and `{entry}ip rule` show who decides.",
            "`{entry}ip route add {target} dev {interface}`",
        ),
        _routed,
    ),
    Rule(
        Cause.MTU,
        "Packets of full size do not pass as they should, small ones do.",
        "The verdict of the MTU probes.",
        ("`wg-exporter mtu {interface} {peer}` shows where packets end, and what MTU to set.",),
        _mtu,
    ),
    Rule(
        Cause.DATA_FILTERED,
        "A filter lets handshakes pass and drops data packets, as filters against VPNs do.",
        "Handshakes complete again and again, and nothing else comes from the peer, not even a keepalive.",
        (
            "Look for a filter on the way or on either host that knows WireGuard (data packets begin with the byte 4).",
            "Another port sometimes helps: `{entry}wg set {interface} listen-port PORT`, and on the far side.",
        ),
        _filtered,
    ),
    Rule(
        Cause.NOT_FORWARDED,
        "The far side does not forward: the peer itself answers, and what is behind it does not.",
        "Another address inside the tunnel answers echoes, the target does not.",
        (
            (
                "On the far side: `sysctl net.ipv4.ip_forward` must be 1, its forward chain must let packets pass, and"
                " {target} needs a route back."
            ),
        ),
        _not_forwarded,
    ),
    Rule(
        Cause.NOT_ALLOWED_THERE,
        "The far side takes our packets and drops them: its allowed IPs for us do not hold the address that we send"
        " from, or its firewall lets nothing out of the tunnel in.",
        "Data is acknowledged, as only WireGuard itself does, and nothing inside the tunnel answers.",
        (
            (
                "On the far side: `wg show` must list the addresses of {interface} under the allowed IPs of our key,"
                " and the input rules must let them in."
            ),
        ),
        _not_there,
    ),
    Rule(
        Cause.ECHOES_FILTERED,
        "The tunnel is alive, and the target does not answer echoes: it drops them, or it is off.",
        "The peer is heard and data comes from it, while echoes are not answered.",
        (
            (
                "Let the target answer echoes, or name another: `target` under `peers` in the configuration, or"
                " `probe: false`."
            ),
        ),
        _echoes,
    ),
    Rule(
        Cause.LOSSY,
        "A part of the packets is lost: a full line, or a bad one.",
        "Probes: some are answered, and more are lost than `health.loss`.",
        ("`mtr {address}` shows where outside the tunnel; compare with other peers of this host.",),
        _lossy,
    ),
    Rule(
        Cause.SLOW,
        "Round trips take far longer than usual: a full line, or a longer route.",
        "Probes, compared with what is usual for this peer.",
        ("`mtr {address}` shows where outside the tunnel; compare with other peers of this host.",),
        _slow,
    ),
)
