"""How processes of the prober end and are followed by others, and what is known meanwhile; played by the test."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.lab import eventually
from tests.openfiles import open_files
from tests.probers import SILENT, STATS, peer, played, probed, report
from wg_exporter.config import ProbeSettings
from wg_exporter.messages.prober import Counters, Peers, Setup
from wg_exporter.probed import Verdict
from wg_exporter.remote.prober import supervisor as process
from wg_exporter.remote.prober.handle import ProberProcess

ONE, TWO = peer(), peer(2)


@pytest.fixture
def pause():
    """Seconds until a process that died is followed by the next one."""
    return 0.01


@pytest.fixture
def stage(monkeypatch, pause):
    monkeypatch.setattr(process, "FIRST_PAUSE", pause)
    with played(ProbeSettings(timeout=0.5)) as stage:
        yield stage


# --- the next one -----------------------------------------------------------------------------------------------------


def test_a_new_process_is_told_of_all_peers_and_of_their_counters_anew(stage):
    stage.prober.set_peers([ONE, TWO])
    stage.prober.counters({TWO.key: (30, 40)})
    first = stage.life()
    assert isinstance(first.hear(), Setup)
    assert [first.hear(), first.hear()] == [Peers({1: ONE, 2: TWO}, ()), Counters({2: (30, 40)})]
    stage.prober.set_peers([TWO])
    assert first.hear() == Peers({}, (1,))
    first.die()
    second = stage.life(2)
    assert isinstance(second.hear(), Setup)
    assert [second.hear(), second.hear()] == [Peers({2: TWO}, ()), Counters({2: (30, 40)})]


@pytest.mark.parametrize("pause", [0.2])
def test_who_went_while_nobody_listened_is_no_news_to_the_next(stage):
    stage.prober.set_peers([ONE, TWO])
    stage.begun().die()
    eventually(lambda: stage.lines, within=30)
    stage.prober.set_peers([TWO])
    second = stage.life(2)
    assert isinstance(second.hear(), Setup)
    assert second.hear() == Peers({2: TWO}, ())


def test_what_earlier_processes_counted_is_added_to_and_a_report_stays_until_there_is_a_new_one(stage):
    stage.prober.set_peers([ONE])
    life = stage.begun()
    life.tell((1, probed(mtu=report())))
    stage.known(ONE.key)
    for number in (2, 3):
        life.die()
        life = stage.begun(number)
        life.tell((1, probed()))
        total = STATS._replace(sent=3 * number, lost=number, buckets=(number, number), rtt_sum=0.5 * number)
        total = total._replace(errors=((STATS.errors[0][0], 2 * number),))
        assert stage.known(ONE.key, total).mtu == report()
    life.tell((1, probed(mtu=report(Verdict.BLACKHOLE))))
    eventually(lambda: stage.results()[ONE.key].mtu == report(Verdict.BLACKHOLE), within=30)
    life.tell(withdrawn=(1,))
    eventually(lambda: stage.results()[ONE.key].mtu is None, within=30)


def test_a_peer_that_is_probed_anew_has_nothing_of_what_was_counted_of_it_before(stage):
    stage.prober.set_peers([ONE, TWO])
    first = stage.begun()
    first.tell((1, probed()), (2, probed()))
    stage.known(TWO.key)
    first.die()
    second = stage.begun(2)
    stage.prober.set_peers([TWO])
    stage.prober.set_peers([ONE, TWO])
    second.tell((3, probed()))
    assert stage.known(ONE.key).stats == STATS


@pytest.mark.parametrize("pause", [60.0])
def test_no_silence_lasts_while_nobody_listens_and_all_else_stays_known(stage):
    stage.prober.set_peers([ONE, TWO])
    first = stage.begun()
    first.tell((1, probed(SILENT, report())), (2, probed()))
    stage.known(TWO.key)
    calm = stage.results()[TWO.key]
    first.die()
    assert stage.known(ONE.key, SILENT._replace(silent_since=None)).mtu == report()
    assert stage.results()[TWO.key] is calm


# --- why and when -----------------------------------------------------------------------------------------------------


def test_the_pause_doubles_from_death_to_death_up_to_a_longest(stage, monkeypatch):
    monkeypatch.setattr(process, "LONGEST_PAUSE", 0.03)
    stage.prober.set_peers([ONE])
    for number in range(1, 5):
        stage.begun(number).die()
    eventually(lambda: len(stage.lines) == 4, within=30)
    why = "the prober ended (it closed the connection, exit code 1); it is started again in "
    assert stage.lines == [f"{why}{pause} s" for pause in ("0.01", "0.02", "0.03", "0.03")]


def test_a_long_life_makes_the_next_death_the_first_one_again(stage, monkeypatch):
    stage.prober.set_peers([ONE])
    stage.begun(1).die()
    third = stage.begun(2)
    third.die()
    life = stage.begun(3)
    monkeypatch.setattr(process, "LONG_LIFE", 0.2)
    time.sleep(0.3)
    life.die()
    eventually(lambda: len(stage.lines) == 3, within=30)
    assert [line.rpartition(" in ")[2] for line in stage.lines] == ["0.01 s", "0.02 s", "0.01 s"]


def test_the_usual_pauses_are_a_second_to_a_minute_and_a_life_is_long_from_a_minute_on():
    assert (process.FIRST_PAUSE, process.LONGEST_PAUSE, process.LONG_LIFE) == (1.0, 60.0, 60.0)


@pytest.mark.parametrize("pause", [0.3])
def test_the_pause_is_waited_for(stage):
    stage.prober.set_peers([ONE])
    first = stage.begun()
    died = time.monotonic()
    first.die()
    eventually(lambda: stage.lines, within=30)
    assert stage.prober.pid is None
    stage.life(2)
    assert 0.3 <= time.monotonic() - died < 20


@pytest.mark.parametrize(
    ("command", "why"),
    [("read _; exit 3", "ended (it closed the connection, exit code 3)"), ("kill -TERM $$", "was killed by SIGTERM")],
)
def test_how_it_ended_is_logged(stage, command, why):
    stage.command = command
    stage.prober.set_peers([ONE])
    stage.begun().die()
    eventually(lambda: stage.lines, within=30)
    assert stage.lines[0] == f"the prober {why}; it is started again in 0.01 s"


def test_one_that_does_not_end_by_itself_is_killed(stage, monkeypatch):
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.1)
    stage.command = "exec sleep 60"
    stage.prober.set_peers([ONE])
    first = stage.begun()
    first.connection.close()
    assert first.process.wait(30) == -signal.SIGKILL
    eventually(lambda: stage.lines, within=30)
    assert "did not end (it closed the connection), and was killed" in stage.lines[0]


def test_one_that_says_nothing_is_replaced_and_one_that_speaks_is_not(stage, monkeypatch):
    monkeypatch.setattr(process, "SILENCE", 1.5)
    stage.prober.set_peers([ONE])
    first = stage.begun()
    end = time.monotonic() + 2.2
    while time.monotonic() < end:
        first.tell()
        time.sleep(0.1)
    assert stage.lines == []
    first.let_go()
    eventually(lambda: stage.lines, within=30)
    assert stage.lines == ["the prober ended (said nothing for 1.5 s, exit code 1); it is started again in 0.01 s"]


@pytest.mark.parametrize("where", ["socketpair", "start"])
def test_what_keeps_it_from_being_started_is_logged_and_nothing_is_left_open(monkeypatch, where):
    monkeypatch.setattr(process, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(process, "LONGEST_PAUSE", 0.01)
    lines: list[str] = []

    def fail(*_):
        raise OSError("too many open files")

    if where == "socketpair":
        monkeypatch.setattr(process.socket, "socketpair", fail)
    prober = ProberProcess(ProbeSettings(), {}, lines.append, fail)
    try:
        prober.set_peers([ONE])
        eventually(lambda: len(lines) > 3, within=30)
        before = open_files()
        eventually(lambda: len(lines) > 30, within=30)
        assert (open_files() - before).total() <= 2, "the two ends of a socket that is just tried"
        assert lines[0] == "the prober could not be started: too many open files; it is started again in 0.01 s"
        assert prober.pid is None
    finally:
        prober.stop()


# --- another configuration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause", [60.0])
def test_another_configuration_ends_it_and_the_next_is_told_at_once_and_nothing_is_logged(stage):
    stage.prober.set_peers([ONE])
    first = stage.begun()
    first.tell((1, probed(SILENT)))
    stage.known(ONE.key)
    stage.prober.configure(ProbeSettings(timeout=0.4), {"blue": "/run/netns/blue"})
    first.let_go()
    told = stage.life(2).hear()
    assert (told.settings.timeout, told.namespaces) == (0.4, {"blue": "/run/netns/blue"})
    assert stage.known(ONE.key).stats == SILENT._replace(silent_since=None), "nobody listened in between"
    assert stage.lines == []


def test_the_same_configuration_changes_nothing():
    with played(ProbeSettings(timeout=0.5), {"blue": "/b"}) as stage:
        stage.prober.set_peers([ONE])
        first = stage.begun()
        stage.prober.configure(ProbeSettings(timeout=0.5), {"blue": "/b"})
        stage.prober.set_peers([ONE, TWO])
        assert first.hear() == Peers({2: TWO}, ())
        assert len(stage.lives) == 1


def test_what_it_counted_by_the_old_configuration_is_not_taken_after_the_new_one_holds(stage):
    stage.prober.set_peers([ONE])
    first = stage.begun()
    first.tell((1, probed()))
    stage.known(ONE.key)
    with stage.prober._supervisor.lock:
        first.tell((1, probed(SILENT)))
        stage.prober._supervisor._restart = True  # as `configure` does, before the thread comes to read that
        stage.prober._supervisor.wake()
    first.let_go()
    stage.life(2)
    assert stage.results()[ONE.key].stats == STATS


def test_other_bounds_begin_the_histogram_at_nothing_and_all_else_goes_on(stage):
    stage.prober.set_peers([ONE])
    first = stage.begun()
    first.tell((1, probed(mtu=report())))
    stage.known(ONE.key)
    first.die()
    stage.begun(2)
    stage.prober.configure(ProbeSettings(rtt_buckets=(0.5, 1.0)), {})
    empty = STATS._replace(buckets=(0, 0, 0), rtt_sum=0.0)
    assert stage.results()[ONE.key] == probed(empty, report())
    stage.lives[1].let_go()
    third = stage.begun(3)
    third.tell((1, probed(STATS._replace(buckets=(0, 1, 1), rtt_sum=0.25, errors=()))))
    total = STATS._replace(sent=6, lost=2, buckets=(0, 1, 1), rtt_sum=0.25)
    assert stage.known(ONE.key, total).mtu == report()


def test_other_settings_leave_the_histogram_as_it_is(stage):
    stage.prober.set_peers([ONE])
    first = stage.begun()
    first.tell((1, probed()))
    stage.known(ONE.key)
    stage.prober.configure(ProbeSettings(timeout=1.0), {})
    assert stage.results()[ONE.key] == probed()


# --- the beginning and the end ----------------------------------------------------------------------------------------


def test_a_process_is_started_with_the_first_peer_and_stays_when_there_is_none_any_more(monkeypatch):
    monkeypatch.setattr(process, "IDLE", 600.0)  # the thread is roused, and does not look by chance
    with played() as stage:
        stage.prober.counters({ONE.key: (1, 1)})
        stage.prober.set_peers([])
        stage.prober.set_peers([ONE])
        first = stage.begun()
        assert stage.prober.pid == first.process.pid
        stage.prober.set_peers([])
        assert first.hear() == Peers({}, (1,))
        assert len(stage.lives) == 1


def test_while_there_is_nothing_to_do_it_costs_nothing():
    before = set(threading.enumerate())
    with played() as stage:
        (thread,) = set(threading.enumerate()) - before
        clock = time.pthread_getcpuclockid(thread.ident)

        def idle() -> None:
            used = time.clock_gettime(clock)
            time.sleep(1.1)  # longer than it sleeps in a row
            assert time.clock_gettime(clock) - used < 0.02

        stage.prober.set_peers([])
        idle()  # nobody to probe
        stage.prober.set_peers([ONE])
        life = stage.begun()
        stage.prober.counters({ONE.key: (1, 1)})
        life.hear()
        idle()  # nothing to tell
        stage.prober.counters({ONE.key: (2, 1)})
        assert life.hear() == Counters({1: (2, 1)})
        assert stage.lines == []


def test_what_is_to_be_told_is_told_and_what_is_said_is_known_at_once(monkeypatch):
    monkeypatch.setattr(process, "SILENCE", 600.0)  # for which it waits if nothing rouses it
    with played() as stage:
        stage.prober.set_peers([ONE])
        life = stage.begun()
        for tell in (
            lambda: stage.prober.set_peers([ONE, TWO]),
            lambda: stage.prober.counters({ONE.key: (1, 1)}),
        ):
            tell()
            life.hear()
        life.tell((1, probed()))
        stage.known(ONE.key)


def test_stop_ends_thread_process_and_files_and_comes_only_once(stage):
    before = open_files()
    prober = ProberProcess(ProbeSettings())
    prober.stop()
    assert not open_files() - before
    prober.set_peers([ONE])  # too late, and no harm
    prober.counters({ONE.key: (1, 1)})
    prober.stop()
    assert not open_files() - before


@pytest.mark.parametrize("when", ["waiting for a peer", "probing", "pausing"])
def test_stop_waits_until_all_has_ended_and_not_longer(monkeypatch, when):
    monkeypatch.setattr(process, "FIRST_PAUSE", 60.0)
    monkeypatch.setattr(process, "IDLE", 600.0)
    before = set(threading.enumerate())
    with played() as stage:
        (thread,) = set(threading.enumerate()) - before
        assert (thread.name, thread.daemon) == ("prober", True)
        if when != "waiting for a peer":
            stage.prober.set_peers([ONE])
            life = stage.begun()
            life.let_go()
        if when == "pausing":
            life.die()
            eventually(lambda: stage.lines, within=30)
        logged = list(stage.lines)
        stage.prober.stop()  # it waits for 4 s at most
        assert not thread.is_alive()
        assert stage.prober.pid is None
        assert stage.lines == logged


def test_a_process_that_does_not_end_holds_up_the_end_for_4_s_at_most(monkeypatch):
    assert process.STOP_TIMEOUT == 2.0
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.2)
    with played() as stage:
        stage.command = "exec sleep 60"
        stage.prober.set_peers([ONE])
        stage.begun()
        stage.prober.stop()
        assert stage.lives[0].process.wait(30) == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: raw sockets")
def test_the_real_one_has_no_terminal_no_output_and_a_session_of_its_own():
    prober = ProberProcess(ProbeSettings())
    try:
        prober.set_peers([ONE])
        pid = eventually(lambda: prober.results() and prober.pid, within=30)
        assert os.getsid(pid) == pid
        assert [str(Path(f"/proc/{pid}/fd/{number}").resolve()) for number in (0, 1)] == ["/dev/null"] * 2
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert command[1:4] == [b"-P", b"-m", b"wg_exporter.prober"]
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        (path,) = (one.decode() for one in environment if one.startswith(b"PYTHONPATH="))
        assert path.partition("=")[2].split(":")[0] == str(Path(process.__file__).parents[3]), "it is of the same code"
        assert b"PATH=" + os.environb[b"PATH"] in environment
    finally:
        prober.stop()
