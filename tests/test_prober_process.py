"""The prober as a process of its own, for real: what it tells, what it may do, and what becomes of it when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.lab import Lab, eventually, lab_prefix
from wg_exporter.config import MtuProbe, ProbeSettings, Probing
from wg_exporter.model import MtuReport, Probed, ProbePeer, ProbeStats, SendError, Verdict
from wg_exporter.prober.process import privileges, supervisor
from wg_exporter.prober.process.handle import ProberProcess
from wg_exporter.prober.process.known import Known
from wg_exporter.prober.process.messages import (
    PORTION,
    Connection,
    ConnectionEndedError,
    Counters,
    FromProber,
    Peers,
    Results,
    Setup,
    ToProber,
)
from wg_exporter.prober.process.pending import Pending

if TYPE_CHECKING:
    from collections.abc import Iterator

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets and network namespaces")

STATS = ProbeStats(True, 3, 1, 0, 0, ((SendError.NO_KEY, 2),), (1, 1), 0.5, 0.1, 0.2, 0.01)


def peer(number: int = 1, **fields) -> ProbePeer:
    row = ProbePeer(("", "lo", f"k{number}"), 1, 1420, "127.0.0.1", False, "127.0.0.1", 0, "", False, 0.1)
    return row._replace(**fields)


class Watched:
    """A prober process and what it logged."""

    def __init__(self, namespaces: dict[str, str] | None = None) -> None:
        self.lines: list[str] = []
        self.prober = ProberProcess(ProbeSettings(timeout=0.5), namespaces, self.lines.append)

    def told(self, number: int = 1) -> Probed | None:
        return self.prober.results().get(peer(number).key)

    def verdict(self, key: tuple[str, str, str]) -> Verdict | None:
        told = self.prober.results().get(key)
        return told.mtu.verdict if told is not None and told.mtu is not None else None

    def status(self) -> dict[str, str]:
        lines = Path(f"/proc/{self.prober.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.prober.stop()


@root
def test_what_is_found_is_told_and_what_is_gone_is_not(watched):
    watched.prober.set_peers([peer(), peer(2)])
    eventually(lambda: watched.verdict(peer().key) is Verdict.OK and watched.told(2), within=5)
    eventually(lambda: watched.told().stats.sent >= 3, within=5)
    assert watched.told().stats.up
    watched.prober.set_peers([peer(2)])
    assert watched.told() is None
    time.sleep(0.7)
    assert watched.told() is None
    assert watched.lines == []


@root
def test_while_nothing_changes_the_objects_are_the_same(watched):
    watched.prober.set_peers([peer(), peer(2)])
    eventually(lambda: watched.verdict(peer().key) and watched.verdict(peer(2).key), within=5)
    watched.prober.set_peers([peer(interval=3600.0), peer(2)])
    time.sleep(1.5)
    calm, busy = watched.told(), watched.told(2)
    eventually(lambda: watched.told(2) is not busy, within=3)
    assert watched.told() is calm
    assert watched.told(2).mtu is busy.mtu


@root
def test_it_keeps_no_privilege_but_raw_sockets(watched):
    watched.prober.set_peers([peer()])
    eventually(watched.told, within=5)
    status = watched.status()
    old = privileges.needed([], os.uname().release) - {privileges.CAP_NET_RAW}
    kept = sum(1 << number for number in {privileges.CAP_NET_RAW} | old)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == kept
    assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split() == ["65534"] * 4
    assert status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].strip() == ""


@root
@pytest.mark.parametrize("by", ["name", "pid"])
def test_other_namespaces_are_entered_without_being_root(tmp_path, by):
    with Lab(lab_prefix(), tmp_path / "lab") as lab:
        there = lab.namespace("n")
        sleeper = lab.start(["sleep", "60"], log="sleep", namespace=there)
        path = f"/run/netns/{there.name}" if by == "name" else f"/proc/{sleeper.pid}/ns/net"
        eventually(lambda: Path(path).stat().st_ino == Path(f"/run/netns/{there.name}").stat().st_ino, within=3)
        watched = Watched({"n": path})
        try:
            one = peer(key=("n", "lo", "k"), underlay="n")
            watched.prober.set_peers([one])
            eventually(lambda: watched.verdict(one.key) is Verdict.OK, within=5)
            eventually(lambda: watched.prober.results()[one.key].stats.up, within=5)
            status = watched.status()
            effective = {number for number in range(64) if int(status["CapEff"], 16) >> number & 1}
            assert effective == privileges.needed(["n"], os.uname().release)
            # `ip` makes its directory with the umask of whoever is the first to need it: it may be root's alone.
            user = "65534" if by == "pid" or Path("/run/netns").stat().st_mode & 1 else "0"
            assert status["Uid"].split() == [user] * 4
        finally:
            watched.prober.stop()


@pytest.mark.parametrize(
    ("namespaces", "release", "kept"),
    [
        ([], "6.1.0-9-amd64", {13}),
        ([], "5.17.0", {13}),
        ([], "5.16.20", {12, 13}),
        ([], "4.18.0-553.el8", {12, 13}),
        (["blue"], "6.12.1+deb13", {13, 19, 21}),
        ([], "nobody knows", {12, 13}),
    ],
)
def test_what_is_kept_depends_on_the_kernel_and_on_namespaces(namespaces, release, kept):
    assert privileges.needed(namespaces, release) == kept


def test_a_directory_that_only_root_may_enter_is_seen(tmp_path):
    assert privileges._open_to_all("/proc/1/ns/net")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not privileges._open_to_all(str(closed / "blue"))


@root
def test_counters_go_on_when_it_is_killed(watched, monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    watched.prober.set_peers([peer(), peer(2, target="240.0.0.1")])
    eventually(lambda: watched.told() and watched.told().stats.sent >= 5 and watched.told(2), within=5)
    eventually(lambda: watched.verdict(peer().key) is Verdict.OK, within=5)
    pids = []
    for _ in range(2):
        pid, before, lost = watched.prober.pid, watched.told(), watched.told(2)
        os.kill(pid, signal.SIGKILL)
        pids.append(pid)
        last, end = before.stats, time.monotonic() + 20
        while watched.told().stats.sent < before.stats.sent + 5:
            assert time.monotonic() < end
            now = watched.told()
            assert now.stats.sent >= last.sent
            assert now.stats.rtt_sum >= last.rtt_sum
            assert all(x >= y for x, y in zip(now.stats.buckets, last.buckets, strict=True))
            assert now.stats.up
            assert now.mtu is not None
            last = now.stats
            time.sleep(0.02)
        assert watched.prober.pid not in pids
        assert watched.told().stats.sent == sum(watched.told().stats.buckets) + watched.told().stats.lost
        assert sum(n for _, n in watched.told(2).stats.errors) >= sum(n for _, n in lost.stats.errors)
    assert len(watched.lines) == 2
    assert "was killed by SIGKILL; it is started again in" in watched.lines[0]


@root
def test_it_ends_when_the_exporter_dies(tmp_path):
    code = """
import time
from tests.test_prober_process import *
from wg_exporter.prober.process.handle import ProberProcess
one = ProberProcess(ProbeSettings())
one.set_peers([peer()])
while not one.results():
    time.sleep(0.05)
print(one.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with parent:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # meant for the exporter
            os.kill(pid, number)
        time.sleep(0.3)
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within=3)


@root
def test_stop_ends_it_and_says_nothing(watched):
    watched.prober.set_peers([peer()])
    eventually(watched.told, within=5)
    pid = watched.prober.pid
    watched.prober.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert watched.prober.pid is None
    assert watched.lines == []
    watched.prober.set_peers([])  # too late, and no harm


@root
def test_nobody_waits_for_a_process_that_hangs(watched):
    watched.prober.set_peers([peer()])
    eventually(watched.told, within=5)
    os.kill(watched.prober.pid, signal.SIGSTOP)
    peers = [peer(n, interval=5.0, endpoint="") for n in range(3000)]
    slowest = 0.0
    for turn in range(10):
        begin = time.monotonic()
        watched.prober.set_peers(peers if turn % 2 else peers[:1500])
        watched.prober.counters({one.key: (turn, turn) for one in peers})
        watched.prober.results()
        slowest = max(slowest, time.monotonic() - begin)
    assert slowest < 0.5
    os.kill(watched.prober.pid, signal.SIGCONT)
    eventually(lambda: len(watched.prober.results()) == 3000, within=20)


@root
def test_one_that_says_nothing_for_long_is_replaced(monkeypatch):
    monkeypatch.setattr(supervisor, "SILENCE", 2.0)
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT", 0.3)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    watched = Watched()
    try:
        watched.prober.set_peers([peer()])
        eventually(watched.told, within=5)
        pid = watched.prober.pid
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: watched.prober.pid not in (pid, None), within=8)
        assert "SIGKILL" in watched.lines[0]
    finally:
        watched.prober.stop()


@root
def test_what_the_byte_counters_say_reaches_the_verdict(watched, monkeypatch):
    """A peer that answers nothing, and from which nothing is received: unreachable, once 25 s are over."""
    one = peer(target="240.0.0.1", endpoint="")
    watched.prober.set_peers([one])
    watched.prober.counters({one.key: (100, 100)})
    end = time.monotonic() + 6
    while time.monotonic() < end:
        watched.prober.counters({one.key: (100, 100)})
        time.sleep(0.5)
    assert watched.verdict(one.key) in (Verdict.INCONCLUSIVE, None)


@root
def test_a_process_that_cannot_be_started_is_told_and_tried_again(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    watched = Watched()
    watched.prober.set_peers([peer()])
    try:
        eventually(lambda: len(watched.lines) >= 2, within=5)
        assert watched.lines[0].startswith("the prober could not be started: ")
        assert watched.prober.pid is None
    finally:
        watched.prober.stop()


@root
def test_nothing_is_told_of_a_peer_before_the_fate_of_its_first_probe(watched):
    watched.prober.set_peers([peer(), peer(2, interval=3600.0)])
    eventually(lambda: watched.told() and watched.told().stats.sent > 3, within=5)
    assert watched.told(2) is None


@root
def test_a_process_that_is_gone_for_long_leaves_nothing_that_looks_fine(monkeypatch):
    monkeypatch.setattr(supervisor, "SILENCE", 2.0)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 60.0)
    watched = Watched()
    try:
        watched.prober.set_peers([peer()])
        eventually(watched.told, within=5)
        os.kill(watched.prober.pid, signal.SIGKILL)
        eventually(lambda: watched.prober.pid is None, within=3)
        assert watched.told()
        eventually(lambda: not watched.prober.results(), within=5)
    finally:
        watched.prober.stop()


@root
def test_no_silence_lasts_while_nobody_listens(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 60.0)
    watched = Watched()
    try:
        watched.prober.set_peers([peer(target="192.0.2.1", endpoint="")])
        eventually(lambda: watched.told() and watched.told().stats.silent_since, within=5)
        assert time.monotonic() - 5 < watched.told().stats.silent_since < time.monotonic()
        os.kill(watched.prober.pid, signal.SIGKILL)
        eventually(lambda: watched.told().stats.silent_since is None, within=3)
        assert watched.told().stats.lost
    finally:
        watched.prober.stop()


def test_whatever_goes_wrong_in_the_thread_it_goes_on(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(supervisor.socket, "socketpair", lambda: 1 / 0)
    watched = Watched()
    try:
        watched.prober.set_peers([peer()])
        eventually(lambda: len(watched.lines) >= 2, within=5)
        assert "unexpected ZeroDivisionError" in watched.lines[0]
    finally:
        watched.prober.stop()


def test_a_handle_that_is_dropped_without_stop_says_so_and_its_process_ends():
    watched = Watched()
    watched.prober.set_peers([peer()])
    pid = eventually(lambda: watched.prober.pid, within=5)
    with pytest.warns(ResourceWarning, match="ProberProcess .* was dropped and not stopped"):
        del watched.prober
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within=5)
    assert watched.lines == []


def test_a_handle_that_is_stopped_and_dropped_says_nothing():
    watched = Watched()
    watched.prober.stop()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        still = weakref.ref(watched.prober)
        del watched.prober
        assert still() is None
    assert said == []


def test_without_a_peer_there_is_no_process():
    watched = Watched()
    try:
        watched.prober.counters({})
        time.sleep(0.3)
        assert watched.prober.pid is None
    finally:
        watched.prober.stop()


@root
def test_another_configuration_starts_it_anew_and_counters_go_on(watched):
    watched.prober.set_peers([peer()])
    eventually(lambda: watched.told() and watched.told().stats.sent > 2, within=5)
    pid, before = watched.prober.pid, watched.told().stats
    watched.prober.configure(ProbeSettings(timeout=0.5, enabled=Probing.ON, interval=9.0), {})  # the rows say the same
    time.sleep(0.3)
    assert watched.prober.pid == pid
    watched.prober.configure(ProbeSettings(timeout=0.4), {})
    eventually(lambda: watched.prober.pid not in (None, pid), within=5)
    eventually(lambda: watched.told().stats.sent > before.sent, within=5)
    assert watched.lines == []
    watched.prober.configure(ProbeSettings(timeout=0.4, rtt_buckets=(0.5, 1.0)), {})
    stats = eventually(lambda: (now := watched.told().stats).rtt_last and len(now.buckets) == 3 and now, within=5)
    assert stats.sent > before.sent
    assert sum(stats.buckets) < stats.sent


@root
def test_scheduling_delay_is_told_once(watched):
    watched.prober.set_peers([peer()])
    eventually(lambda: watched.told() and watched.told().stats.sent > 2, within=5)
    assert 0 < eventually(watched.prober.scheduling_delay, within=3) < 0.5


# --- the messages ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Connection[ToProber], socket.socket]]:
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours, ToProber)) as connection, theirs:
        yield connection, theirs


def test_every_message_arrives_as_it_was():
    ours, theirs = socket.socketpair()
    there, here = Connection(ours, FromProber), Connection(theirs, ToProber)
    for message in (
        Setup(ProbeSettings(mtu=MtuProbe(7.0)), {"blue": "/run/netns/blue"}),
        Peers({1: peer(), 2: peer(2)}, (7,)),
        Counters({1: (2, 1 << 60)}),
    ):
        there.send(message)
        assert here.receive() == message
    silent = STATS._replace(silent_since=12345.678901)
    report = MtuReport(Verdict.OK, 1420, 1420, None, 15, 1480, 1420, None, "192.0.2.1", 1.5)
    results = Results({1: ("10.0.0.1", STATS), 2: ("10.0.0.2", silent)}, {1: report, 3: None}, 0.25)
    here.send(results)
    got = there.receive()
    assert got == results
    assert isinstance(got.echoes[1][1].errors[0][0], SendError)
    assert here.receive() is None
    there.close()
    with pytest.raises(ConnectionEndedError):
        here.receive()
    here.close()


def test_messages_in_pieces_and_in_heaps_are_taken_one_by_one(pair):
    connection, theirs = pair
    data = msgspec.msgpack.encode(Counters({}))
    stream = (struct.pack("!I", len(data)) + data) * 3
    for byte in stream[:-1]:
        theirs.send(bytes([byte]))
        assert connection.receive() in (None, Counters({}))
    theirs.send(stream[-1:] + stream)
    got = 0
    while connection.receive() == Counters({}):
        got += 1
    assert got == 4
    assert not connection.pending()


@pytest.mark.parametrize("wrong", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\0"])
def test_nonsense_ends_the_connection(pair, wrong):
    connection, theirs = pair
    theirs.send(wrong)
    with pytest.raises(ConnectionEndedError):
        connection.receive()


@given(st.binary(max_size=300))
@example(b"\x91\xa8\0\0\0\0\0\0\0\x80")
def test_no_bytes_do_anything_else_than_end_it(data):
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours, ToProber)) as connection, theirs:
        theirs.send(struct.pack("!I", len(data)) + data)
        with contextlib.suppress(ConnectionEndedError):
            assert isinstance(connection.receive(), ToProber)


def test_what_the_other_side_does_not_take_waits_and_nothing_blocks():
    ours, theirs = socket.socketpair()
    sender, taker = Connection(ours, FromProber), Connection(theirs, ToProber)
    big = Counters({n: (n, n) for n in range(100_000)})
    sender.send(big)
    assert not sender.idle
    got = None
    while got is None:
        got = taker.receive()
        sender.flush()
    assert got == big
    assert sender.idle
    sender.close()
    taker.close()


# --- what is known over all lives -----------------------------------------------------------------------------------

KEY = ("", "wg0", "k")
REPORT = MtuReport(Verdict.OK, 1420, 1420, None, 0, 1480, 1420, None, "", 0.0)


def known(since: ProbeStats | None = None, target: str = "t") -> Known:
    """`STATS` and `REPORT` were told by an earlier process, `since` by the one of now."""
    found = Known()
    found.take({KEY: ("t", STATS)}, {KEY: REPORT})
    found.begin()
    if since:
        found.take({KEY: (target, since)}, {})
    return found


def test_a_new_process_adds_to_what_was_counted():
    new = ProbeStats(False, 2, 2, 1, 1, ((SendError.NO_ROUTE, 1),), (0, 0), 0.0, None, None, None)
    told = known(new)[KEY].stats
    assert (told.up, told.sent, told.lost, told.duplicates, told.late) == (False, 5, 3, 1, 1)
    assert (told.rtt_sum, told.rtt_min, told.rtt_last, told.jitter) == (0.5, 0.1, 0.2, 0.01)
    assert told.errors == ((SendError.NO_KEY, 2), (SendError.NO_ROUTE, 1))
    assert told.buckets == (1, 1)


def test_what_is_told_twice_by_one_process_is_added_once():
    twice = known(STATS)
    twice.take({KEY: ("t", STATS._replace(sent=4))}, {})
    assert twice[KEY].stats.sent == STATS.sent + 4


def test_before_a_new_process_tells_anything_everything_is_as_it_was():
    assert known()[KEY] == Probed("t", STATS, REPORT)


def test_a_silence_is_that_which_the_new_process_heard():
    new = ProbeStats(False, 2, 2, 0, 0, (), (0, 0), 0.0, None, None, None, 70.0)
    found = Known()
    found.take({KEY: ("t", STATS._replace(silent_since=10.0))}, {})
    found.begin()
    found.take({KEY: ("t", new)}, {})
    assert found[KEY].stats.silent_since == 70.0
    found.take({KEY: ("t", new._replace(silent_since=None))}, {})
    assert found[KEY].stats.silent_since is None


def test_another_target_is_counted_from_nothing_and_has_no_report():
    assert known(STATS, target="u")[KEY] == Probed("u", STATS, None)


def test_counters_go_on_where_the_histogram_has_other_bounds():
    found = known(STATS._replace(buckets=(1, 2, 3), rtt_sum=0.25))[KEY].stats
    assert (found.sent, found.lost) == (2 * STATS.sent, 2 * STATS.lost)
    assert (found.buckets, found.rtt_sum) == ((1, 2, 3), 0.25)


def test_a_report_of_an_earlier_life_is_not_brought_back():
    """An endpoint that roams begins afresh; what held before the last start must not return then."""
    one, other = known(), REPORT._replace(verdict=Verdict.FRAGMENTED_PATH)
    found = []
    for echoes, reports in (
        ({KEY: ("t", STATS)}, {}),
        ({}, {KEY: other}),
        ({KEY: ("t", STATS)}, {KEY: None}),
        ({KEY: ("t", STATS)}, {}),
    ):
        one.take(echoes, reports)
        found.append(one[KEY].mtu)
    assert found == [REPORT, other, None, None]


def test_the_copy_is_the_same_object_until_something_changes_and_does_not_change_itself():
    one = known()
    copy = one.copy()
    assert one.copy() is copy
    for change in (
        lambda: one.take({KEY: ("t", STATS)}, {}),
        lambda: one.empty_histograms(3),
        one.end_silences,
        lambda: one.forget([KEY]),
    ):
        before = one.copy()
        held = dict(before)
        change()
        assert one.copy() is not before
        assert before == held
    assert copy == {KEY: Probed("t", STATS, REPORT)}
    assert one.copy() == {}


# --- what is still to be told ---------------------------------------------------------------------------------------


def told(pending: Pending) -> list[Peers | Counters]:
    """All that is to be told now."""
    messages = []
    while (message := pending.take()) is not None:
        messages.append(message)
    return messages


def test_only_peers_that_are_new_changed_or_gone_are_told():
    pending = Pending()
    assert pending.set_peers([peer(), peer(2)]) == []
    assert told(pending) == [Peers({1: peer(), 2: peer(2)}, ())]
    assert pending.set_peers([peer(2), peer(3), peer(interval=9.0)]) == []
    assert told(pending) == [Peers({3: peer(3), 1: peer(interval=9.0)}, ())]
    assert pending.set_peers([peer(2)]) == [peer().key, peer(3).key]
    assert told(pending) == [Peers({}, (1, 3))]
    assert (pending.key(1), pending.key(2)) == (None, peer(2).key)


def test_a_peer_that_is_gone_before_it_was_told_is_told_as_gone_alone():
    pending = Pending()
    pending.set_peers([peer()])
    pending.set_counters({peer().key: (1, 1)}, {})
    pending.set_peers([])
    assert told(pending) == [Peers({}, (1,))]


def test_a_peer_that_comes_back_is_another_one():
    pending = Pending()
    pending.set_peers([peer()])
    told(pending)
    pending.set_peers([])
    pending.set_peers([peer()])
    assert told(pending) == [Peers({2: peer()}, (1,))]


def test_byte_counters_are_told_when_they_moved_or_where_nothing_answers():
    pending, rows = Pending(), {peer(n).key: (n, n) for n in range(1, 5)}
    silent = STATS._replace(up=False)
    answers = {peer(n).key: Probed("t", stats, None) for n, stats in ((1, STATS), (2, STATS), (3, silent))}
    pending.set_peers([peer(n) for n in range(1, 4)])
    pending.set_counters(rows, answers)
    assert told(pending)[1:] == [Counters({n: (n, n) for n in range(1, 4)})]
    pending.set_counters(rows | {peer(2).key: (2, 9)}, answers)
    assert told(pending) == [Counters({2: (2, 9), 3: (3, 3)})]


def test_much_is_told_in_portions_and_a_new_process_is_told_all_of_it_again():
    pending = Pending()
    many = tuple(peer(n) for n in range(PORTION + 1))
    pending.set_peers(many)
    pending.set_counters({one.key: (1, 1) for one in many}, {})
    sizes = [len(message.put if isinstance(message, Peers) else message.rows) for message in told(pending)]
    assert sizes == [PORTION, 1, PORTION, 1]
    pending.set_peers(many[1:])
    pending.begin()
    numbers = range(2, PORTION + 2)
    assert told(pending) == [
        Peers(dict(zip(numbers, many[1:], strict=True)), ()),
        Counters(dict.fromkeys(numbers, (1, 1))),
    ]
