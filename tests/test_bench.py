"""The benchmark, as far as it needs no virtual machine: which programs it measures, and how long it waits."""

from __future__ import annotations

import contextlib
import hmac
import json
import statistics
import subprocess
import sys
import time
from collections import Counter

import pytest

from bench import accounting, alone, binaries, contestants, diagnosis, faults, native, sessions, tunnel, watcher
from bench.binaries import OTHERS, find
from tests import rows
from wg_exporter.causes.cause import Cause, Confidence, Finding
from wg_exporter.status.rows import PeerRow

MDLAYHER = next(other for other in OTHERS if other.name == "mdlayher")


@pytest.fixture(autouse=True)
def _nothing_at_hand(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "CACHE", tmp_path)
    monkeypatch.delenv(MDLAYHER.variable, raising=False)


def test_mdlayhers_exporter_is_the_one_whose_path_is_given(monkeypatch, tmp_path):
    program = tmp_path / "theirs"
    program.touch(mode=0o755)
    monkeypatch.setenv(MDLAYHER.variable, str(program))
    assert find(MDLAYHER) == ([str(program), "-metrics.addr", "127.0.0.1:PORT"], "")


@pytest.mark.parametrize("given", [None, ""])
def test_without_a_path_the_reason_says_how_to_give_one(monkeypatch, given):
    if given is not None:
        monkeypatch.setenv(MDLAYHER.variable, given)
    assert find(MDLAYHER) == ([], "give a path: make bench MDLAYHER=/path/to/wireguard_exporter")


def test_a_path_that_is_no_program_is_not_replaced_by_another_one(monkeypatch, tmp_path):
    (tmp_path / MDLAYHER.binary).touch(mode=0o755)
    monkeypatch.setenv(MDLAYHER.variable, "/nowhere/exporter")
    assert find(MDLAYHER) == ([], "/nowhere/exporter is no program")


class Host:
    """A clock, and a page of two peers that are up for 40 s and then down."""

    def __init__(self, monkeypatch, known_after=5.0, down_after=40.0):
        self.now, self.known_after, self.down_after = 0.0, known_after, down_after
        monkeypatch.setattr(native.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(native.time, "sleep", self.sleep)
        monkeypatch.setattr(native, "get", self.get)

    def sleep(self, seconds):
        self.now += seconds

    def get(self, port, keep):
        state = "down" if self.now >= self.down_after else "up"
        for peer in ("a", 'b"} 1'.replace('"', '\\"')) if self.now >= self.known_after else ("a",):
            for one in ("up", "down"):
                line = f'wireguard_peer_state{{interface="wg0",peer="{peer}",state="{one}"}} {int(one == state)}\n'
                keep.append(line.encode())


def test_memory_is_measured_once_no_state_has_changed_for_a_while(monkeypatch):
    host = Host(monkeypatch, down_after=25.0)
    native._until_states_are_steady(9586, 2)
    assert 55 <= host.now < 60


def test_peers_whose_state_never_shows_are_not_waited_for_for_ever(monkeypatch):
    Host(monkeypatch, known_after=1e9)
    with pytest.raises(TimeoutError, match="did not settle"):
        native._until_states_are_steady(9586, 2)


HOLD = """
import mmap, os, sys
file = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, prot=mmap.PROT_READ)
sum(file[::4096])
own = bytearray(b"x") * (8 << 20)
print(flush=True)
sys.stdin.read()
"""


def test_memory_of_several_processes_has_each_page_of_a_file_once_whoever_else_has_it(tmp_path):
    """Three processes map one file of 16 MiB, and have 8 MiB each that are their own; the third is not ours."""
    large = tmp_path / "large"
    large.write_bytes(bytes(16 << 20))
    with contextlib.ExitStack() as stack:
        command = [sys.executable, "-I", "-S", "-c", HOLD, str(large)]
        both = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        made = [stack.enter_context(subprocess.Popen(command, **both)) for _ in range(3)]
        for process in made:
            process.stdout.readline()
        one, two = (contestants.memory_together([process.pid for process in made[:many]]) for many in (1, 2))
        assert 24 << 10 < one < 48 << 10  # KiB
        assert 8 << 10 < two - one < 16 << 10
        for process in made:
            process.stdin.close()


@pytest.mark.parametrize("size", [0, 1, 32, 64])
def test_its_hmac_is_that_of_the_standard_library(size):
    key, data = bytes(range(size)), b"WireGuard" * 20
    assert sessions.keyed(key, data) == hmac.digest(key, data, "blake2s")


def test_the_seconds_that_the_docs_show_are_of_the_faults_and_bounds_of_now():
    shown = json.loads(faults.OUTPUT.read_text())
    seen = {row["peer"]: row["seen"] for row in shown}
    assert faults.document(seen) == faults.OUTPUT.read_text(), "run python -m bench.faults"
    for row in shown:
        assert row["seen"]
        assert row["earliest"] <= min(row["seen"]) <= max(row["seen"]) <= row["latest"]


def test_every_cause_that_the_docs_show_was_made_as_it_is_made_now_and_named_right():
    shown = json.loads(diagnosis.OUTPUT.read_text())
    made = [(row["cause"], row["made"]) for row in shown]
    assert made == [(scene.cause, scene.words) for scene in diagnosis.SCENES], "run python -m bench.diagnosis"
    assert max(row["seconds"] for row in shown) <= 20
    assert statistics.median(row["seconds"] for row in shown) <= 5
    assert [
        scene.id for scene, row in zip(diagnosis.SCENES, shown, strict=True) if not diagnosis.right(scene, row)
    ] == []


def test_every_cause_is_made_in_two_builds_that_differ():
    builds = Counter(scene.cause for scene in diagnosis.SCENES)
    assert {cause: builds[cause] for cause in Cause if cause.fault and builds[cause] < 2} == {}
    assert len({scene.words for scene in diagnosis.SCENES}) == len(diagnosis.SCENES)


def test_the_parts_of_a_run_have_every_scene_with_an_exporter_and_without():
    parts = diagnosis.parts()
    assert sorted(one.id for part in parts for one in part.watched) == sorted(one.id for one in diagnosis.SCENES)
    asked = sorted(one.id for one in diagnosis.SCENES if not one.asks)  # those with one are diagnosed beside it
    assert sorted(one.id for part in parts for one in part.diagnosed) == asked


def test_an_exporter_that_names_nothing_is_right_only_where_it_cant_know():
    scene = diagnosis.SCENES[0]
    row = {"named": scene.cause.value, "exporter": []}
    assert not diagnosis.right(scene, row)
    assert diagnosis.right(scene._replace(alone="needs the private key"), row)
    assert not diagnosis.right(scene._replace(alone="needs the private key"), row | {"exporter": [["lossy", 9.0]]})
    assert diagnosis.right(scene, row | {"exporter": [[scene.cause.value, 9.0]]})
    assert not diagnosis.right(scene, row | {"exporter": [["lossy", 5.0], [scene.cause.value, 9.0]]})


class Watched:
    """A world whose exporter names these causes, one at each look."""

    def __init__(self, *named):
        self.began, self._named = time.monotonic(), list(named)

    def result(self):
        return self

    def row(self):
        cause, confidence = self._named.pop(0) if self._named else (None, None)
        return PeerRow(rows.peer(1), "there", True, True, cause=cause and Finding(cause, confidence))


def test_an_exporter_is_listened_to_until_it_names_the_cause_and_what_is_only_possible_is_not_said(monkeypatch):
    monkeypatch.setattr(alone, "EVERY", 0.0)
    scene = next(one for one in diagnosis.SCENES if one.cause is Cause.NO_ROUTE)
    world = Watched(
        (Cause.SILENT, Confidence.POSSIBLE),
        (Cause.LOSSY, Confidence.LIKELY),
        (Cause.LOSSY, Confidence.LIKELY),
        (Cause.NO_ROUTE, Confidence.CERTAIN),
        (Cause.SILENT, Confidence.CERTAIN),
    )
    found = alone._follow(scene, world)
    assert [named.cause for named in found.named] == ["lossy", "no_route"]
    assert found.last == "no_route"


def test_where_nothing_is_to_be_named_it_is_listened_to_for_a_while(monkeypatch):
    monkeypatch.setattr(alone, "EVERY", 0.0)
    monkeypatch.setattr(alone, "NOTHING_COMES", 0.05)
    scene = next(one for one in diagnosis.SCENES if one.cause is Cause.FINE)
    assert alone._follow(scene, Watched()).named == ()


def test_what_watching_costs_is_the_median_of_rounds_and_the_mean_goes_by_the_turns():
    closed = [tunnel.Slice(100.0, 0.0), tunnel.Slice(200.0, 0.0), tunnel.Slice(50.0, 0.0)]
    slower = [tunnel.Slice(one.received * 0.9, 0.0) for one in closed]
    found = tunnel.Measured("kernel", {watcher.CLOSED: closed, watcher.ARRIVING: closed, watcher.ALL: slower})
    assert [round(number, 6) for number in tunnel.cost(found, watcher.CLOSED, watcher.ALL)] == [10.0, 10.0, 10.0]
    assert "| 0.0 % (0.0 to 0.0) | 10.0 % (10.0 to 10.0) | 4.0 % |" in watcher.line(found)


def test_a_byte_that_takes_more_of_the_processor_costs_as_much_throughput():
    closed, opened = [tunnel.Slice(100.0, 1.0)], [tunnel.Slice(130.0, 1.3 / 0.8)]
    found = tunnel.Measured("wireguard-go", {watcher.CLOSED: closed, watcher.ALL: opened})
    assert round(tunnel.cost(found, watcher.CLOSED, watcher.ALL)[0], 6) == 20.0


def test_what_counting_costs_is_the_median_of_rounds():
    bare = [tunnel.Slice(100.0, 1.0), tunnel.Slice(200.0, 1.0), tunnel.Slice(50.0, 1.0)]
    counted = [tunnel.Slice(95.0, 1.0), tunnel.Slice(160.0, 1.0), tunnel.Slice(50.0, 1.0)]
    found = tunnel.Measured("wireguard-go", {accounting.WITHOUT: bare, accounting.WITH: counted})
    assert round(tunnel.cost(found, accounting.WITHOUT, accounting.WITH)[0], 6) == 5.0
    assert accounting.line(found).startswith("| wireguard-go | 3 | 0 | 5.0 % (")
