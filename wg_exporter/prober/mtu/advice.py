"""What to tell a person about a tunnel's MTU: one sentence with the numbers in it, and the commands to run.

At an MTU below 1280 bytes, the least that IPv6 works with (RFC 8200, 5), the kernel takes every IPv6 address off a
device (net/ipv6/addrconf.c, `addrconf_notify`), and only the link-local one comes back by itself. On a device with
IPv6 the advice is then to clamp what TCP announces (MSS) instead, which leaves other protocols to fragmentation.
"""

from __future__ import annotations

from shlex import quote
from typing import NamedTuple

from wg_exporter.probed import SendError, Verdict
from wg_exporter.prober.mtu.locate import Direction
from wg_exporter.prober.mtu.oracle import Oracle
from wg_exporter.prober.mtu.verdict import (
    LEAST_IPV4,
    LEAST_IPV6,
    Findings,
    fitting,
    outer_path,
    recommended,
    recommended_together,
    rule,
)

FAR_INTERFACE = "INTERFACE"
"""Stands for the far side's device in commands, as its name isn't known here."""

TCP_IPV4, TCP_IPV6 = 40, 60  # headers of IP and TCP, which the MSS doesn't count


class Advice(NamedTuple):
    """What to do about one tunnel. Commands are shell lines; all are empty where nothing has to be changed.

    `mtu` is what to set on this side alone, in bytes, None if nothing is known to pass. `wg_quick` is the line for the
    `[Interface]` section of the configuration file, so that the MTU lasts. `far_commands` and `far_wg_quick` are the
    same for the other side. `then_commands` and `then_wg_quick` are for this side once the other is set, empty where
    that changes nothing. `caution` says in one line why the MTU itself must not be set; empty where it may be.
    """

    verdict: Verdict
    sentence: str
    mtu: int | None = None
    commands: tuple[str, ...] = ()
    wg_quick: str = ""
    far_commands: tuple[str, ...] = ()
    far_wg_quick: str = ""
    then_commands: tuple[str, ...] = ()
    then_wg_quick: str = ""
    caution: str = ""


class Entry(NamedTuple):
    """What a command begins with to be run where the device is, and where its outer packets are: two namespaces, maybe.

    Each ends with a blank, or is empty.
    """

    inside: str = ""
    outside: str = ""


HERE = Entry()  # no other namespace


def advise(findings: Findings, hop: str = "", entry: Entry = HERE) -> Advice:
    """The sentence and the commands. `hop` is the router behind which the path shrinks, if P7 found one."""
    found = rule(findings)
    sentence = " ".join(found.sentence.format_map(words(findings, hop, entry)).split())
    mtu = recommended(findings)
    if found.verdict is Verdict.OK or (found.verdict is Verdict.FILTERED and (mtu or 0) >= findings.tunnel.mtu):
        return Advice(found.verdict, sentence, mtu)
    if found.verdict is Verdict.FRAGMENTED_LOCAL and findings.hearsay:
        return Advice(found.verdict, sentence, mtu, (_flush(findings, entry),))
    device, least = findings.tunnel.interface, _spares_addresses(findings)
    if least is not None:
        caution = f"an MTU below {LEAST_IPV6} would remove the IPv6 addresses of {device}; clamp TCP's MSS instead"
        return Advice(
            found.verdict,
            sentence,
            mtu,
            _clamp(device, least, entry.inside),
            far_commands=_clamp(FAR_INTERFACE, least),
            caution=caution,
        )
    together = recommended_together(findings)
    if mtu is None or together is None:
        return Advice(found.verdict, sentence, mtu)
    then = () if together == mtu else (_set(device, together, entry.inside),)
    return Advice(
        found.verdict,
        sentence,
        mtu,
        (_set(device, mtu, entry.inside),),
        _keep(mtu),
        (_set(FAR_INTERFACE, together),),
        _keep(together),
        then,
        _keep(together) if then else "",
    )


def words(seen: Findings, hop: str = "", entry: Entry = HERE) -> dict[str, object]:
    """The fields that the sentences of `verdict.RULES` may use."""
    tunnel = seen.tunnel
    outer, _slack = outer_path(seen)
    hop = hop or seen.hop
    return {
        "target": tunnel.target or "the peer",
        "endpoint": tunnel.endpoint,
        "interface": tunnel.interface,
        "mtu": tunnel.mtu,
        "needed": tunnel.needed,
        "refused": seen.refused or "less",
        "claim": seen.inner_claim,
        "route": min((size for size in (seen.route, seen.learnt) if size), default=None),
        "outer": outer if outer is not None else f"less than {tunnel.needed}",
        "fragment": seen.fragment,
        "fragment_to": (seen.fragment or 0) + 7,
        "hop": f" from hop {hop} on" if hop else "",
        "above": _above(seen),
        "way": {Direction.TOWARDS: "on the way to", Direction.BACK: "on the way back from"}.get(
            seen.direction, "between here and"
        ),
        "path": _path(seen, hop),
        "whole": _whole(seen),
        "why": _why(seen),
        "floor": f"Packets of {seen.inner} bytes did get through. " if seen.inner else "",
        "large": _large(seen),
        "spotty": ", but for some now and then" if seen.spotty else "",
        "oracle": _silent(seen),
        "unknown": _unknown(seen, entry.inside),
        "local": _forget(seen, entry) if seen.hearsay else _fix(seen),
        "fix": _fix(seen),
    }


def _above(seen: Findings) -> str:
    """Which packets are lost."""
    if not seen.inner:
        return f"of {seen.tunnel.mtu} bytes"
    passing = (fitting(seen, together=True), fitting(seen), seen.inner)
    return f"above {next((size for size in passing if size and size < seen.tunnel.mtu), seen.inner)} bytes"


def _set(device: str, mtu: int, entry: str = "") -> str:
    return f"{entry}ip link set dev {quote(device)} mtu {mtu}"


def _keep(mtu: int) -> str:
    return f"MTU = {mtu}"


def _clamp(device: str, mtu: int, entry: str = "") -> tuple[str, ...]:
    match = f"-t mangle -A POSTROUTING -o {quote(device)} -p tcp --tcp-flags SYN,RST SYN"
    return tuple(
        f"{entry}{tool} {match} -j TCPMSS --set-mss {mtu - headers}"
        for tool, headers in (("iptables", TCP_IPV4), ("ip6tables", TCP_IPV6))
    )


def _spares_addresses(seen: Findings) -> int | None:
    """What gets through, where setting it would take IPv6 addresses away; else None."""
    mtu = fitting(seen)
    return mtu if seen.tunnel.ipv6_inside and mtu is not None and LEAST_IPV4 <= mtu < LEAST_IPV6 else None


def _path(seen: Findings, hop: str) -> str:
    tunnel = seen.tunnel
    outer, slack = outer_path(seen)
    # Echoes that are lost on the way back say nothing of the way there.
    back = seen.direction is Direction.BACK and not seen.hop and (seen.route is None or seen.route >= tunnel.needed)
    if outer is None or outer >= tunnel.needed or back:
        return f"{tunnel.interface} sends up to {tunnel.mtu}"
    carries = f"{outer} to {outer + slack}" if slack else str(outer)
    behind = f" from hop {hop} on" if hop else ""
    sends = f"{tunnel.interface} sends up to {tunnel.needed}"
    return f"the path to {tunnel.endpoint} carries {carries}-byte packets{behind}, {sends}"


def _whole(seen: Findings) -> str:
    if seen.outer_full is None:
        return "; whether in fragments can't be told, for the endpoint answers no outer probes of that size"
    outer, _slack = outer_path(seen)
    if not seen.outer_full:
        carries = f"less than {seen.tunnel.needed}" if outer is None else outer
        return f"; whether in fragments can't be told, for a router says that the path carries {carries} bytes"
    room = (outer or 0) - seen.tunnel.needed
    more = f"; the path to {seen.tunnel.endpoint} has room for {room} bytes more" if room > 0 else ""
    return f", in one piece{more}"


def _why(seen: Findings) -> str:
    if seen.oracle is Oracle.INCONCLUSIVE:
        return "it answers no probe, and the tunnel isn't quiet enough to read the byte counters"
    return "nothing at present" if seen.quiet else "small packets are lost too"


# Why this host sends no probes, and what to do (see `SendError`).
_UNSENT = {
    SendError.NO_DEVICE: "{interface} is down or gone, so {target} can't be probed: {entry}ip link set {interface} up",
    SendError.NO_PERMISSION: "This host refuses to send probes to {target}: let a firewall of its own pass ICMP echoes "
    "into {interface} (its output chain)",
    SendError.NO_KEY: "This host refuses to send probes to {target}: no peer of {interface} has it in its allowed IPs",
    SendError.NO_ROUTE: "This host has no way to {target}: compare with {entry}ip route get, and with the endpoint of "
    "the peer",
}


def _unknown(seen: Findings, entry: str) -> str:
    if seen.unsent is None:
        return f"{seen.tunnel.target or 'the peer'} has not been probed yet."
    usual = f"This host can't send probes to {{target}} ({seen.unsent})"
    said = _UNSENT.get(seen.unsent, usual).format(
        interface=seen.tunnel.interface, target=seen.tunnel.target, entry=entry
    )
    return f"{said}. Whether users' packets get through is not known."


def _silent(seen: Findings) -> str:
    if seen.oracle is Oracle.ARRIVES:
        return f"its byte counters say that packets of {seen.tunnel.mtu} bytes arrive."
    return "whether full-size packets get through is not known."


def _large(seen: Findings) -> str:
    size, target = seen.tunnel.mtu, seen.tunnel.target or "the peer"
    ask = f"Fetch a large file through the tunnel: if that works, only echoes are dropped, perhaps by {target} itself."
    if seen.direction is Direction.BACK:
        known = f"Towards it full-size packets pass: UDP of {size} bytes was refused."
    elif seen.oracle is Oracle.ARRIVES:
        known = f"Towards it full-size packets pass: its byte counters say that {size} bytes arrive."
    else:
        return f"Whether other packets of that size get through is not known. {ask}"
    return f"{known} On the way back it is a hole or a filter of echoes. {ask}"


def _flush(seen: Findings, entry: Entry) -> str:
    """Makes the kernel forget all path MTUs that it was told; it learns those that are true again (ip-route(8))."""
    return f"{entry.outside}ip{' -6' if seen.tunnel.ipv6_outside else ''} route flush cache"


def _forget(seen: Findings, entry: Entry) -> str:
    told = "A packet-too-big taught it that"
    if seen.outer_full:
        return f"{told}, which is out of date or forged, for full-size probes get there whole: {_flush(seen, entry)}."
    return f"{told}; no probe has met one, so it may be forged. Make the host forget it: {_flush(seen, entry)}."


def _fix(seen: Findings) -> str:
    mtu, together, clamped = recommended(seen), recommended_together(seen), _spares_addresses(seen)
    if clamped is not None:
        harm = f"an MTU of {clamped} would remove the IPv6 addresses of {seen.tunnel.interface}"
        return f"Clamp TCP's MSS to {clamped - TCP_IPV4}: {harm}."
    if mtu is None:
        return "No size that could be set is known to get through."
    if mtu >= seen.tunnel.mtu:
        return f"Set the far side's MTU to {mtu}."
    if together != mtu:
        return f"Set its MTU to {mtu}, or to {together} on both sides."
    if seen.direction is Direction.BACK:  # it is the far side that sends what is lost
        return f"Set its MTU and the far side's to {mtu}."
    return f"Set its MTU to {mtu}."
