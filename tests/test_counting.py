"""The last step of a pass: packets beside the peers that were just read, and nothing but lines where there are none."""

from __future__ import annotations

import threading

import pytest

from tests.rows import FakeTime, device, link, peer, snapshot
from wg_exporter.accounted import Packets
from wg_exporter.config import parse
from wg_exporter.linux import privileges
from wg_exporter.linux.errors import DeniedError
from wg_exporter.model import Failure, Outcome, SourceName
from wg_exporter.reader.accounting.sweeper import Sweeper
from wg_exporter.reader.counting import Counters, Counting
from wg_exporter.reader.reader import Reading, Worker
from wg_exporter.sources import SYSTEM_CLOCK, StoppedError

LINKS = Outcome(SourceName.LINKS, "", True, 0.1)
LATER = SYSTEM_CLOCK.monotonic() + 600.0  # no test waits for it


class Fake:
    """A source that counts as many packets as it is told, and remembers what it was to count."""

    def __init__(self, netns: str = "") -> None:
        self.netns = netns
        self.wanted = None
        self.problem: Exception | None = None
        self.notes: tuple[str, ...] = ()
        self.only: object = None
        self.closed = threading.Event()
        self.waits: threading.Event | None = None

    def follow(self, wanted) -> None:
        self.wanted = wanted

    def read(self) -> Reading:
        if self.waits:
            self.waits.wait(30)
        if self.problem:
            raise self.problem
        found = {}
        for (name, _ifindex), peers in self.wanted.devices.items():
            counted = self.only or peers
            found[name] = counted, Packets(1, (5,) * len(counted), (6,) * len(counted))
        return Reading(packets=found, notes=self.notes)

    def counters(self) -> Counters:
        worker = Worker(SourceName.ACCOUNTING, self.read, self.closed.set, clock=SYSTEM_CLOCK, netns=self.netns)
        return Counters(worker, self)


@pytest.fixture
def made():
    """Makes what counts by these sources; it ends with the test."""
    open_ones = []

    def make(*fakes, count=True):
        counting = Counting([fake.counters() for fake in fakes], SYSTEM_CLOCK.monotonic, count=count)
        open_ones.append(counting)
        return counting

    yield make
    for counting in open_ones:
        counting.stop()


def seen(**changes):
    found = snapshot(device(peer(1), peer(2)), links=(link(),), outcomes=(LINKS,))
    return found._replace(capabilities=(("net_admin", True),), notes=("before",))._replace(**changes)


def test_the_peers_of_each_device_have_their_packets(made):
    fake = Fake()
    found = made(fake).add(seen(), LATER)
    assert [tuple(row) for row in found.devices[0].packets] == [(5, 6), (5, 6)]
    assert fake.wanted.devices == {("wg0", 7): found.devices[0].peers}
    assert list(fake.wanted.there) == [7]
    assert found.outcomes[0] == LINKS
    assert (found.outcomes[1].source, found.outcomes[1].success) == (SourceName.ACCOUNTING, True)
    assert found.capabilities == (("net_admin", True), ("bpf", True))


def test_devices_are_counted_in_their_own_namespace_and_only_with_a_link(made):
    here, blue = Fake(), Fake("blue")
    rows = device(peer(1)), device(peer(2), netns="blue"), device(peer(3), name="wg9")
    links = link(), link(netns="blue", ifindex=3), link("eth0", 9)
    found = made(here, blue).add(
        snapshot(*rows, links=links, outcomes=(LINKS, LINKS._replace(netns="blue", success=False))), LATER
    )
    assert list(here.wanted.devices) == [("wg0", 7)]
    assert sorted(here.wanted.there) == [7, 9]
    assert list(blue.wanted.devices) == [("wg0", 3)]
    assert blue.wanted.there is None, "its links could not be read"
    assert [row.packets is not None for row in found.devices] == [True, True, False]


def test_why_nothing_can_be_counted_is_told_once_and_the_rest_of_the_pass_stays(made):
    fake = Fake()
    fake.problem = DeniedError("no right; grant it")
    found = made(fake).add(seen(), LATER)
    assert found.devices == seen().devices
    last = found.outcomes[-1]
    assert (last.success, last.problem, last.failure) == (False, "no right; grant it", Failure.DENIED)
    assert dict(found.capabilities) == {"net_admin": True, "bpf": False}
    assert found.notes == ("before",)


def test_what_is_in_the_way_of_one_device_is_a_note_and_no_failure(made):
    fake = Fake()
    fake.notes = ("wg1: packets are not counted: why",)
    found = made(fake).add(seen(), LATER)
    assert found.notes == ("before", "wg1: packets are not counted: why")
    assert dict(found.capabilities)["bpf"] is True


def test_packets_that_were_counted_for_other_peers_are_not_shown_beside_these(made):
    """As in an answer that came too late for its own pass."""
    fake = Fake()
    fake.only = device(peer(2), peer(1)).peers
    assert made(fake).add(seen(), LATER).devices[0].packets is None


def test_one_that_hangs_costs_its_packets_alone(made):
    fake = Fake()
    fake.waits = threading.Event()
    found = made(fake).add(seen(), 0.0)
    assert found.devices[0].packets is None
    assert (found.outcomes[-1].success, found.outcomes[-1].problem) == (False, "no answer in time")
    fake.waits.set()


def test_the_end_waits_until_everything_was_taken_away(made):
    fakes = Fake(), Fake("blue")
    counting = made(*fakes)
    counting.add(seen(), LATER)
    counting.stop()
    assert all(fake.closed.is_set() for fake in fakes)
    assert counting.add(seen(), LATER) == seen()


def test_a_pass_that_is_under_way_at_the_end_says_so(made):
    fake = Fake()
    counters = fake.counters()
    counting = Counting([counters], SYSTEM_CLOCK.monotonic, count=True)
    counters.worker.stop()
    with pytest.raises(StoppedError):
        counting.add(seen(), LATER)


def test_where_nothing_is_counted_it_is_swept_once_and_no_pass_shows_it():
    sweeper = Sweeper(lambda _protocol: pytest.fail("there is nothing to sweep, and nobody is asked"))
    worker = Worker(
        SourceName.ACCOUNTING, lambda: Reading(packets=sweeper.read()), sweeper.close, clock=FakeTime().clock
    )
    counting = Counting([Counters(worker, sweeper)], SYSTEM_CLOCK.monotonic, count=False)
    unread = seen(outcomes=(LINKS._replace(success=False),), links={})
    assert counting.add(unread, LATER) == unread
    assert not sweeper.done
    bare = seen(links={})
    assert counting.add(bare, LATER) == bare
    assert sweeper.done
    worker.join(30)
    with pytest.raises(StoppedError):
        worker.begin()


@pytest.mark.parametrize(
    ("release", "kept"),
    [
        ("5.7.0", privileges.CAP_SYS_ADMIN),
        ("5.8.0-rc1", privileges.CAP_BPF),
        ("6.1.0-13-amd64", privileges.CAP_BPF),
        ("?", privileges.CAP_SYS_ADMIN),
    ],
)
def test_counting_takes_one_right_more_and_which_one_depends_on_the_kernel(release, kept):
    assert privileges.to_count(release) == {kept}


def test_packets_are_counted_only_where_that_is_asked_for():
    assert not parse("", "x").accounting.enabled
    assert parse("accounting: {enabled: true}", "x").accounting.enabled
