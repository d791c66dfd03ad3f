"""Quiet in the exporter: what is shown and logged meanwhile, reloads, restarts, renames, and a file of no use."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path

import msgspec
import pytest

from tests.rigs import found, labelled, of
from tests.rows import WALL, device, key, link, peer
from wg_exporter.config import Config
from wg_exporter.daemon import quiets
from wg_exporter.linux.storage import BELOW, Storage, open_storage
from wg_exporter.quiet import MOST
from wg_exporter.quiet.asked import AskedError
from wg_exporter.quiet.file import NAME

PEER = {"interface": "wg0", "public_key": key(1)}
INTERFACE = {"interface": "wg0"}
STATE, PEERS, INTERFACES = "wireguard_peer_state", "wireguard_peer_quiet", "wireguard_interface_quiet"


@pytest.fixture
def kept(tmp_path):
    """Makes storages one after the other, as processes do."""
    made: list[Storage] = []

    def storage() -> Storage:
        for one in made:
            one.close()
        made.append(open_storage(str(tmp_path)))
        return made[-1]

    yield storage
    for one in made:
        one.close()


def begin(exporter, seconds=600, **asked):
    return exporter.quiets.begin({"seconds": str(seconds), **asked}, exporter.name_of)


def told(caplog, *events):
    lines = [(line.getMessage(), line.fields) for line in caplog.records if line.getMessage() in events]
    caplog.clear()
    return lines


def peers_of(exporter):
    document = json.loads(exporter.document(private=False))
    return {one["public_key"]: one["quiet"] for device in document["devices"] for one in device["peers"]}


# --- while it is quiet ------------------------------------------------------------------------------------------------


def test_a_quiet_peer_keeps_its_state_and_is_shown_as_quiet_everywhere_until_it_ends(rig, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    exporter = rig.exporter()
    rig.tick(exporter)
    assert found(exporter, PEERS) == found(exporter, INTERFACES) == {}
    answer = begin(exporter, **PEER, reason="new router")
    assert (answer.since, answer.until, answer.name) == (WALL + 5, WALL + 605, key(1)[:8])
    assert told(caplog, "quiet begins")[0][1]["until"] == "2023-11-14T22:23:25Z"
    name = labelled(interface="wg0", peer=key(1)[:8])
    assert found(exporter, PEERS) == {name: 1}
    assert found(exporter, INTERFACES) == {}
    shown = peers_of(exporter)
    assert (shown[key(1)]["until"], shown[key(1)]["reason"], shown[key(2)]) == (WALL + 605, "new router", None)
    for _ in range(12):
        rig.tick(exporter)
    assert found(exporter, STATE)[(*name, ("state", "down"))] == 1
    (change,) = [line for line in caplog.records if line.getMessage() == "peer changed"]
    assert (change.levelname, change.fields["quiet"], change.fields["after"]) == ("INFO", True, "down")
    status = exporter.status().summary
    assert (status.down, status.quiet, status.quiet_down) == (1, 1, 1)
    rig.time.advance(600)
    assert found(exporter, PEERS) == {}  # before the next tick
    rig.tick(exporter)
    assert [fields["why"] for _, fields in told(caplog, "quiet ends")] == ["its time is over"]
    assert peers_of(exporter)[key(1)] is None
    assert exporter.status().summary.quiet == 0


def test_a_peer_that_goes_down_is_a_warning_again_once_it_is_not_quiet(rig, caplog):
    exporter = rig.exporter()
    rig.tick(exporter)
    begin(exporter, 10, **PEER)
    for _ in range(12):
        rig.tick(exporter)
    (change,) = [line for line in caplog.records if line.getMessage() == "peer changed"]
    assert change.levelname == "WARNING"
    assert "quiet" not in change.fields


def test_with_an_interface_all_of_its_peers_are_quiet_also_when_it_is_gone(rig):
    rig.host.devices = [device(peer(1), peer(2)), device(peer(3), name="wg1")]
    rig.host.links = [link(), link("wg1", ifindex=8)]
    exporter = rig.exporter()
    rig.tick(exporter)
    begin(exporter, **INTERFACE)
    assert found(exporter, INTERFACES) == {labelled(interface="wg0"): 1}
    assert len(found(exporter, PEERS)) == 2
    rig.host.devices, rig.host.links = rig.host.devices[1:], rig.host.links[1:]
    rig.tick(exporter)
    assert found(exporter, INTERFACES) == {labelled(interface="wg0"): 1}
    assert len(found(exporter, PEERS)) == 2
    document = json.loads(exporter.document(private=True))
    (gone,) = [one for one in document["devices"] if one["gone"]]
    assert gone["quiet"]["until"] == WALL + 605
    assert [one["interface"] for one in document["quiet"]] == ["wg0"]


def test_it_stays_when_the_peer_is_renamed_the_interface_made_anew_or_renamed_and_the_configuration_reloaded(
    rig, tmp_path
):
    path = tmp_path / "config.yml"
    path.write_text("{}")
    exporter = rig.exporter(Config(), path)
    rig.tick(exporter)
    begin(exporter, **PEER)
    path.write_text(f'peers: [{{public_key: "{key(1)}", name: berlin}}]')
    assert exporter.reload() == ""
    rig.tick(exporter)
    assert found(exporter, PEERS) == {labelled(interface="wg0", peer="berlin"): 1}
    rig.host.links = [link(ifindex=9)]
    rig.tick(exporter, device(peer(1, rx_bytes=0, tx_bytes=0)))
    assert found(exporter, PEERS) == {labelled(interface="wg0", peer="berlin"): 1}
    rig.host.links = [link("wan0", ifindex=9)]
    rig.tick(exporter, device(peer(1), name="wan0"))
    assert found(exporter, PEERS) == {labelled(interface="wan0", peer="berlin"): 1}


def test_a_peer_that_does_not_exist_any_more_is_quiet_under_its_name_of_then_and_no_longer_than_the_others(rig):
    exporter = rig.exporter()
    rig.tick(exporter)
    begin(exporter, **PEER)
    rig.tick(exporter, device(peer(2)))
    assert found(exporter, PEERS) == {labelled(interface="wg0", peer=key(1)[:8]): 1}
    rig.time.advance(600)
    assert found(exporter, PEERS) == {}


def test_ended_by_hand_it_is_over_at_once(rig, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    exporter = rig.exporter()
    rig.tick(exporter)
    begin(exporter, **PEER)
    rig.time.advance(60)
    assert exporter.quiets.end(PEER).until == WALL + 65
    assert found(exporter, PEERS) == {}
    assert [fields["why"] for _, fields in told(caplog, "quiet ends")] == ["by hand"]
    with pytest.raises(AskedError, match="it is not quiet"):
        exporter.quiets.end(PEER)


def test_nobody_is_quiet_who_is_not_there_and_no_more_than_the_most(rig):
    rig.host.devices = [device(*(peer(n) for n in range(MOST + 1)))]
    exporter = rig.exporter()
    with pytest.raises(AskedError, match="there is no interface of this name here"):
        begin(exporter, **INTERFACE)  # before the first look
    rig.tick(exporter)
    with pytest.raises(AskedError, match="there is no peer with this interface and public_key here"):
        begin(exporter, interface="wg0", public_key=key(7000))
    for n in range(MOST):
        begin(exporter, interface="wg0", public_key=key(n))
    with pytest.raises(AskedError, match="1,000 are quiet already"):
        begin(exporter, interface="wg0", public_key=key(MOST))
    begin(exporter, 900, interface="wg0", public_key=key(0))  # again
    assert len(of(exporter, PEERS)) == MOST


# --- restarts ---------------------------------------------------------------------------------------------------------


def test_it_survives_a_restart_and_ends_at_the_time_that_was_told(rig, kept, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    first = rig.exporter(storage=kept())
    rig.tick(first)
    assert begin(first, **PEER, reason="new router").problem is None
    first.stop()
    rig.time.advance(100)
    second = rig.exporter(storage=kept())
    assert [event for event, _ in told(caplog, "quiet goes on")] == ["quiet goes on"]
    assert found(second, PEERS) == {labelled(interface="wg0", peer=key(1)[:8]): 1}  # at the first scrape already
    assert peers_of(second)[key(1)] == {
        "interface": "wg0", "netns": "", "public_key": key(1), "name": key(1)[:8],
        "since": WALL + 5, "until": WALL + 605, "reason": "new router",
    }  # fmt: skip
    rig.time.advance(499)
    assert found(second, PEERS)
    rig.time.advance(1)
    assert not found(second, PEERS)


def test_what_ended_while_nobody_ran_is_logged_and_forgotten(rig, kept, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    first = rig.exporter(storage=kept())
    rig.tick(first)
    begin(first, **PEER)
    first.stop()
    rig.time.advance(700)
    second = rig.exporter(storage=kept())
    assert not found(second, PEERS)
    assert [fields["why"] for _, fields in told(caplog, "quiet ends")] == [
        "its time was over when the exporter started"
    ]


def test_what_is_left_is_written_down_every_minute_and_nothing_while_nobody_is_quiet(rig, kept, tmp_path):
    exporter = rig.exporter(storage=kept())
    rig.tick(exporter)
    path = tmp_path / BELOW / NAME
    begin(exporter, 200, **PEER)

    def left():
        exporter.quiets._writing.result(30)
        return [one["left"] for one in msgspec.json.decode(path.read_bytes())["quiet"]]

    assert left() == [200]
    seen = []
    for _ in range(40):
        rig.tick(exporter)
        seen += left()
    assert sorted(set(seen), reverse=True) == [200, 140, 80, 20]
    assert left() == []
    before = path.stat().st_mtime_ns
    for _ in range(20):
        rig.tick(exporter)
    exporter.quiets._writing.result(30)
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "data", [pytest.param(b'{"version": 1, "quiet": [', id="torn"), pytest.param(b"\xff" * 100, id="foreign")]
)
def test_a_file_that_can_not_be_used_is_set_aside_with_one_line_and_all_goes_on(rig, kept, tmp_path, caplog, data):
    kept()
    (tmp_path / BELOW / NAME).write_bytes(data)
    exporter = rig.exporter(storage=kept())
    ((_, fields),) = told(caplog, "quiet is forgotten, its file can't be used")
    assert fields["set_aside"] == f"{NAME}.bad"
    assert (tmp_path / BELOW / f"{NAME}.bad").read_bytes() == data
    rig.tick(exporter)
    assert begin(exporter, **PEER).problem is None


def test_a_file_that_can_not_be_read_just_now_is_left_where_it_is(rig, kept, tmp_path, caplog, monkeypatch):
    """Of a disk that fails, or of rights that somebody changed, the file can be as good as ever."""
    first = rig.exporter(storage=kept())
    rig.tick(first)
    begin(first, **PEER)
    path = tmp_path / BELOW / NAME
    before = path.read_bytes()
    first.stop()
    refused = PermissionError(13, "Permission denied")
    opened = os.open

    def failing(name, *more, **options):
        if name == NAME:
            raise refused
        return opened(name, *more, **options)

    storage = kept()
    monkeypatch.setattr("os.open", failing)
    exporter = rig.exporter(storage=storage)
    monkeypatch.undo()
    ((_, fields),) = told(caplog, "quiet is forgotten, its file can't be read")
    assert fields["problem"].endswith(f"{NAME}: Permission denied")
    rig.tick(exporter)
    assert path.read_bytes() == before
    # What is asked for now is kept, and what nobody could read is not written over.
    assert begin(exporter, **INTERFACE).problem is None
    assert (tmp_path / BELOW / f"{NAME}.bad").read_bytes() == before
    assert path.read_bytes() != before


def test_what_is_too_long_to_be_ours_is_set_aside(rig, kept, tmp_path, caplog):
    kept()
    (tmp_path / BELOW / NAME).write_bytes(b" " * ((4 << 20) + 1))
    rig.exporter(storage=kept())
    ((_, fields),) = told(caplog, "quiet is forgotten, its file can't be used")
    assert fields["set_aside"] == f"{NAME}.bad"


def test_a_peer_whose_name_python_does_not_call_printable_stays_quiet_across_a_restart(rig, kept):
    exporter = rig.exporter(storage=kept())
    rig.tick(exporter)
    exporter.quiets.begin(
        {"interface": "wg0", "seconds": "600"}, lambda _key: "B\u00fcro\u00a0Wien \x1b\U0001f469\u200d"
    )
    exporter.stop()
    again = rig.exporter(storage=kept())
    assert [one.name for one in again.quiets.now().all] == ["B\u00fcro\u00a0Wien ?\U0001f469\u200d"]


def test_a_link_in_its_place_is_not_followed(rig, kept, tmp_path):
    kept()
    (tmp_path / "precious").write_text("precious")
    (tmp_path / BELOW / NAME).symlink_to(tmp_path / "precious")
    exporter = rig.exporter(storage=kept())
    rig.tick(exporter)
    begin(exporter, **PEER)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / BELOW / NAME).is_symlink()


def test_without_a_directory_it_is_quiet_all_the_same_and_says_that_it_will_not_survive(rig, tmp_path):
    exporter = rig.exporter(storage=open_storage(str(tmp_path / "none")))
    rig.tick(exporter)
    assert begin(exporter, **PEER).problem.startswith(f"there is no directory {tmp_path}/none; make it")
    assert found(exporter, PEERS)


def test_a_disk_that_fails_is_told_to_who_asks_and_logged_once(rig, kept, caplog, monkeypatch):
    storage = kept()
    exporter = rig.exporter(storage=storage)
    rig.tick(exporter)
    monkeypatch.setattr("os.fsync", lambda _handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for _ in range(2):
        assert begin(exporter, **PEER).problem.endswith("No space left on device")
    assert len(told(caplog, "quiet is not kept across restarts")) == 1
    monkeypatch.undo()
    caplog.set_level(logging.INFO, "wg_exporter")
    assert begin(exporter, **PEER).problem is None
    assert len(told(caplog, "quiet is kept across restarts")) == 1


def test_what_was_ended_by_hand_while_the_disk_was_full_does_not_come_back_with_a_restart(
    rig, kept, caplog, monkeypatch
):
    first = rig.exporter(storage=kept())
    rig.tick(first)
    begin(first, 3600, **PEER)
    monkeypatch.setattr("os.fsync", lambda _handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert first.quiets.end(PEER).problem.endswith("No space left on device")
    for _ in range(30):
        rig.tick(first)
        first.quiets._writing.result(30)
    assert len(told(caplog, "quiet is not kept across restarts")) == 1
    monkeypatch.undo()
    for _ in range(15):
        rig.tick(first)
        first.quiets._writing.result(30)
    first.stop()
    assert not found(rig.exporter(storage=kept()), PEERS)


def test_a_name_that_may_not_be_written_costs_the_other_quiets_nothing(rig, kept):
    """Whoever has a namespace of his own names its interfaces."""
    first = rig.exporter(storage=kept())
    rig.host.links = [link(ifindex=9)]
    rig.tick(first, device(peer(1)), device(peer(2), name="wg1"))
    begin(first, **PEER)
    begin(first, interface="wg1")
    rig.host.links = [link("wg\u202e0", ifindex=9)]
    rig.tick(first, device(peer(1), name="wg\u202e0"), device(peer(2), name="wg1"))
    assert labelled(interface="wg\u202e0", peer=key(1)[:8]) in found(first, PEERS)
    first.quiets._writing.result(30)
    first.stop()
    second = rig.exporter(storage=kept())
    assert [quiet.interface for quiet in second.quiets.now().all] == ["wg1"]


def test_a_disk_that_hangs_keeps_no_tick_waiting_and_is_told_to_who_asks(rig, kept, monkeypatch):
    monkeypatch.setattr(quiets, "PATIENCE", 0.1)
    exporter = rig.exporter(storage=kept())
    rig.tick(exporter)
    hang = threading.Event()
    monkeypatch.setattr("os.fsync", lambda _handle: hang.wait(30))
    try:
        assert "takes longer than 0.1 s to write" in begin(exporter, 100, **PEER).problem
        for _ in range(30):
            rig.tick(exporter)
        assert not found(exporter, PEERS)
    finally:
        hang.set()


def test_a_second_exporter_on_the_same_directory_leaves_the_file_alone(rig, kept, tmp_path):
    first = rig.exporter(storage=kept())
    rig.tick(first)
    begin(first, **PEER)
    second = rig.exporter(storage=open_storage(str(tmp_path)))
    rig.tick(second)
    assert not found(second, PEERS)
    assert "another wg-exporter keeps its state there" in begin(second, **INTERFACE).problem
    assert key(1) in Path(tmp_path / BELOW / NAME).read_text()
