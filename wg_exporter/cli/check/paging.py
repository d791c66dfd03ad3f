"""Whether anything can page: who is expected up, and who of these is probed, so that it is known within seconds."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from wg_exporter.cli.check.finding import NOWHERE, Check, Judged, Kind, NotKnown, Severity, Where
from wg_exporter.cli.show.overview import unprobed
from wg_exporter.plan.planner import NO_ENDPOINT
from wg_exporter.status.rows import whose
from wg_exporter.status.words import count, first_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts
    from wg_exporter.status.rows import Overview

REASONS = 5

NOTHING = Kind(
    "nothing-can-page",
    Severity.WARNING,
    "No peer is expected up and no interface is expected: whatever breaks, nobody is paged. A hub whose branches "
    "call in "
    "expects nobody by default.",
    "Say who should be up: `expect: [{interface: wg0, state: up}]`, see docs/health.md. If nobody should, name the "
    "interface under `interfaces: expect`.",
)
NOT_PROBED = Kind(
    "peer-not-probed",
    Severity.WARNING,
    "A peer that should be probed can't be: that it is down is known minutes later, by its age, or not at all.",
    "Give it a `target` under `peers`, or what the reason says.",
)
OFF = Kind(
    "probing-off",
    Severity.INFO,
    "Peers are expected up, and the configuration turns probing off for all of them: that one is down is known minutes "
    "later, and its latency, loss and MTU never.",
    "Remove `probe: {enabled: false}`, unless it is meant so.",
)
RULES = NotKnown(
    "Prometheus and its rules",
    "they can't be seen from here; ask Prometheus: count by (instance) (wireguard_peer_expected_up == 1), and send a "
    "test page: wg-exporter check --page=URL",
)


def _paged(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    overview = facts.host.exporter.overview
    config = facts.config.config
    if config and config.interfaces.expected:
        return
    if overview is None or not overview.devices or config is None:
        yield NotKnown("whether anything can page", "no device could be looked at")
        return
    expected = sum(peer.expected_up for device in overview.devices for peer in device.peers)
    if expected:
        return
    if not all(outcome.success for outcome in overview.outcomes if outcome.source == "conf"):
        yield NotKnown("whether anything can page", "WireGuard's files, which say who is called, could not be read")
        return
    first = next((whose(row)[1] for row in overview.devices if row.device and row.peers), "")
    if not first:
        what = "no device has a peer, and no interface is expected"
        yield NOTHING.at(
            NOWHERE, what, f"expect the interface: interfaces: {{expect: [{whose(overview.devices[0])[1]}]}}"
        )
        return
    fix = f"say who should be up, in the configuration: expect: [{{interface: {first}, state: up}}]"
    yield NOTHING.at(Where(facts.config.file.path if facts.config.file else ""), "no peer is expected up", fix)


def _probed(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101
    overview = facts.host.exporter.overview
    if overview is None:
        yield NotKnown("who is probed", "the host was not looked at")
        return
    found = unprobed(overview)
    for reason, names in islice(found.items(), REASONS):
        what, _, fix = reason.partition("; ")
        if reason == NO_ENDPOINT:  # no target would help it
            fix = "set its `Endpoint` here, or have it call: it is probed as soon as it did"
        peer = names[0] if len(names) == 1 else ""
        said = what if peer else f"{count(len(names), 'peer')} can't be probed ({first_of(names)}): {what}"
        yield NOT_PROBED.at(Where(peer=peer), f"it can't be probed: {said}" if peer else said, fix)
    if len(found) > REASONS:
        yield NOT_PROBED.at(NOWHERE, f"more peers can't be probed, for {len(found) - REASONS} other reasons")
    if _off(overview):
        yield OFF.at(
            Where(facts.config.file.path if facts.config.file else ""), "no peer that is expected up is probed"
        )


def _off(overview: Overview) -> bool:
    expected = [peer for device in overview.devices for peer in device.peers if peer.expected_up and not peer.gone]
    return bool(expected) and all(peer.aim is not None and not peer.aim.wanted for peer in expected)


def _rules(_facts: Facts) -> Iterator[Judged]:
    yield RULES


CHECKS = (
    Check("whether anything can page", (NOTHING,), _paged),
    Check("who is probed", (NOT_PROBED, OFF), _probed),
    Check("Prometheus and its rules", (), _rules),
)
