"""The wall clock: WireGuard's handshakes and certificates go by it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wg_exporter.cli.check.finding import NOWHERE, Check, Judged, Kind, NotKnown, Severity, Where
from wg_exporter.status.rows import whose
from wg_exporter.status.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts

AHEAD = 5.0
"""Seconds by which a handshake may be later than the beginning of the look that saw it."""
BEHIND = 3600.0
"""Seconds by which the clock of the machine on which a package was made may be ahead."""

WRONG = Kind(
    "clock-wrong",
    Severity.ERROR,
    "The wall clock is before the time at which this program was installed. Peers refuse handshakes that are older "
    "than "
    "the last one they saw (the time is in the initiation), and certificates are not valid yet.",
    "Set the clock, and have it kept right: `timedatectl set-ntp true`, or chrony.",
)
FUTURE = Kind(
    "handshake-in-future",
    Severity.WARNING,
    "A handshake was later than now: the clock went back after it. Peers that were called then refuse "
    "new handshakes until it has caught up.",
    "Set the clock, and have it kept right. A peer is reached at once after its own daemon or interface was restarted.",
)
UNSYNCHRONISED = Kind(
    "clock-unsynchronised",
    Severity.INFO,
    "Nothing tells the kernel that it keeps the clock right (adjtimex(2), STA_UNSYNC). Where the hypervisor sets it, "
    "that "
    "is meant so.",
    "`timedatectl set-ntp true`, or chrony.",
)


def _wrong(facts: Facts) -> Iterator[Judged]:
    clock = facts.clock
    if clock.wall < clock.installed - BEHIND:
        now, then = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" for at in (clock.wall, clock.installed))
        yield WRONG.at(NOWHERE, f"it is {now} here, and this program was installed on {then}")


def _future(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    overview = facts.host.exporter.overview
    if overview is None:
        yield NotKnown("times of handshakes", "the host was not looked at")
        return
    for row in overview.devices:
        late = [peer for peer in row.peers if peer.peer.last_handshake_ns / 1e9 > overview.wall + AHEAD]
        if late:
            netns, interface = whose(row)
            peer = late[0].name if len(late) == 1 else ""
            what = f"{count(len(late), 'peer')} had the latest handshake in the future"
            yield FUTURE.at(Where(netns=netns, interface=interface, peer=peer), what)


def _synchronised(facts: Facts) -> Iterator[Judged]:
    if facts.clock.synchronised is None:
        yield NotKnown("whether the clock is kept right", "the kernel does not say")
    elif not facts.clock.synchronised:
        yield UNSYNCHRONISED.at(NOWHERE, "the kernel says that its clock is not synchronised")


CHECKS = (
    Check("the clock", (WRONG,), _wrong),
    Check("times of handshakes", (FUTURE,), _future),
    Check("whether the clock is kept right", (UNSYNCHRONISED,), _synchronised),
)
