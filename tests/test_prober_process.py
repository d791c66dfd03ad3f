"""The prober as a process of its own, for real: what it tells, what it may do, and what becomes of it when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import Lab, eventually, lab_prefix
from tests.probers import peer
from wg_exporter.config import ProbeSettings, Probing
from wg_exporter.linux import privileges
from wg_exporter.probed import Probed, Verdict
from wg_exporter.remote.prober import supervisor
from wg_exporter.remote.prober.handle import ProberProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[[int], subprocess.Popen[bytes]]

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets and network namespaces")


def known(prober: ProberProcess, key: tuple[str, str, str]) -> Probed | None:
    return prober.results().get(key[:2], {}).get(key[2])


class Watched:
    """A prober process and what it logged."""

    def __init__(self, namespaces: dict[str, str] | None = None, start: Start | None = None) -> None:
        self.lines: list[str] = []
        self.prober = ProberProcess(ProbeSettings(timeout=0.5), namespaces, self.lines.append, start)

    def told(self, number: int = 1) -> Probed | None:
        return known(self.prober, peer(number).key)

    def verdict(self, key: tuple[str, str, str]) -> Verdict | None:
        told = known(self.prober, key)
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
    eventually(lambda: watched.verdict(peer().key) is Verdict.OK and watched.told(2), within=30)
    eventually(lambda: watched.told().stats.sent >= 3, within=30)
    assert watched.told().stats.up
    watched.prober.set_peers([peer(2)])
    assert watched.told() is None
    time.sleep(0.7)
    assert watched.told() is None
    assert watched.lines == []


@root
def test_while_nothing_changes_the_objects_are_the_same(watched):
    watched.prober.set_peers([peer(), peer(2)])
    eventually(lambda: watched.verdict(peer().key) and watched.verdict(peer(2).key), within=30)
    watched.prober.set_peers([peer(interval=3600.0), peer(2)])

    def same() -> bool:
        calm, busy = watched.told(), watched.told(2)
        eventually(lambda: watched.told(2) is not busy, within=30)
        return watched.told() is calm and watched.told(2).mtu is busy.mtu

    eventually(same, within=30)  # once it has heard that the first is calm


@root
def test_it_keeps_no_privilege_but_raw_sockets(watched):
    watched.prober.set_peers([peer()])
    eventually(watched.told, within=30)
    status = watched.status()
    old = privileges.to_probe([], os.uname().release) - {privileges.CAP_NET_RAW}
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
        eventually(lambda: Path(path).stat().st_ino == Path(f"/run/netns/{there.name}").stat().st_ino, within=30)
        watched = Watched({"n": path})
        try:
            one = peer(key=("n", "lo", "k"), underlay="n")
            watched.prober.set_peers([one])
            eventually(lambda: watched.verdict(one.key) is Verdict.OK, within=30)
            eventually(lambda: known(watched.prober, one.key).stats.up, within=30)
            status = watched.status()
            effective = {number for number in range(64) if int(status["CapEff"], 16) >> number & 1}
            assert effective == privileges.to_probe(["n"], os.uname().release)
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
    assert privileges.to_probe(namespaces, release) == kept


def test_a_directory_that_only_root_may_enter_is_seen(tmp_path):
    assert privileges.open_to_all("/proc/1/ns/net")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not privileges.open_to_all(str(closed / "blue"))


@root
def test_counters_go_on_when_it_is_killed(watched, monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    watched.prober.set_peers([peer(), peer(2, target="240.0.0.1")])
    eventually(lambda: watched.told() and watched.told().stats.sent >= 5 and watched.told(2), within=30)
    eventually(lambda: watched.verdict(peer().key) is Verdict.OK, within=30)
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
from tests.probers import ProbeSettings, peer
from wg_exporter.remote.prober.handle import ProberProcess
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
    eventually(lambda: not Path(f"/proc/{pid}").exists(), within=30)


@root
def test_stop_ends_it_and_says_nothing(watched):
    watched.prober.set_peers([peer()])
    eventually(watched.told, within=30)
    pid = watched.prober.pid
    watched.prober.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert watched.prober.pid is None
    assert watched.lines == []
    watched.prober.set_peers([])  # too late, and no harm


@root
def test_nobody_waits_for_a_process_that_hangs(watched):
    watched.prober.set_peers([peer()])
    eventually(watched.told, within=30)
    os.kill(watched.prober.pid, signal.SIGSTOP)
    peers = [peer(n, interval=5.0, endpoint="") for n in range(3000)]
    slowest = 0.0
    for turn in range(10):
        begin = time.monotonic()
        watched.prober.set_peers(peers if turn % 2 else peers[:1500])
        watched.prober.counters({one.key: (turn, turn) for one in peers})
        watched.prober.results()
        slowest = max(slowest, time.monotonic() - begin)
    assert slowest < 20, "and not until it is taken for dead"
    os.kill(watched.prober.pid, signal.SIGCONT)
    eventually(lambda: sum(map(len, watched.prober.results().values())) == 3000, within=30)


def be_silent_for_2_s_at_most(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first results on: its start may take longer than that."""
    told = eventually(watched.told, within=30)
    monkeypatch.setattr(supervisor, "SILENCE", 2.0)
    eventually(lambda: watched.told().stats.sent > told.stats.sent, within=30)


@root
def test_one_that_says_nothing_for_long_is_replaced(monkeypatch):
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT", 0.3)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    watched = Watched()
    try:
        watched.prober.set_peers([peer()])
        be_silent_for_2_s_at_most(watched, monkeypatch)
        pid = watched.prober.pid
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: watched.prober.pid not in (pid, None), within=30)
        assert "said nothing for 2 s, and was killed" in watched.lines[0]
    finally:
        watched.prober.stop()


HASTY = """
import sys
from wg_exporter.prober.mtu import alive
from wg_exporter.prober import __main__
alive.ALIVE = 1.5
__main__.main(int(sys.argv[1]))
"""


def hasty(fd: int) -> subprocess.Popen[bytes]:
    """The real process, but for 25 s of silence, which are 1.5 there."""
    return subprocess.Popen([sys.executable, "-c", HASTY, str(fd)], pass_fds=(fd,))


@root
def test_what_the_byte_counters_say_reaches_the_verdict():
    """A target answers nothing. Nothing received, read again and again, makes it unreachable, and a byte filtered."""
    watched = Watched(start=hasty)
    try:
        one = peer(target="192.0.2.1", endpoint="")
        watched.prober.set_peers([one])
        eventually(lambda: watched.verdict(one.key) is Verdict.INCONCLUSIVE, within=30)
        told = {one.key: (100, 100)}

        def tell() -> Verdict | None:
            watched.prober.counters(told)
            return watched.verdict(one.key)

        eventually(lambda: tell() is Verdict.UNREACHABLE, within=30, every=0.2)
        told = {one.key: (132, 100)}
        eventually(lambda: tell() is Verdict.FILTERED, within=30, every=0.2)
    finally:
        watched.prober.stop()


@root
def test_a_process_that_cannot_be_started_is_told_and_tried_again(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    watched = Watched()
    watched.prober.set_peers([peer()])
    try:
        eventually(lambda: len(watched.lines) >= 2, within=30)
        assert watched.lines[0].startswith("the prober could not be started: ")
        assert watched.prober.pid is None
    finally:
        watched.prober.stop()


@root
def test_nothing_is_told_of_a_peer_before_the_fate_of_its_first_probe(watched):
    watched.prober.set_peers([peer(), peer(2, interval=3600.0)])
    eventually(lambda: watched.told() and watched.told().stats.sent > 3, within=30)
    assert watched.told(2) is None


@root
def test_a_process_that_is_gone_for_long_leaves_nothing_that_looks_fine(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 60.0)
    watched = Watched()
    try:
        watched.prober.set_peers([peer()])
        be_silent_for_2_s_at_most(watched, monkeypatch)
        os.kill(watched.prober.pid, signal.SIGKILL)
        eventually(lambda: watched.prober.pid is None, within=30)
        assert watched.told()
        eventually(lambda: not watched.prober.results(), within=30)
    finally:
        watched.prober.stop()


@root
def test_no_silence_lasts_while_nobody_listens(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 60.0)
    watched = Watched()
    try:
        watched.prober.set_peers([peer(target="192.0.2.1", endpoint="")])
        eventually(lambda: watched.told() and watched.told().stats.silent_since, within=30)
        assert time.monotonic() - 60 < watched.told().stats.silent_since < time.monotonic()
        os.kill(watched.prober.pid, signal.SIGKILL)
        eventually(lambda: watched.told().stats.silent_since is None, within=30)
        assert watched.told().stats.lost
    finally:
        watched.prober.stop()


def test_whatever_goes_wrong_in_the_thread_it_goes_on(monkeypatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(supervisor.socket, "socketpair", lambda: 1 / 0)
    watched = Watched()
    try:
        watched.prober.set_peers([peer()])
        eventually(lambda: len(watched.lines) >= 2, within=30)
        assert "unexpected ZeroDivisionError" in watched.lines[0]
    finally:
        watched.prober.stop()


def test_a_handle_that_is_stopped_and_dropped_says_nothing():
    watched = Watched()
    watched.prober.stop()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        still = weakref.ref(watched.prober)
        del watched.prober
        assert still() is None
    assert [one for one in said if "ProberProcess" in str(one.message)] == []  # others may be dropped by the way


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
    eventually(lambda: watched.told() and watched.told().stats.sent > 2, within=30)
    pid, before = watched.prober.pid, watched.told().stats
    watched.prober.configure(ProbeSettings(timeout=0.5, enabled=Probing.ON, interval=9.0), {})  # the rows say the same
    time.sleep(0.3)
    assert watched.prober.pid == pid
    watched.prober.configure(ProbeSettings(timeout=0.4), {})
    eventually(lambda: watched.prober.pid not in (None, pid), within=30)
    eventually(lambda: watched.told().stats.sent > before.sent, within=30)
    assert watched.lines == []
    watched.prober.configure(ProbeSettings(timeout=0.4, rtt_buckets=(0.5, 1.0)), {})
    stats = eventually(lambda: (now := watched.told().stats).rtt_last and len(now.buckets) == 3 and now, within=30)
    assert stats.sent > before.sent
    assert sum(stats.buckets) < stats.sent


@root
def test_scheduling_delay_is_told_once(watched):
    watched.prober.set_peers([peer()])
    eventually(lambda: watched.told() and watched.told().stats.sent > 2, within=30)
    assert 0 < eventually(watched.prober.scheduling_delay, within=30) < 60  # seconds


EXPORTER = """
import sys, time
from tests.probers import peer
from wg_exporter.config import ProbeSettings
from wg_exporter.remote.prober import supervisor
from wg_exporter.remote.prober.handle import ProberProcess

prober = ProberProcess(ProbeSettings(), log=lambda line: print(line, flush=True))
prober.set_peers([peer()])
while not prober.results():
    time.sleep(0.05)
supervisor.SILENCE = 3.0
print(prober.pid, flush=True)
sys.stdin.read()
prober.stop()
"""


@root
def test_one_that_was_stopped_together_with_the_exporter_is_not_taken_for_one_that_hangs():
    with subprocess.Popen(
        [sys.executable, "-c", EXPORTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    ) as exporter:
        prober = int(exporter.stdout.readline())
        for pid in (exporter.pid, prober):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.5)
        for pid in (prober, exporter.pid):
            os.kill(pid, signal.SIGCONT)
        time.sleep(2.0)
        os.kill(prober, signal.SIGSTOP)
        why = "the prober said nothing for 3 s, and was killed"
        assert exporter.stdout.readline() == f"{why}; it is started again in 1 s\n"
        assert not Path(f"/proc/{prober}").exists()
        exporter.stdin.close()
        assert exporter.wait(30) == 0
