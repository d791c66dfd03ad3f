"""What `wg-exporter diagnose` makes of what it looked at: whom it is about, which facts follow, when enough is known,
and how it says it."""

from __future__ import annotations

import json
import os
import struct
import time
from io import StringIO
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.initiator import cookie_reply, initiation, party, response
from tests.lab import eventually
from tests.rows import SECOND, STATS, WALL, conf_file, declared, device, key, link, peer, snapshot
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.causes.decide import decide
from wg_exporter.causes.facts import Echo, Facts
from wg_exporter.cli.diagnose import assemble, host, progress
from wg_exporter.cli.diagnose.assemble import Known
from wg_exporter.cli.diagnose.choice import ANYWHERE, ChoiceError, Chosen, choose, leading_to
from wg_exporter.cli.diagnose.echoes import OUTSIDE_MOST, Inside, Knocks, Outside, lost_ratio
from wg_exporter.cli.diagnose.enough import (
    AGAIN,
    DATA,
    HANDSHAKES,
    LIKELY,
    LIKELY_STEADY,
    LONGEST,
    MEASURED,
    STEADY,
    Progress,
    enough,
)
from wg_exporter.cli.diagnose.packets import Keys, described
from wg_exporter.cli.diagnose.result import FAULT, FINE, NOT_LOOKED, Result, to_json
from wg_exporter.cli.diagnose.screen import show
from wg_exporter.cli.pcap import Caught
from wg_exporter.config import Config, PeerConfig
from wg_exporter.health.states import PeerHealth, Reason, State
from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.model import Backend, FailedDevice, SourceName
from wg_exporter.prober.mtu.probes import Layer
from wg_exporter.prober.wire.sockets import open_here
from wg_exporter.sighted import Caller, Callers, Refusal, Sender, Sighting
from wg_exporter.status.rows import DeviceRow, Overview, PeerRow, Teller

KEY = ("", "wg0", key(1))
OWN = ("10.0.0.250/24",)
LINKS = (link(addresses=OWN),)
DESCRIBED = conf_file("wg0", declared(1, "berlin", "vpn.example.org:51820"), declared(2, "paris"))


# --- whom it is about -------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(rig):
    """A look at a host: `seen(devices, conf=..., ...)`."""

    def look(*devices, links=LINKS, conf=(DESCRIBED,), failed=(), config=None):
        rig.host.devices, rig.host.links, rig.host.conf, rig.host.failed = devices, links, conf, failed
        return rig.exporter(config).look()

    return look


def told(*rows: DeviceRow) -> Overview:
    """What an exporter that runs says."""
    return Overview(WALL, rows, (), (), teller=Teller("1", "host", "", WALL))


@pytest.mark.parametrize("wanted", ["berlin", key(1), key(1)[:6]])
@pytest.mark.parametrize("interface", [None, "wg0"])
def test_a_peer_is_named_by_its_name_its_key_or_the_start_of_it(seen, wanted, interface):
    chosen = choose(*seen(device(peer(1), peer(2))), (interface, wanted))
    assert chosen.key == KEY
    assert (chosen.name, chosen.target, chosen.provoke) == ("berlin", "10.0.0.1", "10.0.0.1")
    assert chosen.conf_peer == DESCRIBED.peers[0]
    assert chosen.endpoint == "192.0.0.1"
    assert not chosen.told


def test_an_interface_with_a_single_peer_is_that_peer(seen):
    assert choose(*seen(device(peer(1))), (None, "wg0")).key == KEY
    with pytest.raises(ChoiceError, match=r"^wg0 has 2 peers; name one: berlin, paris$"):
        choose(*seen(device(peer(1), peer(2))), (None, "wg0"))


def test_nobody_and_several_are_an_error_of_one_line(seen):
    with pytest.raises(ChoiceError, match="no WireGuard interface and no peer rome; there is: wg0"):
        choose(*seen(device(peer(1))), (None, "rome"))
    twice = conf_file("wg0", declared(1, "berlin"), declared(2, "berlin"))
    with pytest.raises(ChoiceError, match="several peers are called berlin; say which: "):
        choose(*seen(device(peer(1), peer(2)), conf=(twice,)), (None, "berlin"))
    with pytest.raises(ChoiceError, match="no WireGuard device here") as raised:
        choose(*seen(links=(), conf=()), (None, "x"))
    assert "show" not in str(raised.value)


def test_without_permission_one_line_says_what_to_do(rig):
    rig.host.devices, rig.host.links, rig.host.conf = (), (), ()
    rig.host.problems[SourceName.KERNEL] = DeniedError("reading WireGuard devices needs CAP_NET_ADMIN")
    with pytest.raises(ChoiceError, match=r"CAP_NET_ADMIN; run: sudo wg-exporter diagnose$"):
        choose(*rig.exporter().look(), (None, "berlin"))


def test_names_that_would_drive_a_terminal_are_harmless_in_an_error(seen):
    with pytest.raises(ChoiceError) as raised:
        choose(*seen(device(peer(1))), (None, "\x1b[31mred\nline"))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("devices", "links", "failed", "reason"),
    [
        ((), (), (), Reason.INTERFACE_GONE),
        ((device(peer(2)),), (link(),), (), Reason.MISSING),
        ((), (link(kind="tun"),), (FailedDevice("", "wg0", Backend.USERSPACE, "hangs"),), Reason.UNREADABLE),
    ],
)
def test_a_peer_that_only_a_file_knows_is_missed(seen, devices, links, failed, reason):
    chosen = choose(*seen(*devices, links=links, failed=failed), (None, "berlin"))
    assert chosen.key == KEY
    assert chosen.health.reason is reason
    assert chosen.peer is None
    facts = assemble.facts(Known(chosen, 0.0, WALL, snapshot(), snapshot()))
    expected = {
        Reason.INTERFACE_GONE: Cause.INTERFACE_GONE,
        Reason.MISSING: Cause.PEER_MISSING,
        Reason.UNREADABLE: Cause.DAEMON_HANGS,
    }
    assert decide(facts).cause is expected[reason]


def test_what_a_device_has_other_than_its_file_is_known(seen):
    file = conf_file("wg0", declared(1, "berlin", allowed_ips=("10.0.0.9/32",)), declared(3, "rome"))
    chosen = choose(*seen(device(peer(1)), conf=(file,)), (None, "berlin"))
    facts = assemble.facts(Known(chosen, 0.0, WALL, snapshot(), snapshot()))
    assert {(one.kind, one.key) for one in facts.drift} >= {("allowed_ips", key(1)), ("peer_missing", key(3))}
    missing = choose(*seen(device(peer(1)), conf=(file,)), (None, "rome"))
    found = decide(assemble.facts(Known(missing, 0.0, WALL, snapshot(), snapshot())))
    assert found.cause is Cause.PEER_MISSING
    assert "has it as rome, and wg0 does not" in found.evidence[-1]
    assert choose(*seen(device(peer(1)), conf=()), (None, key(1))).drift is None


def test_what_the_exporter_knows_of_a_device_that_is_gone_counts(seen):
    gone = PeerHealth(State.DOWN, Reason.INTERFACE_GONE, changed_at=WALL, evidence="wg0 is gone")
    row = PeerRow(peer(1), "berlin", True, True, health=gone, gone=True)
    theirs = told(DeviceRow(None, None, None, (row,), ("", "wg0")))
    chosen = choose(*seen(links=(), conf=()), (None, "berlin"), theirs)
    assert (chosen.health, chosen.told) == (gone, True)


def test_the_state_and_the_usual_round_trip_are_those_of_the_exporter(seen):
    from wg_exporter.health.quality import Window

    down = PeerHealth(State.DOWN, Reason.HANDSHAKE_UNANSWERED)
    row = PeerRow(peer(1), "berlin", True, True, health=down, window=Window(0.0, 0.02))
    chosen = choose(*seen(device(peer(1))), ("wg0", "berlin"), told(DeviceRow(device(peer(1)), None, None, (row,))))
    assert (chosen.health, chosen.told, chosen.usual) == (down, True, 0.02)


def test_an_interface_that_is_down_is_seen_at_a_glance(seen):
    chosen = choose(*seen(device(peer(1)), links=(link(up=False, addresses=OWN),)), (None, "berlin"))
    assert chosen.health.reason is Reason.INTERFACE_DOWN


def test_the_address_that_somebody_wrote_down_is_meant_where_none_leads_to_the_peer(seen):
    elsewhere = peer(1, allowed_ips=("10.9.9.0/24",))
    config = Config(peers=(PeerConfig(public_key=key(1), target="10.0.0.1"),))
    chosen = choose(*seen(device(elsewhere), config=config), (None, "berlin"))
    assert (chosen.target, chosen.meant) == ("", "10.0.0.1")
    file = conf_file("wg0", declared(1, "berlin", allowed_ips=("10.1.0.0/16", "10.0.0.7/32")))
    assert choose(*seen(device(elsewhere), conf=(file,)), (None, "berlin")).meant == "10.0.0.7"


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (("10.7.0.9/32",), "10.7.0.9"),
        (("10.7.0.0/24",), "10.7.0.1"),
        (("10.7.0.0/24", "10.8.0.3/32"), "10.8.0.3"),
        (("0.0.0.0/0",), "10.0.0.1"),
        (("::/0",), ANYWHERE[6]),
        (("10.0.0.250/32",), ""),
        ((), ""),
        (("10.0.0.2/32",), ""),  # the other peer has it
    ],
)
def test_a_packet_that_provokes_goes_to_an_address_of_this_peer_alone(allowed, expected):
    other = peer(2, allowed_ips=("10.0.0.2/32",))
    rows = device(peer(1, allowed_ips=allowed), other)
    assert leading_to(rows, rows.peers[0], OWN) == expected


@settings(deadline=None)
@given(st.lists(st.ip_addresses(network="10.0.0.0/24").map(lambda one: f"{one}/32"), max_size=3))
def test_whatever_is_allowed_the_address_is_one_of_it(allowed):
    rows = device(peer(1, allowed_ips=tuple(dict.fromkeys(allowed))))
    found = leading_to(rows, rows.peers[0], OWN)
    assert found == "" or f"{found}/32" in allowed


# --- from looks to facts ----------------------------------------------------------------------------------------------

CHOSEN = Chosen(KEY, "berlin", device(peer(1)), link(addresses=OWN), peer(1), True, "10.0.0.1", provoke="10.0.0.1")


def known(before=None, after=None, seconds=5.0, **more) -> Known:
    """A diagnosis for so many seconds, in which the peer's row moved from one to the other."""
    rows = before or peer(1), after or before or peer(1)
    looks = [
        snapshot(device(row, peer(2)), at=at, links=(link(),)) for row, at in zip(rows, (0.0, seconds), strict=True)
    ]
    return Known(CHOSEN, seconds, WALL + seconds, *looks, provoked=True)._replace(**more)


def inside(answered=0, sent=10, **more) -> Inside:
    return Inside(Echo("10.0.0.1", sent, answered), None, None, (), None)._replace(**more)


def sighting(**more) -> Sighting:
    return Sighting(0.0, 5.0, **more)


def test_growth_is_counted_from_the_first_look_to_the_last():
    facts = assemble.facts(known(peer(1), peer(1, rx_bytes=1001 + 32, tx_bytes=2001 + 148)))
    assert (facts.received_bytes, facts.sent_bytes, facts.seconds) == (32, 148, 5.0)
    restarted = assemble.facts(known(peer(1), peer(1, rx_bytes=0)))
    assert restarted.received_bytes is None


def test_a_handshake_is_a_stamp_that_moved_by_more_than_it_wobbles():
    stamp = int(WALL) * SECOND
    row = peer(1, last_handshake_ns=stamp)
    assert not assemble.moved(row, peer(1, last_handshake_ns=stamp + 1000))
    assert assemble.moved(row, peer(1, last_handshake_ns=stamp + 5 * SECOND))
    assert assemble.moved(peer(1), row)
    assert not assemble.moved(None, row)


@pytest.mark.parametrize(
    ("more", "session"),
    [
        ({"inside": inside(answered=1)}, True),
        ({"inside": inside(), "knocked": True}, True),
        ({"handshakes": 1}, True),
        ({"sighting": sighting()}, None),
        ({"sighting": sighting(initiations_sent=2)}, False),
        ({"sighting": sighting(initiations_received=2)}, False),
        ({"sighting": sighting(misdirected=2)}, False),
        ({"sighting": sighting(initiations_sent=1, sent_at=(4.2,))}, None),  # it may be answered yet
        ({"sighting": sighting(initiations_sent=1, sent_at=(3.0,))}, False),
        ({"sighting": sighting(initiations_sent=1, sent_at=(3.0,), answered=1)}, None),
        ({}, None),
    ],
)
def test_whether_there_is_a_session_follows_from_what_was_seen(more, session):
    assert assemble.facts(known(**more)).session is session


def test_an_answer_of_another_address_is_none_of_the_target():
    without = known(inside=inside(answered=3))._replace(
        chosen=CHOSEN._replace(target="", why_no_target="networks only")
    )
    facts = assemble.facts(without)
    assert facts.answered is None
    assert facts.echo is None


@pytest.mark.parametrize(
    ("health", "more", "state"),
    [
        (PeerHealth(State.DOWN, Reason.HANDSHAKE_UNANSWERED), {"inside": inside(answered=3)}, None),
        (PeerHealth(State.DOWN, Reason.HANDSHAKE_UNANSWERED), {"provoked": False}, State.DOWN),
        (PeerHealth(State.DEGRADED, Reason.LOSSY), {"inside": inside(answered=3)}, State.DEGRADED),
        (PeerHealth(State.UP), {"inside": inside(), "after": peer(1, rx_bytes=9000)}, State.UP),
        (PeerHealth(State.UP), {"inside": inside()}, None),  # nothing came from it since
        (PeerHealth(State.DOWN, Reason.INTERFACE_DOWN), {"inside": inside()}, State.DOWN),
        (PeerHealth(), {"inside": inside()}, None),
    ],
)
def test_what_the_exporter_said_holds_until_we_know_better(health, more, state):
    after = more.pop("after", None)
    facts = assemble.facts(known(None, after, **more)._replace(chosen=CHOSEN._replace(health=health)))
    assert facts.state is state


def test_ages_of_handshakes():
    shaken = peer(1, last_handshake_ns=int(WALL - 60) * SECOND)
    assert assemble.facts(known(shaken, seconds=6.0)).shaken_seconds == pytest.approx(66, abs=0.1)
    assert assemble.facts(known(shaken, seconds=5.0)).shaken_seconds is None  # it says nothing of now
    assert assemble.facts(known(shaken, handshakes=1)).shaken_seconds == pytest.approx(65, abs=0.1)
    assert assemble.facts(known(peer(1, last_handshake_ns=0), seconds=6.0)).shaken_seconds == inf
    assert assemble.facts(known(inside=inside(answered=1))).heard_seconds == 0.0


def test_that_nobody_calls_is_not_said_in_the_first_moments():
    nobody = Callers(("", "wg0"), ())
    assert assemble.facts(known(callers=nobody, sighting=sighting())).callers is None
    late = sighting()._replace(seconds=6.5)
    assert assemble.facts(known(callers=nobody, sighting=late)).callers == nobody
    somebody = Callers(("", "wg0"), (Caller(Sender("192.0.2.9", 1, "eth0", 1), True, b""),))
    assert assemble.facts(known(callers=somebody, sighting=sighting())).callers == somebody


def test_other_peers_that_are_heard_are_counted():
    rows = known()
    quiet = assemble.facts(rows)
    assert quiet.others_received == 0
    last = snapshot(device(peer(1), peer(2, rx_bytes=1002 + 500)), at=5.0, links=(link(),))
    assert assemble.facts(rows._replace(last=last)).others_received == 500


def test_packets_into_the_interface_are_counted_where_the_daemon_reads_them():
    rows = known()
    assert assemble.facts(rows).entered_packets is None  # the kernel's device counts other things
    userspace = device(peer(1), backend=Backend.USERSPACE)
    last = snapshot(userspace, at=5.0, links=(link(tx_packets=15),))
    assert assemble.facts(rows._replace(last=last)).entered_packets == 3


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [("vpn.example.org:51820", "vpn.example.org"), ("192.0.2.1:51820", ""), ("[2001:db8::1]:5", ""), ("", "")],
)
def test_the_host_name_of_an_endpoint(endpoint, name):
    assert assemble.host_name(endpoint) == name


@pytest.mark.parametrize(
    ("changes", "ratio"),
    [
        ({"sent": 19}, None),
        ({"sent": 20}, 0.0),
        ({"sent": 20, "lost": 1}, None),  # one of twenty is no rate
        ({"sent": 60, "lost": 3}, 0.05),
        ({"sent": 20, "lost": 2, "late": 2}, 0.0),  # slow, not lost
        ({"sent": 40, "extra_sent": 20, "lost": 6, "extra_lost": 6}, 0.2),
    ],
)
def test_a_loss_is_told_when_there_were_enough_echoes(changes, ratio):
    none = {"sent": 0, "lost": 0, "late": 0, "extra_sent": 0, "extra_lost": 0}
    assert lost_ratio(STATS._replace(**(none | changes))) == ratio


# --- when enough is known ---------------------------------------------------------------------------------------------

PORT = Finding(Cause.PORT_UNREACHABLE, Confidence.CERTAIN)
GUESS = Finding(Cause.SILENT, Confidence.LIKELY)
NOTHING = Finding(Cause.UNKNOWN, Confidence.POSSIBLE)


def row(**more) -> Facts:
    return Facts(KEY, **more)


@pytest.mark.parametrize(
    ("progress", "facts", "finding", "over"),
    [
        (Progress(0.5, 0.5), row(), PORT, False),
        (Progress(1.5, STEADY - 0.1), row(), PORT, False),
        (Progress(1.5, STEADY), row(), PORT, True),
        (Progress(1.5, STEADY, ready=False), row(), PORT, False),
        (Progress(1.5, 1.5), row(), GUESS, False),
        (Progress(LIKELY - 0.1, 3.0), row(), GUESS, False),
        (Progress(LIKELY, LIKELY_STEADY - 0.1), row(), GUESS, False),
        (Progress(LIKELY, LIKELY_STEADY), row(), GUESS, True),
        (Progress(LIKELY, LIKELY_STEADY), row(), NOTHING, False),
        (Progress(HANDSHAKES, 1.0), row(session=False), GUESS, True),
        (Progress(HANDSHAKES, 1.0), row(session=False), NOTHING, True),
        (Progress(HANDSHAKES, 1.0), row(session=False, sighting=sighting(initiations_received=1)), NOTHING, False),
        (Progress(HANDSHAKES, 1.0), row(session=False, sighting=sighting(initiations_received=2)), NOTHING, True),
        (Progress(AGAIN, 1.0), row(session=False, sighting=sighting(misdirected=1)), NOTHING, True),
        (Progress(HANDSHAKES, 1.0), row(session=True, received_bytes=0), NOTHING, False),
        (Progress(DATA, 1.0), row(session=True, received_bytes=0), NOTHING, True),
        (Progress(HANDSHAKES, 1.0), row(session=True, received_bytes=32, sighting=sighting()), NOTHING, True),
        (Progress(1.5, 1.0, answering=0.5), row(answered=True), NOTHING, False),
        (Progress(3.5, 1.0, answering=2.5, measured=True), row(answered=True), NOTHING, True),
        (
            Progress(1.5, STEADY, answering=0.5),
            row(answered=True),
            Finding(Cause.ROUTED_ELSEWHERE, PORT.confidence),
            True,
        ),
        (Progress(9.0, 1.0, answering=MEASURED), row(answered=True), NOTHING, True),
        (Progress(LONGEST, 0.0), row(session=True), NOTHING, True),
    ],
)
def test_it_ends_when_enough_is_known(progress, facts, finding, over):
    assert enough(progress, facts, finding) is over


@settings(deadline=None)
@given(
    st.builds(Progress, st.floats(LONGEST, 100), st.floats(0, 10), st.none() | st.floats(0, 100)),
    st.sampled_from([PORT, GUESS, NOTHING]),
)  # fmt: skip
def test_it_always_ends(progress, finding):
    assert enough(progress, row(), finding)


# --- what is said -----------------------------------------------------------------------------------------------------

FINDING = Finding(
    Cause.PORT_UNREACHABLE,
    Confidence.LIKELY,
    ("192.0.2.1 answered \x1b[31m",),
    ((Cause.NO_ROUTE, "there is one"),),
    (Cause.SILENT,),
    ("`wg set wg0 peer X`", "Then look there."),
    "Only the far side knows.",
)


def printed(result: Result, width: int = 80) -> str:
    out = StringIO()
    show(result, Console(file=out, width=width, highlight=False, markup=False))
    return out.getvalue()


def test_the_result_begins_with_the_cause_and_has_all_parts():
    text = printed(Result(CHOSEN, FINDING, 3.21, ("the firewall",)))
    assert text.startswith("! wg0 berlin  port_unreachable  likely  3.2 s\n")
    for part in ("What shows it:", "It may also be:", "What it is not:", "What to do:", "What remains uncertain:"):
        assert part in text
    assert "\n    wg set wg0 peer X\n" in text
    assert "Not looked at: the firewall." in text
    assert "\x1b" not in text
    assert "\\x1b[31m" in text


def test_commands_are_never_wrapped():
    finding = FINDING._replace(fix=("`" + "word " * 40 + "end`",))
    assert "word " * 40 + "end" in printed(Result(CHOSEN, finding, 1.0), width=40)


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_has_its_text_and_its_exit_code(cause):
    result = Result(CHOSEN, FINDING._replace(cause=cause), 1.0)
    assert cause.value in printed(result)
    assert result.exit_code == (
        FINE if cause in (Cause.FINE, Cause.IDLE) else NOT_LOOKED if cause is Cause.UNKNOWN else FAULT
    )


def test_a_script_gets_an_object():
    found = json.loads(to_json(Result(CHOSEN._replace(name="b\x1b"), FINDING, 3.21234)))
    assert found["cause"] == "port_unreachable"
    assert found["confidence"] == "likely"
    assert found["excluded"] == [{"cause": "no_route", "because": "there is one"}]
    assert found["also"] == ["silent"]
    assert found["fix"] == ["wg set wg0 peer X", "Then look there."]
    assert found["uncertain"] == ["Only the far side knows."]
    assert found["elapsed_seconds"] == 3.212
    assert to_json(Result(CHOSEN._replace(name="b\x1b"), FINDING, 1.0)).isascii()


def test_each_line_of_progress_is_told_once():
    facts = row(provoked=True, target="10.0.0.1", endpoint="192.0.2.1:1", sighting=sighting(initiations_sent=1))
    first = list(progress.lines(facts))
    assert first == ["sent an echo to 10.0.0.1 into wg0", "an initiation left this host for 192.0.2.1:1"]
    refused = facts._replace(sighting=sighting(initiations_sent=2, refusals=(Refusal("192.0.2.1", False, 3, 3, 1, 1),)))
    assert list(progress.lines(refused, frozenset(first))) == [
        "a second one left, as nothing came back",
        "192.0.2.1 refuses what we send (ICMP 3/3)",
    ]


# --- packets in words -------------------------------------------------------------------------------------------------

US, THEM = party(bytes(range(32))), party(bytes(range(1, 33)))
KEYS = Keys(US.public, THEM.public)


def ipv4(data: bytes, protocol: int, source: bytes, target: bytes) -> bytes:
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 0, 0, 64, protocol, 0, source, target)


def caught(payload: bytes, *, outgoing=False, at=WALL + 1.5) -> Caught:
    datagram = struct.pack("!HHHH", 51820, 51820, 8 + len(payload), 0) + payload
    head = ipv4(datagram, 17, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    return Caught(at, "eth0", Layer.OUTER, outgoing, head + datagram, b"")


def test_packets_are_told_with_whom_they_are_made_for_and_what_they_answer():
    ours = caught(initiation(US, THEM.public_bytes, WALL, sender=7), outgoing=True)
    answer = caught(response(7, 8, US.public_bytes))
    strange = caught(response(9, 8, US.public_bytes))
    lines = list(described([ours, answer, strange], KEYS, WALL))
    assert lines[0].startswith("  1.500 s  eth0       out 192.0.2.1:51820 > 192.0.2.2:51820  initiation 0x00000007: ")
    assert lines[0].endswith("made for the peer's key (mac1)")
    assert lines[1].endswith("to an initiation of ours that was seen leaving")
    assert lines[2].endswith("to nothing that was seen leaving")
    (other,) = described([caught(initiation(THEM, THEM.public_bytes, WALL))], KEYS, WALL)
    assert other.endswith("made for another key than our key (mac1)")
    (load,) = described([caught(cookie_reply(7))], KEYS, WALL)
    assert "the far side is under load" in load


def test_errors_are_told_in_words():
    quoted = caught(initiation(US, THEM.public_bytes, WALL)).data
    icmp = struct.pack("!BBHI", 3, 3, 0, 0) + quoted
    head = ipv4(icmp, 1, bytes([192, 0, 2, 9]), bytes([192, 0, 2, 1]))
    (line,) = described([Caught(WALL, "eth0", Layer.OUTER, False, head + icmp, b"")], KEYS, WALL)
    assert line.endswith("ICMP 3/3, port unreachable: it quotes a message of ours")


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_whatever_was_caught_is_one_line(data):
    (line,) = described([Caught(WALL, "eth0", Layer.OUTER, False, data, b"")], KEYS, WALL)
    assert "\n" not in line
    (line,) = described([caught(data)], KEYS, WALL)
    assert "\n" not in line


# --- the background ---------------------------------------------------------------------------------------------------


def test_a_question_that_hangs_holds_up_nobody():
    job = host.Job("slow", lambda: time.sleep(5))
    assert job.wait(0.01) is None
    assert not job.done


def test_what_goes_wrong_in_the_background_is_said():
    def fail():
        raise SourceError("the resolver is gone")

    job = host.Job("fails", fail)
    job.wait(30)
    assert (job.done, job.problem) == (True, "the resolver is gone")
    repeated = host.Repeated("fails", fail, 0.01)
    assert repeated.wait(30) is None
    assert repeated.problem == "the resolver is gone"


def test_what_nobody_foresaw_is_said_without_what_was_read(capsys):
    def fail():
        raise KeyError("secret")

    job = host.Job("fails", fail)
    job.wait(30)
    assert job.problem == "unexpected KeyError"
    assert "Traceback" not in capsys.readouterr().err


def test_once_more_is_an_answer_to_a_question_that_was_asked_later():
    count = iter(range(10_000))
    repeated = host.Repeated("counts", lambda: next(count), 0.01)
    try:
        assert repeated.wait(30) == 0
        before = repeated.last
        assert repeated.once_more(5) >= before + 2
        assert repeated.first == 0
    finally:
        repeated.stop()


def test_a_name_that_is_none_resolves_to_nothing_and_an_address_to_itself():
    assert host.resolve("192.0.2.7") == host.Resolved(("192.0.2.7",))
    assert host.resolve("a" * 80 + ".invalid").addresses == ()


# --- sockets of this host alone ---------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root: raw sockets need CAP_NET_RAW")


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_host_that_refuses_a_closed_port_is_there(address):
    knocks = Knocks(address, "", "lo", open_here)
    try:
        assert eventually(lambda: knocks.step(time.monotonic()) or knocks.answered, within=30)
    finally:
        knocks.close()


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_pings_outside_the_tunnel_are_counted_with_their_answers(address):
    outside = Outside(address, "", 0, open_here)
    try:
        eventually(lambda: outside.step(time.monotonic()) or outside.echo().answered == OUTSIDE_MOST, within=30)
        assert outside.echo() == Echo(address, OUTSIDE_MOST, OUTSIDE_MOST)
    finally:
        outside.close()


@needs_root
def test_without_a_way_into_a_namespace_nothing_is_left_open():
    with pytest.raises(OSError, match="no way into"):
        Knocks("127.0.0.1", "blue", "lo", open_here)
