"""Connection trackers and NATs that stick to a dead entry: a new ident gets past it, in real tunnels.

Such a box knows an echo by its addresses and its ident. An entry that it made while something was wrong leads every
later echo of that ident nowhere, and each of these keeps the entry alive.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from tests.lab.paths import Path
from tests.lab.probing import Aim, Probing
from wg_exporter.cli.netlab import run
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.probed import Probed, Verdict
from wg_exporter.prober.wire.idents import RENEW_AFTER, Ident

if TYPE_CHECKING:
    from tests.lab import Lab
    from wg_exporter.cli.netlab import Namespace


TRACK = """
table inet track {
    chain forward { type filter hook forward priority 0; ct state new counter; }
}
"""
MASQUERADE = """
table ip site {
    chain out { type nat hook postrouting priority 100; oifname "to-c" masquerade; }
}
"""
# Every ident that it has seen is dead, and stays so while it is used.
POISON = """
table inet sticky {
    set dead { typeof icmp id; flags dynamic,timeout; timeout 60s; }
    chain input { type filter hook input priority 0; icmp type echo-request update @dead { icmp id } drop; }
}
"""
STICKY = """
flush chain inet sticky input
add rule inet sticky input icmp type echo-request icmp id @dead update @dead { icmp id } drop
"""


def settings(inner_interval: float = 60.0) -> ProbeSettings:
    """As in the program, but for one second where it has three: what has to be lost is known sooner."""
    return ProbeSettings(timeout=1.0, mtu=MtuProbe(inner_interval=inner_interval))


def nft(namespace: Namespace, script: str) -> None:
    namespace.run(["nft", "-f", "-"], stdin=script)


def told(probing: Probing) -> Probed | None:
    try:
        return probing.probed()
    except KeyError:
        return None


def test_a_nat_entry_from_before_the_nat_was_there_blinds_us_for_a_few_losses_only(lab: Lab) -> None:
    """The peer's site has no way back but by masquerading, and that is switched on after the first echoes."""
    path = Path(lab, inner=("ipv4",))
    target = path.behind(1500)
    run(["ip", "-n", f"{lab.prefix}c", "route", "delete", "default"])
    nft(path.b, TRACK)
    with Probing(Aim(path, target, interval=1.0), settings=settings()) as probing:
        probing.until(lambda: (known := told(probing)) and known.stats.lost >= 2, within=60)
        nft(path.b, MASQUERADE)
        begun = time.monotonic()
        probing.until(lambda: probing.probed().stats.up, within=60)
        print(f"answered {time.monotonic() - begun:.1f} s after the NAT was right")


def test_an_ident_that_a_connection_tracker_holds_for_dead_is_given_up(lab: Lab) -> None:
    path = Path(lab, inner=("ipv4",))
    with Probing(Aim(path, interval=1.0), settings=settings(inner_interval=3.0)) as probing:
        probing.until(lambda: (known := told(probing)) and known.stats.up, within=60)
        nft(path.b, POISON)
        probing.until(lambda: not probing.probed().stats.up, within=60)
        nft(path.b, STICKY)
        begun = time.monotonic()
        probing.until(lambda: probing.probed().stats.up, within=60)
        print(f"answered {time.monotonic() - begun:.1f} s after the way was good")
        probing.until(lambda: (mtu := probing.probed().mtu) and mtu.verdict is Verdict.OK, within=60)


def test_the_ident_of_mtu_probes_stays_while_anything_is_answered_and_goes_when_all_was_lost() -> None:
    ident, dice = Ident(), os.urandom
    first = ident.take(0.0, 3.0, dice)
    assert first % 2 == 1
    assert {ident.take(n / 10, 3.0, dice) for n in range(100)} != {first}  # 10 s without an answer
    ident = Ident()
    first = ident.take(0.0, 3.0, dice)
    assert {ident.take(0.1, 3.0, dice) for _ in range(50)} == {first}  # a burst, whose answers are on their way
    ident.replied()
    assert {ident.take(4.0, 3.0, dice) for _ in range(RENEW_AFTER)} == {first}
    assert ident.take(6.9, 3.0, dice) == first
    assert ident.take(7.1, 3.0, dice) != first
    few = Ident()
    first = few.take(0.0, 3.0, dice)
    assert [few.take(now, 3.0, dice) for now in (60.0, 120.0)] == [first] * 2
