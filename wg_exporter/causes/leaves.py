"""Nothing leaves this host for the peer: the interface, its socket, its endpoint, the route there, a filter here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Cause
from wg_exporter.causes.rule import Excluded, Holds, Judgement, Rule, certain, likely, literal, possible
from wg_exporter.health.states import Reason, State
from wg_exporter.inspected import Neighbour, PathKind, PortOwner
from wg_exporter.model import Backend
from wg_exporter.probed import SendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.causes.facts import Facts


def _by_reason(reason: Reason, line: str) -> Callable[[Facts], Judgement]:
    def judge(facts: Facts) -> Judgement:
        return certain(line.format(facts.key[1])) if facts.reason is reason else None

    return judge


def _interface_down(facts: Facts) -> Judgement:
    down = facts.interface_up is False and facts.state is not State.UP  # its routes go with it, and are named at first
    if facts.reason is Reason.INTERFACE_DOWN or down:
        return certain(f"{facts.key[1]} is administratively down")
    return None


def _no_socket(facts: Facts) -> Judgement:
    host = facts.host
    if facts.backend is Backend.USERSPACE and facts.listen_port == 0 and not facts.opaque and not seen.shakes(facts):
        return certain(
            f"the daemon of {facts.key[1]} has no UDP port open: it could not open the one that it was given"
        )
    if host is None or host.port_owner is None:
        return None
    port = f"UDP port {facts.listen_port} of {facts.key[1]}"
    if host.port_owner is PortOwner.DEVICE:
        return Excluded(f"{port} is open, and its own")
    if seen.left(facts) or seen.shakes(facts):
        return Excluded("its messages were seen leaving")
    if host.port_owner is PortOwner.OTHER:
        return certain(f"{port} belongs to {host.port_holder or 'another'}")
    return likely(f"{port} is open in no network namespace that could be read")


def _no_endpoint(facts: Facts) -> Judgement:
    if facts.endpoint is None:
        return None
    if facts.endpoint:
        return Excluded(f"its endpoint is known: {facts.endpoint}")
    for_us = [caller for caller in facts.callers.callers if caller.for_us] if facts.callers else []
    if seen.calls(facts) or for_us:
        return Excluded("somebody calls")
    never = "no endpoint is configured for it here" if facts.conf_endpoint in (None, "") else "its endpoint is not set"
    if seen.watched(facts) or facts.callers is not None:
        return certain(never, "nobody called with messages for our key while we watched")
    return likely(never, "nothing came from it")


def _route(facts: Facts) -> Judgement:
    path = facts.host.to_endpoint if facts.host else None
    if path is None:
        return None
    if path.kind in {PathKind.SENT, PathKind.LOCAL}:
        via = f" via {path.gateway}" if path.gateway else ""
        return Excluded(f"the route to {path.to} leads out of {path.interface or 'this host'}{via}")
    if seen.left(facts) or seen.shakes(facts):
        return Excluded("its messages were seen leaving")
    if path.kind is PathKind.NONE:
        return certain(f"this host has no route to the endpoint {path.to}")
    return certain(f"a route or rule of this host refuses packets to the endpoint {path.to} ({path.kind})")


def _loop(facts: Facts) -> Judgement:
    path = facts.host.to_endpoint if facts.host else None
    if path is None or path.kind is not PathKind.SENT:
        return None
    if not path.tunnel:
        return Excluded(f"the route to {path.to} does not lead into {facts.key[1]}")
    if seen.shakes(facts) or seen.came(facts):
        return Excluded("messages came back from the endpoint")
    mark = f" with fwmark {facts.fwmark:#x}" if facts.fwmark else " (the interface has no fwmark)"
    return certain(f"the route to the endpoint {path.to}{mark} leads into {facts.key[1]} itself")


def _output(facts: Facts) -> Judgement:
    if seen.left(facts):
        return Excluded("handshake messages were seen leaving this host")
    if seen.shakes(facts):
        return Excluded("handshakes pass")
    rules = seen.filters(facts, "output")
    if rules and facts.endpoint:
        lines = [f"a rule of this host drops what leaves for it: {rule.rule} ({rule.where})" for rule in rules]
        grew = [rule for rule in rules if rule.grew]
        lines += [f"it dropped {seen.number(rule.grew, 'packet')} while we looked" for rule in grew if rule.grew]
        fix = tuple(f"`{literal(rule.remove)}`" for rule in rules if rule.remove)
        return certain(*lines, fix=fix) if grew or seen.left(facts) == 0 else likely(*lines, fix=fix)
    sighting = facts.sighting
    if seen.left(facts) != 0 or not _may_leave(facts) or not _due(facts):
        return None
    if sighting and any(seen.own(facts, one) for one in sighting.refusals):
        return likely("nothing left this host, and it said itself that it refused")
    judge = _beside_nftables if seen.unfiltered(facts, "output") else _unread if facts.unread_filters else likely
    counted = facts.sent_bytes if facts.backend is not Backend.USERSPACE else None
    if counted and sighting:
        within = seen.span(facts.seconds or 0.0)
        return judge(
            f"WireGuard counted {counted} bytes to it within {within}, and no handshake message left this host"
        )
    if facts.backend is Backend.USERSPACE and seen.tried(facts) and facts.entered_packets != 0 and sighting:
        return judge(f"packets went into {facts.key[1]}, and no handshake message left in {sighting.seconds:.0f} s")
    return None


def _beside_nftables(line: str) -> Judgement:
    """The ruleset was read, and no rule of it drops these packets."""
    return possible(line, apart="No nftables rule drops it: look at `tc filter` and eBPF.")


def _unread(line: str) -> Holds:
    """No rule of it does, and there are rules of iptables-legacy that nobody read."""
    return likely(
        line,
        apart="No nftables rule drops it; rules of iptables-legacy may.",
        fix=(
            (
                "`{underlay}iptables-legacy-save` and `{underlay}ip6tables-legacy-save` print the rules that were not"
                " looked at: let UDP from port {listen_port} to {endpoint} leave."
            ),
        ),
    )


def _due(facts: Facts) -> bool:
    """Whether an initiation would have left by now. WireGuard tries again within 5.3 s where none comes to a session.
    Where one does and data is lost, the next is made 15 s after data was sent again: only health knows when that was.
    """
    tries = seen.shakes(facts) is False and seen.looked_out(facts) >= seen.RETRIED_SECONDS
    return facts.reason is Reason.NOT_SENT or bool(facts.provoked) or tries


def _may_leave(facts: Facts) -> bool:
    """Whether all else that keeps messages from leaving is excluded: endpoint, route, socket, and a next hop that does
    not answer, or not yet.
    """
    host = facts.host
    path = host.to_endpoint if host else None
    on_its_way = path is not None and path.kind in {PathKind.SENT, PathKind.LOCAL} and not path.tunnel
    if not facts.endpoint or not on_its_way or host is None or host.port_owner not in {None, PortOwner.DEVICE}:
        return False
    return not seen.next_hop_silent(facts) and seen.next_hop(facts) is not Neighbour.ASKED


def _no_address(facts: Facts) -> Judgement:
    addresses = facts.host.addresses if facts.host else None
    if addresses is None:
        return None
    six = ":" in (facts.target or "")
    fitting = [address for address in addresses if (":" in address) is six] if facts.target else list(addresses)
    if fitting:
        return Excluded(f"{facts.key[1]} has the address {fitting[0]}")
    if seen.shakes(facts) is False or seen.answered(facts):
        return None
    kind = ("IPv6 " if six else "IPv4 ") if facts.target and addresses else ""
    return likely(f"{facts.key[1]} has no {kind}address, so packets leave with one that the far side does not expect")


def _inner(facts: Facts) -> Judgement:
    if seen.answered(facts):
        return Excluded("packets inside the tunnel are answered")
    rules = seen.filters(facts, "inner_output", "inner_input")
    if rules:
        lines = [f"a rule of this host drops packets inside the tunnel: {rule.rule} ({rule.where})" for rule in rules]
        fix = tuple(f"`{literal(rule.remove)}`" for rule in rules if rule.remove)
        return certain(*lines, fix=fix) if any(rule.grew for rule in rules) else likely(*lines, fix=fix)
    refused = facts.provoke_refused or (facts.echo.refused if facts.echo else None)
    if refused is SendError.NO_PERMISSION:
        return likely(f"this host refused to send a packet into {facts.key[1]} (EPERM), as a firewall rule makes it do")
    dropped = seen.answers_dropped(facts)
    no_reverse = seen.grew(facts, "inner_rp_drops") == 0 or bool(facts.host and facts.host.inner_rp_filter == 0)
    if dropped and facts.filters is None and no_reverse:
        what = seen.number(dropped, "packet")
        return likely(
            f"{what} came out of {facts.key[1]}, as many as there were echoes, and none reached who had sent them",
            "rp_filter dropped none of them",
        )
    asked = facts.provoked or (facts.echoes_sent or 0) >= seen.ENOUGH
    if asked and facts.entered_packets == 0 and not refused:
        return likely(f"packets were sent to {facts.target or 'it'}, and none went into {facts.key[1]}")
    if facts.entered_packets and seen.unfiltered(facts, "inner_output", "inner_input"):
        return Excluded(
            f"this host's own packets went into {facts.key[1]}, and no nftables rule drops them or the answers"
        )
    return None


RULES = (
    Rule(
        Cause.INTERFACE_GONE,
        "The interface does not exist any more.",
        "The kernel does not list it, while the exporter has seen it or a file describes it.",
        ("`{entry}wg-quick up {interface}`, or restart what made it.",),
        _by_reason(Reason.INTERFACE_GONE, "{} does not exist"),
    ),
    Rule(
        Cause.INTERFACE_DOWN,
        "The interface is administratively down.",
        "The kernel says so.",
        ("`{entry}ip link set {interface} up`",),
        _interface_down,
    ),
    Rule(
        Cause.DAEMON_HANGS,
        "The daemon of the userspace interface hangs.",
        "Neither its control socket nor any probed peer of it answers.",
        ("`pgrep -a wireguard` finds the process that made {interface}: restart it.",),
        _by_reason(Reason.UNREADABLE, "neither the daemon of {} nor any of its peers answers"),
    ),
    Rule(
        Cause.PEER_MISSING,
        "The peer is not on its device.",
        "A file describes it, or the configuration waits for it, and the device does not list it.",
        (
            (
                "`{entry}wg syncconf {interface} <(wg-quick strip {interface})` loads the file again;"
                " if it is gone for good, remove it from {conf}."
            ),
        ),
        _by_reason(Reason.MISSING, "{} does not list it"),
    ),
    Rule(
        Cause.NO_SOCKET,
        "The UDP port of the interface is not open, or belongs to another: nothing can be sent or received.",
        "The list of bound UDP ports of the namespace (/proc/net/udp), and who holds the port; the daemon of a"
        " userspace interface that could not open its port says that it has none.",
        (
            (
                "`{underlay}ss -lunp` shows who has the port that stands in {conf}: end it, or choose another"
                " with `{entry}wg set {interface} listen-port 0` (then tell the other sides)."
            ),
            "`{entry}ip link set {interface} down && {entry}ip link set {interface} up` opens the port again.",
        ),
        _no_socket,
    ),
    Rule(
        Cause.NO_ENDPOINT,
        "No endpoint is known for the peer, and nobody calls: it is the far side that has to begin, and it does not.",
        "The device has no endpoint for it, and the watcher saw no message made for our key from a stranger.",
        (
            "On the far side: does it have our endpoint, our key, and PersistentKeepalive, and is it running?",
            "Or set one here: `{entry}wg set {interface} peer {key} endpoint ADDRESS:PORT`.",
        ),
        _no_endpoint,
    ),
    Rule(
        Cause.ROUTE_LOOP,
        "The route to the endpoint leads into the tunnel itself, so what is sent never leaves this host.",
        "The route look-up for the endpoint, with the interface's fwmark, ends at the interface.",
        (
            (
                "A full tunnel needs an fwmark and a rule that keeps marked packets out of it: `wg-quick` makes both."
                " `{entry}wg show {interface} fwmark` and `{underlay}ip rule` show what is there."
            ),
            "Or give the endpoint a route of its own: `{underlay}ip route add {address} via GATEWAY dev DEVICE`.",
        ),
        _loop,
    ),
    Rule(
        Cause.NO_ROUTE,
        "This host has no route to the endpoint, or one that refuses.",
        "The route look-up for the endpoint in the namespace of the outer packets.",
        ("`{underlay}ip route get {address}` says why; set the route or the default route again.",),
        _route,
    ),
    Rule(
        Cause.OUTPUT_FILTERED,
        "A filter of this host drops what WireGuard sends to the endpoint.",
        "WireGuard has sent and nothing was seen on the wire, while endpoint, route, next hop and socket are right;"
        " `diagnose` names the rule.",
        (
            (
                "`{underlay}nft list ruleset` and, where iptables is in use, `{underlay}iptables-save` and"
                " `{underlay}iptables-legacy-save` show the output rules: let UDP from port {listen_port} to {endpoint}"
                " leave."
            ),
        ),
        _output,
    ),
)

INNER_RULES = (
    Rule(
        Cause.INNER_FILTERED,
        "A filter of this host keeps packets from the tunnel, or drops what comes out of it.",
        "Packets to the peer do not get into the interface, or are refused with EPERM; or as many come out of it as"
        " echoes were sent, and none is taken for an answer. `diagnose` names the rule.",
        ("`{entry}nft list ruleset` shows the rules for {interface}: let packets to {target} pass.",),
        _inner,
    ),
    Rule(
        Cause.NO_ADDRESS,
        "The interface has no address to send from.",
        "The list of addresses of the interface, by the family of the target.",
        ("`{entry}ip address add ADDRESS dev {interface}`, with the address that stands in {conf}.",),
        _no_address,
    ),
)
