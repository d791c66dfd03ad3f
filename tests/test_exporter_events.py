"""What the exporter makes events of, end to end but for the network: one row, in the journal, the log and the page."""

from __future__ import annotations

import json
import logging

import pytest

from tests.probers import Unwatched
from tests.rows import WALL, conf_file, declared, device, key, link, peer, probed
from tests.serving import eventually
from wg_exporter.config import Config, Interfaces, Metrics
from wg_exporter.daemon.happened import Happened
from wg_exporter.daemon.reloads import Reloads
from wg_exporter.daemon.serve import _Application
from wg_exporter.drift.kinds import Drift
from wg_exporter.drift.kinds import Kind as Difference
from wg_exporter.events import Kind, Life, Process
from wg_exporter.events.asked import Asked
from wg_exporter.events.words import sentence
from wg_exporter.linux.storage import open_storage
from wg_exporter.model import ConfDevice
from wg_exporter.probed import MtuReport, Verdict

OK = MtuReport(Verdict.OK, 1420, 1420, 1500, 0, 1480, 1420, None, "", WALL)
NARROW = MtuReport(Verdict.FRAGMENTED_PATH, 1420, 1340, 1400, 0, 1480, 1340, None, "198.51.100.7", WALL)


class Prober(Unwatched):
    """Knows what a test says it knows."""

    def __init__(self):
        self.rows = {}

    def results(self):
        return self.rows

    def configure(self, config):
        pass

    def set_peers(self, peers):
        pass

    def counters(self, rows):
        pass

    def scheduling_delay(self):
        return None

    def usages(self):
        return ()

    def stop(self):
        pass


def happened(exporter, *kinds):
    """The events of these kinds, but not those of the exporter itself."""
    every = [one for one in exporter.journal.read()[0] if one.process is not Process.EXPORTER]
    return [one for one in every if not kinds or one.kind in kinds]


def said(exporter, *kinds):
    return [sentence(one) for one in happened(exporter, *kinds)]


def asked(exporter, *, private):
    """What is answered over HTTP."""
    data, _number = _Application(exporter, Reloads(exporter.reload)).events(Asked(), private=private)
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    return lambda event: [line for line in caplog.records if line.getMessage() == event]


# --- what becomes an event --------------------------------------------------------------------------------------------


def test_who_goes_down_and_comes_back_is_told_with_why_and_nobody_who_is_well_at_the_start(rig, lines):
    exporter = rig.exporter()
    for _ in range(12):
        rig.tick(exporter)
    (down,) = happened(exporter, Kind.STATE)
    (line,) = lines("peer changed")
    assert (down.interface, down.public_key, down.after) == ("wg0", key(1), "down")
    assert (down.evidence, down.reason) == (line.fields["evidence"], line.fields["reason"])
    assert (down.level, line.levelname) == ("warn", "WARNING")
    rig.tick(exporter, device(peer(1, rx_bytes=5000, last_handshake_ns=int(rig.time.wall * 1e9)), peer(2)))
    rig.tick(exporter)
    assert [(one.before, one.after) for one in happened(exporter, Kind.STATE)] == [("", "down"), ("down", "up")]


def test_a_peer_that_roams_is_told_with_both_endpoints_and_one_that_has_none_yet_is_not(rig, lines):
    exporter = rig.exporter()
    rig.tick(exporter, device(peer(1, endpoint=""), peer(2)))
    rig.tick(exporter, device(peer(1), peer(2)))
    assert happened(exporter, Kind.ROAMING) == []
    rig.tick(exporter, device(peer(1), peer(2, endpoint="198.51.100.9:7")))
    rig.tick(exporter)
    rig.tick(exporter)
    (one,) = happened(exporter, Kind.ROAMING)
    assert (one.public_key, one.before, one.after) == (key(2), "192.0.0.2:51820", "198.51.100.9:7")
    (line,) = lines("peer roamed")
    assert (line.fields["before"], line.fields["after"], line.levelname) == (one.before, one.after, "INFO")


def test_scrapes_make_no_events(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    rig.host.devices = [device(peer(1, endpoint="198.51.100.9:7"))]
    for _ in range(5):
        exporter.scrape("")
    assert happened(exporter, Kind.ROAMING) == []
    rig.tick(exporter)
    assert len(happened(exporter, Kind.ROAMING)) == 1


def test_another_verdict_on_an_mtu_is_told_and_a_silence_in_between_is_none(rig, lines):
    prober = Prober()
    exporter = rig.exporter(prober=prober)

    def know(report):
        prober.rows = {("", "wg0"): {key(1): probed("10.0.0.1", report)}}
        rig.tick(exporter)

    for report in (
        None,
        OK,
        OK._replace(verdict=Verdict.UNREACHABLE),
        OK,
        NARROW,
        NARROW._replace(verdict=Verdict.UNKNOWN),
        NARROW._replace(verdict=Verdict.INCONCLUSIVE),
        NARROW._replace(path_outer=1390),
        OK,
    ):
        know(report)
    prober.rows = {}
    rig.tick(exporter)
    know(OK)
    first, second = happened(exporter, Kind.MTU)
    assert (first.before, first.after, second.before, second.after) == ("", "fragmented_path", "fragmented_path", "ok")
    assert "1400 bytes of the 1480 needed" in first.evidence
    assert "198.51.100.7" not in first.evidence, "a router is not for everybody"
    assert len(lines("MTU verdict changed")) == 2


def test_a_device_that_differs_from_its_file_is_told_once_and_once_more_when_it_does_not(rig, lines):
    exporter = rig.exporter()
    peers = (declared(n, allowed_ips=(f"10.0.0.{n}/32",), persistent_keepalive=25 * (n == 1)) for n in (1, 2))
    file = conf_file("wg0", *peers)._replace(device=ConfDevice(mtu=1380))
    rig.host.conf = (file._replace(device=ConfDevice(mtu=1420)),)
    rig.tick(exporter)
    assert happened(exporter, Kind.DRIFT) == []
    rig.host.conf = (file,)
    for _ in range(3):
        rig.tick(exporter)
    rig.host.conf = ()  # it can't be read for a moment: nobody knows
    rig.tick(exporter)
    rig.host.conf = (file._replace(device=ConfDevice(mtu=1420)),)
    rig.tick(exporter)
    path = file.path
    assert said(exporter, Kind.DRIFT) == [f"wg0: differs from {path}: mtu 1", f"wg0: as {path} says again (was mtu 1)"]
    assert [line.fields["file"] for line in lines("drift changed")] == [path, path]


def test_a_quiet_is_told_when_it_begins_and_ends_and_so_is_that_a_peer_was_quiet(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    asked_for = {"interface": "wg0", "public_key": key(1), "seconds": "120", "reason": "new router"}
    exporter.quiets.begin(asked_for, exporter.name_of)
    for _ in range(30):
        rig.tick(exporter)
    told = happened(exporter, Kind.QUIET, Kind.STATE)  # causes are found in the background
    assert [(one.kind, one.after, one.quiet) for one in told] == [
        (Kind.QUIET, "begun", False), (Kind.STATE, "down", True), (Kind.QUIET, "ended", False)
    ]  # fmt: skip
    assert told[1].level == "info"
    assert told[0].until == WALL + 125
    assert told[0].evidence == "new router"
    assert told[2].evidence == "its time is over"


def test_a_reload_is_told_and_why_there_was_none(rig, tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("{}")
    exporter = rig.exporter(Config(), path)
    exporter.reload()
    path.write_text("no_such_key: 1\nnor_this: 2\n")
    exporter.reload()
    first, second = said(exporter, Kind.RELOAD)
    assert first == "configuration reloaded"
    assert second.startswith("configuration not reloaded: ")
    assert second.endswith("(and 1 more)")


def test_a_cause_that_was_found_is_told_beside_the_state(rig):
    rig.host.links = [link(up=False)]
    exporter = rig.exporter()
    for _ in range(8):
        rig.tick(exporter)
    (one,) = [one for one in happened(exporter, Kind.STATE) if one.public_key == key(1)]
    assert (one.reason, one.cause) == ("interface_down", "interface_down")


def test_the_start_and_the_end_of_the_exporter_are_told_across_restarts(rig, tmp_path):
    def lived():
        storage = open_storage(str(tmp_path))
        exporter = rig.exporter(storage=storage, every=60)
        exporter.start()
        exporter.stop()
        storage.close()
        return [(one.after, one.reason) for one in exporter.journal.read()[0]]

    assert lived() == [(Life.STARTED, ""), (Life.STOPPED, "")]
    assert lived() == [(Life.STARTED, ""), (Life.STOPPED, "")] * 2


def test_ten_thousand_peers_that_lose_their_interface_are_one_event_and_the_night_before_stays(rig):
    rig.host.devices = [device(*(peer(n) for n in range(10_000)))]
    rig.host.links = [link()]
    exporter = rig.exporter()
    rig.tick(exporter)
    exporter.journal.process(Process.PROBER, Life.FAILED, "was killed by SIGKILL")
    rig.host.links = [link(up=False)]
    for _ in range(8):
        rig.tick(exporter)
    first, *others = happened(exporter, Kind.PROCESS, Kind.STATE, Kind.REASON)
    assert first.process is Process.PROBER
    assert {one.peers for one in others} == {10_000}
    assert len(others) <= 2
    assert others[-1].reason == "interface_down"


# --- to whom it is told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["full", "address", "off"])
def test_over_tcp_there_is_no_address_that_the_status_document_does_not_have(rig, wish):
    exporter = rig.exporter(Config(metrics=Metrics(endpoint=wish)))
    rig.tick(exporter)
    rig.tick(exporter, device(peer(1, endpoint="198.51.100.9:7"), peer(2, persistent_keepalive=0)))
    exporter.journal.process(Process.READER, Life.FAILED, "could not be started: /secret/path")
    status = exporter.document(private=False).decode()
    events = json.dumps(asked(exporter, private=False))
    for text in ("198.51.100.9", "198.51.100.9:7"):
        assert (text in events) is (text in status)
    assert "/secret/path" not in events
    own = json.dumps(asked(exporter, private=True))
    assert "198.51.100.9:7" in own
    assert "/secret/path" in own


def test_an_interface_that_a_reload_hides_is_not_told_of_to_strangers_any_more(rig, tmp_path):
    path = tmp_path / "config.yml"
    path.write_text("interfaces: {exclude: [wg0]}")
    exporter = rig.exporter(Config(interfaces=Interfaces()), path)
    rig.tick(exporter)
    rig.tick(exporter, device(peer(1, endpoint="198.51.100.9:7")))
    assert [one["kind"] for one in asked(exporter, private=False)] == ["roaming"]
    assert exporter.reload() == ""
    assert [one["kind"] for one in asked(exporter, private=False)] == ["reload"]
    assert [one["kind"] for one in asked(exporter, private=True)] == ["roaming", "reload"]


def test_whatever_a_peer_is_called_its_event_is_ascii_and_one_line(rig):
    bad = 'b\u202e"\x1b[2J<script>\n\u00fc'
    rig.host.conf = (conf_file("wg0", declared(1, bad)),)
    exporter = rig.exporter()
    rig.tick(exporter)
    rig.tick(exporter, device(peer(1, endpoint="198.51.100.9:7")))
    data, _ = _Application(exporter, Reloads(exporter.reload)).events(Asked(), private=True)
    assert data.isascii()
    assert all(byte >= 0x20 or byte == 0x0A for byte in data)
    (one,) = [row for row in map(json.loads, data.splitlines()) if row["kind"] == "roaming"]
    assert one["name"] == 'b?"?[2J<script>?\u00fc'


def test_who_follows_is_told_by_the_tick(rig):
    exporter = rig.exporter()
    calls = []
    exporter.journal.listen(lambda: calls.append(1))
    rig.tick(exporter)
    assert calls == []
    rig.tick(exporter, device(peer(1, endpoint="198.51.100.9:7")))
    eventually(lambda: bool(calls))


def test_a_kind_of_drift_that_nobody_can_judge_at_the_moment_is_as_it_was():
    made, device_ = Happened(), ("", "wg0")

    def differs(*counts):
        seen = made.look((), lambda _device: (), {}, {device_: Drift("/wg0.conf", counts)}, lambda _device: {})
        return [(one.before, one.after) for one in seen.drifted]

    assert differs((Difference.MTU, 1), (Difference.PRIVATE_KEY, 1)) == [("", "private_key 1, mtu 1")]
    assert differs((Difference.MTU, 1)) == [], "secret keys are looked at now and then"
    assert differs((Difference.MTU, 0)) == [("private_key 1, mtu 1", "private_key 1")]
    assert differs((Difference.MTU, 0), (Difference.PRIVATE_KEY, 0)) == [("private_key 1", "")]
