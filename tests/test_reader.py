"""Passes over sources that answer, hang, fail and break: each loses its own rows, none the deadline."""

from __future__ import annotations

import errno
import re
import threading
import time

import pytest

from tests.rigs import reading
from tests.rows import FakeHost, FakeTime, conf_file, declared, device, link, peer
from tests.serving import eventually
from tests.threads import all_wait
from wg_exporter.config import Config, NamespaceConfig
from wg_exporter.linux.errors import DeniedError, NamespaceDeniedError, NamespaceGoneError, SourceError
from wg_exporter.linux.netlink import NetlinkError
from wg_exporter.model import Backend, FailedDevice, Failure, SourceName
from wg_exporter.reader.reader import Reader, Reading, Worker
from wg_exporter.sources import OnePass, StoppedError

# Whatever a thread of a source raises, nobody else would see.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

DEADLINE = 0.7  # seconds; those that answer must not need them all, even if they have to wait for a processor

KERNEL, USERSPACE, LINKS, CONF = SourceName.KERNEL, SourceName.USERSPACE, SourceName.LINKS, SourceName.CONF


@pytest.fixture
def host():
    """A host with one device, its link and its file."""
    host = FakeHost()
    host.devices = [device(peer(1))]
    host.links = [link()]
    host.conf = (conf_file("wg0", declared(1, "anna")),)
    yield host
    for event in host.stuck.values():
        event.set()
    for worker in host.started:
        worker.stop()


@pytest.fixture
def time_():
    return FakeTime()


@pytest.fixture
def reader(host, time_):
    return Reader(list(host.workers(Config(), time_.clock)), time_.clock, DEADLINE)


def outcomes(snapshot):
    return {outcome.source: (outcome.success, outcome.problem) for outcome in snapshot.outcomes}


# --- one pass ---------------------------------------------------------------------------------------------------------


def test_a_pass_brings_the_rows_of_all_sources_and_the_time_at_which_it_began(host, reader, time_):
    found = reader.read()
    assert found.devices == tuple(host.devices)
    assert found.devices[0] is host.devices[0], "the same object, so that what did not change is seen at once"
    assert found.links == {("", "wg0"): host.links[0]}
    assert found.conf is host.conf
    assert (found.wall, found.monotonic) == (time_.wall, time_.monotonic)
    assert outcomes(found) == {KERNEL: (True, ""), LINKS: (True, ""), CONF: (True, "")}


def test_devices_and_links_of_each_namespace_keep_apart(host, time_):
    host.devices = [device(peer(1)), device(peer(2), netns="blue")]
    host.links = [link(), link(ifindex=9, netns="blue")]
    config = Config(namespaces=(NamespaceConfig("blue"),))
    found = Reader(list(host.workers(config, time_.clock)), time_.clock).read()
    assert [(row.netns, row.peers[0]) for row in found.devices] == [("", peer(1)), ("blue", peer(2))]
    assert {key: row.ifindex for key, row in found.links.items()} == {("", "wg0"): 7, ("blue", "wg0"): 9}
    assert {key: row.netns for key, row in found.links.items()} == {("", "wg0"): "", ("blue", "wg0"): "blue"}


def test_rows_belong_to_the_namespace_that_they_were_read_in(time_):
    rows = (KERNEL, Reading([device(peer(1))], [FailedDevice("", "wg1", Backend.KERNEL, "busy")]), "blue")
    with reading(time_, rows, (LINKS, Reading(links=[link()]), "blue")) as reader:
        found = reader.read()
    assert [row.netns for row in (*found.devices, *found.failed, *found.links.values())] == ["blue"] * 3
    assert list(found.links) == [("blue", "wg0")]


def test_how_long_a_source_took_is_told_in_seconds():
    time_ = FakeTime()

    def slow():
        time_.advance(0.75)
        return Reading()

    worker = Worker(KERNEL, slow, clock=time_.clock)
    assert Reader([worker], time_.clock).read().outcomes[0].duration == pytest.approx(0.75)
    worker.stop()


def test_notes_of_all_sources_and_ports_of_each_namespace_are_brought_together(time_):
    here = (LINKS, Reading(notes=("a",), ports=frozenset({51820})), "")
    there = (LINKS, Reading(notes=("b", "c"), ports=frozenset()), "blue")
    with reading(time_, here, there, (KERNEL, Reading(), "green")) as reader:
        found = reader.read()
    assert found.notes == ("a", "b", "c")
    assert found.udp_ports == {"": {51820}, "blue": frozenset()}, "of green nobody knows"


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_source_that_fails_says_why_and_the_others_go_on(host, reader):
    host.problems[KERNEL] = "no permission; grant CAP_NET_ADMIN"
    found = reader.read()
    assert found.devices == ()
    assert found.links
    assert outcomes(found)[KERNEL] == (False, "no permission; grant CAP_NET_ADMIN")
    del host.problems[KERNEL]
    assert reader.read().devices == tuple(host.devices)


def test_a_bug_in_a_source_is_told_by_its_place_and_never_by_a_message_that_could_quote_a_key(host, reader):
    host.problems[KERNEL] = ValueError("private_key=SECRET")
    success, problem = outcomes(reader.read())[KERNEL]
    assert not success
    assert re.fullmatch(r"unexpected ValueError in rows\.py:\d+", problem)
    assert "SECRET" not in problem
    del host.problems[KERNEL]
    assert outcomes(reader.read())[KERNEL] == (True, ""), "the thread of the source lives on"


def test_a_namespace_that_does_not_exist_is_known_and_all_else_is_a_failure_to_look(time_):
    given = [Reading(), NamespaceGoneError("gone"), NamespaceDeniedError("shut"), SourceError(), ValueError()]
    rows = [(LINKS, what, f"n{at}") for at, what in enumerate(given)]
    with reading(time_, *rows, (KERNEL, Reading(), "n5")) as reader:
        assert reader.read().namespaces_read() == {"n0", "n1"}


def test_the_cause_of_a_failure_is_that_of_the_error_whatever_its_message_says(time_):
    given = [DeniedError("x"), NetlinkError(errno.EACCES), NetlinkError(errno.ENOMEM), SourceError("no permission")]
    with reading(time_, *((LINKS, what, f"n{at}") for at, what in enumerate(given))) as reader:
        failures = [outcome.failure for outcome in reader.read().outcomes]
    assert failures == [Failure.DENIED, Failure.DENIED, Failure.OTHER, Failure.OTHER]


def test_names_are_kept_while_files_can_not_be_read_and_renewed_when_they_can(host, reader):
    names = reader.read().conf
    host.problems[CONF] = "no permission"
    assert reader.read().conf is names
    del host.problems[CONF]
    host.conf = ()
    assert reader.read().conf == ()


def test_names_are_kept_while_reading_the_files_takes_too_long(host, reader):
    names = reader.read().conf
    host.stuck[CONF] = threading.Event()
    assert reader.read().conf is names


# --- the deadline -----------------------------------------------------------------------------------------------------


def test_a_stuck_source_loses_its_rows_at_the_deadline_is_not_read_twice_and_recovers(host, reader):
    host.stuck[KERNEL] = threading.Event()
    for _ in range(3):
        begun = time.monotonic()
        found = reader.read()
        assert 0.5 * DEADLINE < time.monotonic() - begun < 20
        assert (found.devices, found.conf) == ((), host.conf)
        assert outcomes(found) == {
            KERNEL: (False, f"no answer within {DEADLINE} s"),
            LINKS: (True, ""),
            CONF: (True, ""),
        }
        assert {outcome.failure for outcome in found.outcomes} == {Failure.OTHER}
    host.stuck.pop(KERNEL).set()
    eventually(host.started[0]._current.done)
    assert host.reads[KERNEL] == 1, "the scrapes in between ordered nothing more"
    assert reader.read().devices == tuple(host.devices)
    assert host.reads[KERNEL] == 1, "the answer that came too late is for the next who asks"
    assert reader.read().devices == tuple(host.devices)
    assert host.reads[KERNEL] == 2


@pytest.mark.parametrize(("seconds", "reads"), [(14.5, 1), (15, 2), (20, 2)])
def test_an_answer_that_came_too_late_is_served_only_if_its_read_began_less_than_15_s_ago(
    host, reader, time_, seconds, reads
):
    host.stuck[KERNEL] = gate = threading.Event()
    assert reader.read().devices == ()
    gate.set()
    eventually(host.started[0]._current.done)
    time_.advance(seconds)
    assert reader.read().devices == tuple(host.devices)
    assert host.reads[KERNEL] == reads


def test_a_pass_has_2_5_s_unless_told_otherwise(time_):
    release = threading.Event()

    def stuck():
        time_.advance(2.5)  # the waiter finds that the deadline is over, and waits no more
        release.wait(30)
        return Reading()

    worker = Worker(KERNEL, stuck, clock=time_.clock)
    reader = Reader([worker], time_.clock)
    begun = time.monotonic()
    (outcome,) = reader.read().outcomes
    assert time.monotonic() - begun < 20
    assert (outcome.problem, outcome.duration) == ("no answer within 2.5 s", 2.5)
    release.set()
    reader.stop()


def test_a_source_that_is_always_late_is_served_late_and_not_never(time_):
    clock = time_.clock._replace(monotonic=time.monotonic)
    late = threading.Semaphore(0)
    worker = Worker(KERNEL, lambda: (late.acquire(), Reading(devices=[device(peer(1))]))[1], clock=clock)
    reader = Reader([worker], clock, 0.1)
    seen = []
    for _ in range(2):
        seen.append(len(reader.read().devices))
        late.release()
        eventually(worker._current.done)
        seen.append(len(reader.read().devices))
    assert seen == [0, 1, 0, 1]
    late.release()
    worker.stop()


def test_a_read_that_hangs_costs_one_deadline_and_not_one_in_every_pass(host):
    clock = FakeTime().clock._replace(monotonic=time.monotonic)
    host.stuck[KERNEL] = threading.Event()
    reader = Reader(list(host.workers(Config(), clock)), clock, 1)
    took = []
    for _ in range(3):
        begun = time.monotonic()
        assert outcomes(reader.read())[KERNEL] == (False, "no answer within 1 s")
        took.append(time.monotonic() - begun)
    assert took[0] >= 0.98
    assert sum(took[1:]) < 1.9


def test_several_stuck_sources_together_take_no_longer_than_one():
    release, time_ = threading.Event(), FakeTime()
    clock = time_.clock._replace(monotonic=time.monotonic)
    stuck = [Worker(KERNEL, lambda: (release.wait(30), Reading())[1], clock=clock, netns=f"n{n}") for n in range(20)]
    begun = time.monotonic()
    found = Reader(stuck, clock, 0.5).read()
    assert 0.4 < time.monotonic() - begun < 20 * 0.5
    assert [outcome.success for outcome in found.outcomes] == [False] * 20
    release.set()
    for worker in stuck:
        worker.stop()


# --- one read for all who ask at once ---------------------------------------------------------------------------------


def test_ten_scrapes_at_once_share_one_read(host, time_):
    host.stuck[KERNEL] = threading.Event()
    reader = Reader(list(host.workers(Config(), time_.clock)), time_.clock, 10)
    found = []
    threads = [threading.Thread(target=lambda: found.append(reader.read())) for _ in range(10)]
    threads[0].start()
    eventually(lambda: host.reads[KERNEL] == 1)
    for thread in threads[1:]:
        thread.start()
    all_wait(threads, OnePass.read)
    host.stuck.pop(KERNEL).set()
    for thread in threads:
        thread.join(30)
    assert len(found) == 10
    assert all(snapshot is found[0] for snapshot in found)
    assert host.reads == {KERNEL: 1, LINKS: 1, CONF: 1}


def test_all_who_share_a_read_that_breaks_learn_of_it_and_the_next_read_is_a_new_one(host, time_):
    host.stuck[KERNEL] = threading.Event()
    host.failed = [None]  # a bug beyond any source
    reader = Reader(list(host.workers(Config(), time_.clock)), time_.clock, 10)
    failures = []

    def ask():
        try:
            reader.read()
        except AttributeError as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    eventually(lambda: host.reads[CONF] == 1)
    all_wait(threads, OnePass.read)
    host.stuck.pop(KERNEL).set()
    for thread in threads:
        thread.join(30)
    assert len(failures) == 3
    host.failed = []
    assert reader.read().devices == tuple(host.devices)


def test_one_who_asks_after_the_other_gets_a_read_of_their_own(host, reader):
    reader.read()
    reader.read()
    assert host.reads == {KERNEL: 2, LINKS: 2, CONF: 2}


def test_a_source_that_hardly_changes_is_asked_again_only_after_a_while(time_):
    reads = []
    worker = Worker(CONF, lambda: reads.append(1) or Reading(), clock=time_.clock, every=4.0)
    reader = Reader([worker], time_.clock)
    for seconds, count in ((0, 1), (3.5, 1), (0.5, 2), (1, 2), (4, 3)):
        time_.advance(seconds)
        assert outcomes(reader.read())[CONF] == (True, "")
        assert len(reads) == count
    worker.stop()


# --- the end ----------------------------------------------------------------------------------------------------------


def test_a_stopped_reader_says_so_lets_go_of_its_sockets_and_ends_its_threads(time_):
    closed = threading.Event()
    before = set(threading.enumerate())
    worker = Worker(KERNEL, Reading, closed.set, clock=time_.clock)
    (thread,) = set(threading.enumerate()) - before
    reader = Reader([worker], time_.clock)
    reader.read()
    assert not closed.is_set()
    reader.stop()
    with pytest.raises(StoppedError):
        reader.read()
    with pytest.raises(StoppedError):
        reader.read()  # and it does not wait for the one that failed
    thread.join(30)
    assert not thread.is_alive()
    assert closed.is_set()


def test_the_thread_of_a_source_is_called_after_it_and_holds_up_no_exit(host, time_):
    before = set(threading.enumerate())
    list(host.workers(Config(namespaces=(NamespaceConfig("blue"),)), time_.clock))
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} == {"kernel", "links", "kernel blue", "links blue", "conf"}
    assert [thread.name for thread in threads if not thread.daemon] == []


def test_a_read_that_was_under_way_when_the_reader_was_stopped_is_still_answered(host, time_):
    host.stuck[KERNEL] = threading.Event()
    reader = Reader(list(host.workers(Config(), time_.clock)), time_.clock, 10)
    found = []
    thread = threading.Thread(target=lambda: found.append(reader.read()))
    thread.start()
    eventually(lambda: host.reads == {KERNEL: 1, LINKS: 1, CONF: 1})
    reader.stop()
    host.stuck[KERNEL].set()
    thread.join(30)
    assert found[0].devices == tuple(host.devices)


class FakeNamespace:
    """Says, as a Namespace does, whether entering it moved the thread."""

    def __init__(self, *moves):
        self.moves = list(moves)

    def enter(self):
        move = self.moves.pop(0)
        if isinstance(move, Exception):
            raise move
        return move

    def close(self):
        self.moves.append("closed")


def test_sockets_are_closed_whenever_the_thread_moved_to_another_namespace(time_):
    did = []
    places = FakeNamespace(True, False, SourceError("namespace blue: does not exist"), True)
    worker = Worker(
        KERNEL,
        lambda: did.append("read") or Reading(),
        lambda: did.append("close"),
        clock=time_.clock,
        netns="blue",
        namespace=places,
    )
    reader = Reader([worker], time_.clock)
    seen = [reader.read().outcomes[0] for _ in range(4)]
    assert did == ["close", "read", "read", "close", "close", "read"], (
        "sockets in a namespace that is gone keep it alive"
    )
    assert [(outcome.netns, outcome.problem) for outcome in seen] == [
        ("blue", ""),
        ("blue", ""),
        ("blue", "namespace blue: does not exist"),
        ("blue", ""),
    ]
    assert places.moves == []
    reader.stop()
    eventually(lambda: places.moves == ["closed"])
