"""Fast echoes in the exporter: whom it asks, and what it says of them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from tests.lab import eventually
from tests.rigs import found, labelled
from tests.rows import device, key, link, peer
from tests.test_exporter_probing import FakeProber
from wg_exporter.config import Config, Fast, PeerConfig
from wg_exporter.daemon.tracking import DOWN, UP, file_name
from wg_exporter.events import Kind, Level
from wg_exporter.events.words import sentence
from wg_exporter.linux.storage import open_storage
from wg_exporter.linux.trackfiles import open_track_files
from wg_exporter.plan.fast import NO_ANSWER_YET, NO_ENDPOINT, NOT_THERE

FAST = Config(peers=(PeerConfig(key(1), name="berlin", fast=Fast()),))
PEER = ("", "wg0", key(1))
METRIC = "wireguard_probe_fast_up"


class FastProber(FakeProber):
    """Says of fast echoes what the test says."""

    def __init__(self):
        super().__init__()
        self.asked, self.states, self.changed = None, {}, None

    def ask_fast(self, peers):
        self.asked = peers

    def fast(self):
        return dict(self.states)

    def listen_fast(self, changed):
        self.changed = changed

    def say(self, *, state):
        self.states = {} if state is None else {PEER: state}
        self.changed()


def asking(rig, config=FAST, **more):
    rig.host.links = [link(addresses=("10.0.0.254/8",))]
    prober = FastProber()
    return prober, rig.exporter(config, prober=prober, **more)


def test_without_fast_echoes_the_prober_hears_nothing_of_them(rig):
    prober, exporter = asking(rig, Config())
    exporter.tick()
    assert (prober.asked, prober.changed, exporter.fast.standing(PEER)) == (None, None, None)
    assert found(exporter, METRIC) == {}


def test_a_peer_is_asked_from_the_first_tick_on_and_what_its_echoes_say_is_known_at_once(rig):
    prober, exporter = asking(rig)
    assert exporter.fast.standing(PEER) is None
    exporter.tick()
    assert [row.key for row in prober.asked] == [PEER]
    assert exporter.fast.standing(PEER) == (None, NO_ANSWER_YET)
    assert found(exporter, METRIC) == {}
    for up in (True, False):
        prober.say(state=up)
        assert exporter.fast.standing(PEER) == (up, "")
        assert found(exporter, METRIC) == {labelled(interface="wg0", peer="berlin", target="10.0.0.1"): int(up)}
        peers = json.loads(exporter.document(private=True))["devices"][0]["peers"]
        assert [one["fast_up"] for one in peers] == [up, None]
    assert exporter.fast.standing(("", "wg0", key(2))) is None


def test_a_peer_whose_interface_is_gone_is_down_and_one_that_is_not_wanted_any_more_is_unknown(rig):
    prober, exporter = asking(rig)
    exporter.tick()
    prober.say(state=True)
    rig.host.devices, rig.host.links = [], []
    exporter.tick()
    assert exporter.fast.standing(PEER) == (False, NOT_THERE)
    assert found(exporter, METRIC) == {labelled(interface="wg0", peer="berlin", target="10.0.0.1"): 0}
    assert prober.asked == ()


def test_why_a_peer_has_no_fast_echoes_is_in_the_status_document(rig):
    here = Config(peers=(PeerConfig(key(1), fast=Fast()), PeerConfig(key(2), fast=Fast())))
    prober, exporter = asking(rig, here)
    rig.host.devices = [device(peer(1), peer(2, endpoint=""), peer(3))]
    exporter.tick()
    keys = ("fast_up", "fast_target", "fast_reason")

    def told():
        return [tuple(one[name] for name in keys) for one in status(exporter)["devices"][0]["peers"]]

    without = (False, "10.0.0.2", NO_ENDPOINT)
    assert told() == [(None, "10.0.0.1", NO_ANSWER_YET), without, (None, None, None)]
    prober.say(state=False)
    assert told() == [(False, "10.0.0.1", None), without, (None, None, None)]


def test_where_track_files_are_and_why_they_can_not_be_written_is_in_the_status_document(rig, tmp_path):
    prober, exporter = asking(rig, track_files=open_track_files(str(tmp_path / "track")))
    exporter.tick()
    assert tracked(exporter) == (str(tmp_path / "track"), None)
    Path(tmp_path, "track").rmdir()
    prober.say(state=True)
    eventually(lambda: (tracked(exporter)[1] or "").startswith("it was removed;"), within=30)


def test_a_directory_of_track_files_that_can_not_be_had_is_in_the_status_document(rig, tmp_path):
    _prober, exporter = asking(rig, track_files=open_track_files(str(tmp_path / "none" / "track")))
    exporter.tick()
    directory, problem = tracked(exporter)
    assert directory == str(tmp_path / "none" / "track")
    assert problem.startswith(f"there is no directory {tmp_path}/none; make it")


def test_why_nothing_survives_a_restart_is_in_the_status_document(rig, tmp_path):
    _prober, exporter = asking(rig, storage=open_storage(str(tmp_path / "none")))
    exporter.tick()
    assert status(exporter)["exporter"]["storage_problem"].startswith(f"there is no directory {tmp_path}/none; make it")
    _prober, exporter = asking(rig)
    exporter.tick()
    assert status(exporter)["exporter"]["storage_problem"] is None


def status(exporter):
    return json.loads(exporter.document(private=True))


def tracked(exporter):
    found = status(exporter)["exporter"]
    return found["track_files"], found["track_files_problem"]


def test_track_files_follow_and_the_end_leaves_those_that_say_down(rig, tmp_path):
    prober, exporter = asking(rig, track_files=open_track_files(str(tmp_path / "track")))
    exporter.tick()
    file = Path(tmp_path, "track", file_name(PEER))
    prober.say(state=True)
    eventually(lambda: file.exists() and file.read_bytes() == UP, within=30)
    prober.say(state=False)
    eventually(lambda: file.read_bytes() == DOWN, within=30)
    exporter.stop()
    assert file.read_bytes() == DOWN


def test_files_of_an_exporter_before_that_are_nobodys_any_more_are_removed(rig, tmp_path):
    files = open_track_files(str(tmp_path / "track"))
    files.write(file_name(PEER), DOWN)
    _prober, exporter = asking(rig, Config(), track_files=files)
    exporter.tick()
    eventually(lambda: not list(Path(tmp_path, "track").iterdir()), within=30)


def test_a_file_that_says_down_stays_while_its_peer_was_not_met_since_the_start_or_a_reload(rig, tmp_path):
    files = open_track_files(str(tmp_path / "track"))
    files.write(file_name(PEER), DOWN)
    files.write(file_name(("", "wg0", key(2))), DOWN)
    file = Path(tmp_path, "track", file_name(PEER))
    prober, exporter = asking(rig, track_files=files, path=tmp_path / "c.yml", read_config=lambda _path: FAST)
    there, rig.host.devices, rig.host.links = (rig.host.devices, rig.host.links), [], []
    exporter.tick()
    eventually(lambda: [path.name for path in file.parent.iterdir()] == [file.name], within=30)
    assert exporter.fast.standing(PEER) == (None, "no such peer was met here yet")
    assert exporter.fast.standing(("", "wg0", key(2))) is None
    rig.host.devices, rig.host.links = there
    exporter.tick()
    prober.say(state=True)
    eventually(lambda: file.read_bytes() == UP, within=30)
    rig.host.devices, rig.host.links = [], []
    exporter.tick()
    eventually(lambda: file.read_bytes() == DOWN, within=30)
    assert exporter.reload() == ""
    exporter.tick()
    assert exporter.fast.standing(PEER) == (False, NOT_THERE), "it was met before the reload"
    exporter.stop()
    assert file.read_bytes() == DOWN


def test_each_change_is_a_line_of_the_log_and_to_be_up_at_the_start_is_none(rig, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    prober, exporter = asking(rig)
    exporter.tick()
    prober.say(state=True)
    assert "by fast echoes" not in caplog.text
    prober.say(state=False)
    prober.say(state=False)
    prober.say(state=None)
    prober.say(state=False)
    prober.say(state=True)
    lines = [record.getMessage() for record in caplog.records if "by fast echoes" in record.getMessage()]
    assert [line.split()[0] for line in lines] == ["down", "up"]
    rig.host.devices, rig.host.links = [], []
    exporter.tick()
    assert any(getattr(record, "fields", {}).get("problem") == NOT_THERE for record in caplog.records)


def test_each_change_is_an_event_with_the_name_and_what_it_was_before(rig):
    prober, exporter = asking(rig)
    exporter.tick()
    prober.say(state=True)
    for state in (False, False, None, False, True):
        prober.say(state=state)
    rig.host.devices, rig.host.links = [], []
    exporter.tick()
    events = [one for one in exporter.journal.read()[0] if one.kind is Kind.FAST]
    assert [(one.name, one.before, one.after, one.level, one.evidence) for one in events] == [
        ("berlin", "up", "down", Level.WARN, ""),
        ("berlin", "down", "up", Level.INFO, ""),
        ("berlin", "up", "down", Level.WARN, NOT_THERE),
    ]
    assert [sentence(one) for one in events[:2]] == [
        "berlin on wg0: down by fast echoes (was up)",
        "berlin on wg0: up by fast echoes (was down)",
    ]


def test_of_a_peer_that_is_quiet_a_change_is_no_warning(rig, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    prober, exporter = asking(rig)
    exporter.tick()
    exporter.quiets.begin({"interface": "wg0", "seconds": "60"}, exporter.name_of)
    prober.say(state=False)
    (event,) = [one for one in exporter.journal.read()[0] if one.kind is Kind.FAST]
    assert (event.before, event.level, event.quiet) == ("", Level.INFO, True)
    (line,) = [record for record in caplog.records if "by fast echoes" in record.getMessage()]
    assert line.levelno == logging.INFO


def test_a_reload_that_names_another_directory_says_that_it_takes_a_restart(rig, tmp_path, caplog):
    file = tmp_path / "c.yml"
    file.write_text("")
    _prober, exporter = asking(rig, path=file)
    assert exporter.reload() == ""
    assert "track files stay" not in caplog.text
    file.write_text(f"track_files: {tmp_path}/track")
    assert exporter.reload() == ""
    assert "track files stay where they are" in caplog.text
