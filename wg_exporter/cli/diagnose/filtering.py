"""Which rules of this host's firewall concern the tunnel, from rulesets read before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.cli.diagnose.firewall import concerned
from wg_exporter.cli.diagnose.firewall.concerned import Flow, Way
from wg_exporter.cli.diagnose.firewall.ruleset import FAMILIES, FORWARD, INET, IPV4, IPV6

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from wg_exporter.causes.facts import Filter
    from wg_exporter.cli.diagnose.assemble import Known
    from wg_exporter.cli.diagnose.firewall.ruleset import Chain
    from wg_exporter.cli.diagnose.host import Firewall
    from wg_exporter.model import Snapshot

MOST_NAMED = 3  # chains


def filters(
    before: Firewall, after: Firewall, known: Known, texts: Callable[[str, Chain], Mapping[int, str]]
) -> tuple[Filter, ...]:
    """The rules that end packets of this tunnel; `texts` are those of a chain in a namespace."""
    chosen = known.chosen
    netns, underlay = chosen.key[0], chosen.underlay or ""
    found = concerned.filters(
        before.outer, after.outer, _outer(known), lambda chain: texts(underlay, chain), chosen.underlay_entry
    )
    found += concerned.filters(
        before.inner, after.inner, _inner(known), lambda chain: texts(netns, chain), chosen.entry
    )
    return tuple(dict.fromkeys(found))


def forwarded(firewall: Firewall, target: str) -> str:
    """What was not looked at of packets that this host sends on for others, in words; empty if it does not, or no rule
    of it decides about them.
    """
    families = (INET, IPV6 if ":" in target else IPV4)
    chains = [
        f"{FAMILIES[chain.family]} {chain.table} {chain.name}"
        for chain in firewall.inner.chains
        if chain.hook is not None
        and (chain.hook.number, chain.family in families) == (FORWARD, True)
        and (chain.rules or not chain.accepts)
    ]
    if not firewall.forwards or not chains:
        return ""
    named = ", ".join(chains[:MOST_NAMED]) + (", ..." if len(chains) > MOST_NAMED else "")
    return f"packets that this host forwards for others ({named}): only its own were followed through the rules"


def _outer(known: Known) -> Iterator[Way]:
    chosen, seen, host = known.chosen, known.sighting, known.host
    if chosen.device is None or not chosen.endpoint:
        return
    path = host.to_endpoint if host else None
    asked = seen is not None and bool(seen.initiations_sent)
    flow = Flow(
        here=path.source if path else "",
        there=chosen.endpoint,
        interface=path.interface if path else "",
        port=chosen.device.listen_port,
        far_port=_port(chosen.peer.endpoint if chosen.peer else ""),
        mark=chosen.device.fwmark,
        established=bool(seen and (seen.responses_received or seen.responses_sent)) or bool(known.handshakes),
        asked=asked,
        indices=_indices(known.last, chosen.underlay or ""),
    )
    yield from concerned.outer(flow)
    for caller in known.callers.callers if known.callers else ():
        if caller.for_us:
            sender = caller.sender
            stranger = flow._replace(
                there=sender.address, far_port=sender.port, interface=sender.interface, established=False, asked=False
            )
            yield from (way for way in concerned.outer(stranger) if way.hook == "input" and not way.data)


def _inner(known: Known) -> Iterator[Way]:
    chosen = known.chosen
    if not chosen.target or chosen.link is None:
        return
    version = ":" in chosen.target
    own = [address.partition("/")[0] for address in chosen.link.addresses if (":" in address) is version]
    yield from concerned.inner(
        Flow(own[0] if own else "", chosen.target, chosen.key[1], indices=_indices(known.last, chosen.key[0]))
    )


def _indices(snapshot: Snapshot, netns: str) -> dict[str, int]:
    return {name: link.ifindex for (where, name), link in snapshot.links.items() if where == netns}


def _port(endpoint: str) -> int:
    port = endpoint.rpartition(":")[2]
    return int(port) if port.isdigit() else 0
