"""`wg-exporter diagnose` ends within 20 s on a host that is slow, and says what it had no time for. The clock is
played: whatever looks takes as long as a test says.
"""

from __future__ import annotations

import threading
import time

import pytest

from tests.lab import eventually
from tests.rows import WALL, device, key, link, peer, snapshot
from wg_exporter.causes.cause import Cause, Confidence
from wg_exporter.causes.facts import Echo
from wg_exporter.cli.diagnose import assemble, host
from wg_exporter.cli.diagnose.assemble import Known
from wg_exporter.cli.diagnose.choice import Chosen
from wg_exporter.cli.diagnose.deadline import LAST_LOOKS, MOST_SLOWER, PROMISED, SPOKEN, Deadline
from wg_exporter.cli.diagnose.echoes import Inside
from wg_exporter.cli.diagnose.enough import LONGEST
from wg_exporter.cli.diagnose.firewall.ruleset import Chain
from wg_exporter.cli.diagnose.gather import Around, Gathering
from wg_exporter.cli.diagnose.run import Course, observe
from wg_exporter.config import Config
from wg_exporter.sighted import Refusal, Sighting

ENDPOINT = "192.0.0.1:51820"
PEER = peer(1, endpoint=ENDPOINT)
CHOSEN = Chosen(("", "wg0", key(1)), "berlin", device(PEER), link(), PEER, True, "10.0.0.1", provoke="10.0.0.1")
LOOK = snapshot(device(PEER), links=(link(),))
REFUSED = (Refusal("192.0.0.1", False, 3, 3, 2, 2),)


class Played:
    """A host that takes `first` seconds to be read, and for each round, decision and end `slow` seconds more than it
    should. `seen` makes what was seen of the wire and inside from the seconds since the first packet and its time.
    """

    def __init__(self, *, before=0.6, first=0.05, slow=0.0, seen=lambda *_: {}):
        self.time = 1000.0
        self.deadline = Deadline(self.time, lambda: self.time)
        self.course = Course(self.time, lambda _seconds, line: self.told.append(line))
        self.told: list[str] = []
        self.rounds = 0
        self.answered, self.measured, self.ready = False, True, True
        self._first, self._slow, self._seen = first, slow, seen
        self._sent = None
        self.time += before

    def diagnose(self):
        """The seconds that all of it took, and what was not looked at."""
        not_looked = observe(self, self.course, self.deadline)
        self.time += self._slow  # as printing takes
        return self.deadline.elapsed(), not_looked

    def wait_for_host(self, seconds):
        self.time += min(seconds, self._first)

    def begin(self, now, longest):
        assert longest >= 0
        self._sent = now

    def step(self, longest, now):
        assert now == self.time
        self.rounds += 1
        self.time += longest + self._slow

    def finish(self, seconds):
        assert 0 <= seconds <= self.deadline.left(LAST_LOOKS)
        self.time += seconds + self._slow

    def known(self, now):
        self.time += self._slow
        sent = now if self._sent is None else self._sent
        looks = [snapshot(device(PEER), at=at, links=(link(),)) for at in (sent, now)]
        more = self._seen(now - sent, sent)
        self.answered = bool("inside" in more and more["inside"].echo.answered)
        return Known(CHOSEN, now, WALL, *looks, provoked=self._sent is not None)._replace(**more)


def unanswered(since, began):
    """An initiation at once and every five seconds, and nothing comes back."""
    sent = tuple(began + at for at in (0.1, 5.2, 10.4, 15.7) if at <= since)
    return {
        "sighting": Sighting(began, since, initiations_sent=len(sent), sent_at=sent[-1:]),
        "inside": Inside(Echo("10.0.0.1", int(since * 5), 0), None, None, (), None),
    }


def refused(since, began):
    seen = unanswered(since, began)
    return seen | {"sighting": seen["sighting"]._replace(refusals=REFUSED)}


def answering(since, _began):
    return {"inside": Inside(Echo("10.0.0.1", 10, 10 if since > 0.2 else 0), None, 0.001, (), None), "handshakes": 1}


def test_on_a_host_that_is_not_busy_all_is_seen_that_can_be_seen():
    host = Played(seen=unanswered)
    seconds, not_looked = host.diagnose()
    assert not_looked == ()
    assert host.course.finding.cause is Cause.SILENT
    assert host.course.finding.confidence is Confidence.LIKELY
    assert seconds < PROMISED / 2


def test_what_is_seen_at_once_is_said_at_once():
    host = Played(seen=refused)
    seconds, not_looked = host.diagnose()
    assert (host.course.finding.cause, host.course.finding.confidence) == (Cause.PORT_UNREACHABLE, Confidence.CERTAIN)
    assert not_looked == ()
    assert seconds < 3.5


def test_the_longest_look_fits_where_the_host_is_read_within_half_a_second():
    deadline = Deadline(0.0, lambda: 0.5)
    deadline.first_packet()
    assert deadline.looks_until() - 0.5 >= LONGEST - 0.2


@pytest.mark.parametrize("seen", [lambda *_: {}, unanswered, answering])
@pytest.mark.parametrize(
    ("before", "first", "slow"),
    [
        (0.6, 0.05, 0.0),
        (0.6, 2.0, 0.3),
        (2.0, 2.0, 1.2),
        (5.0, 2.0, 0.1),
        (5.6, 2.0, 0.7),
        (9.0, 2.0, 0.9),
        (12.0, 9.9, 1.0),
        (14.5, 0.5, 1.0),
        (16.5, 0.5, 1.0),
        (18.9, 0.5, 0.5),
    ],
)
def test_however_slow_the_host_is_it_ends_in_time(before, first, slow, seen):
    host = Played(before=before, first=first, slow=slow, seen=seen)
    seconds, _ = host.diagnose()
    assert seconds <= PROMISED


def test_a_host_that_was_too_slow_before_is_asked_nothing_more():
    host = Played(before=30.0, slow=0.5, seen=refused)
    seconds, not_looked = host.diagnose()
    assert seconds <= 30.0 + 3 * 0.5
    assert host.rounds == 0
    assert any("what passes on the wire and what is answered" in line for line in not_looked)


def test_what_there_was_no_time_for_is_said_and_what_was_seen_for_too_short_a_time_is_less_sure():
    host = Played(before=12.0, slow=0.05, seen=unanswered)
    seconds, not_looked = host.diagnose()
    assert seconds <= PROMISED
    assert host.course.finding.confidence is Confidence.POSSIBLE
    assert any(line.startswith("what comes later than ") for line in not_looked), not_looked


def test_what_is_certain_from_the_first_is_told_as_likely_where_nobody_could_wait_for_more():
    host = Played(before=14.0, first=2.0, slow=0.4, seen=refused)
    host.ready = False  # this host was not read again
    host.diagnose()
    assert (host.course.finding.cause, host.course.finding.confidence) == (Cause.PORT_UNREACHABLE, Confidence.LIKELY)


def test_a_tunnel_that_answers_is_fine_and_its_size_and_loss_are_not_known():
    host = Played(before=14.0, seen=answering)
    host.measured = False
    _, not_looked = host.diagnose()
    assert (host.course.finding.cause, host.course.finding.confidence) == (Cause.FINE, Confidence.LIKELY)
    assert any(line.startswith("loss, and whether packets of full size pass") for line in not_looked)


def test_nothing_may_take_longer_than_what_is_left_of_the_whole():
    time = [0.0]
    deadline = Deadline(0.0, lambda: time[0])
    assert deadline.left(2.5) == 2.5
    time[0] = PROMISED - SPOKEN - 0.25
    assert deadline.left(2.5) == 0.25
    time[0] = PROMISED + 5
    assert deadline.left(2.5) == 0.0


def test_one_round_that_hung_does_not_end_it_all():
    deadline = Deadline(0.0, lambda: 0.5)
    deadline.took(30.0)
    assert deadline.looks_until() == PROMISED - SPOKEN - LAST_LOOKS - MOST_SLOWER


# --- what was read too long ago ---------------------------------------------------------------------------------------


def test_counters_that_were_read_once_say_nothing_of_growth():
    once = snapshot(device(PEER), at=0.0, links=(link(),))
    facts = assemble.facts(Known(CHOSEN, 9.0, WALL, once, once, provoked=True))
    assert (facts.seconds, facts.handshakes, facts.received_bytes, facts.sent_bytes) == (None, None, None, None)
    assert (facts.entered_packets, facts.others_received) == (None, None)


@pytest.mark.parametrize(("now", "session"), [(9.0, False), (11.5, None)])
def test_a_device_that_was_read_too_long_ago_does_not_tell_that_handshakes_fail(now, session):
    looks = [snapshot(device(PEER), at=at, links=(link(),)) for at in (0.0, 5.0)]
    seen = Sighting(0.0, now, initiations_sent=2, sent_at=(5.3,))
    assert assemble.facts(Known(CHOSEN, now, WALL, *looks, provoked=True, sighting=seen)).session is session


# --- what is waited for beside packets --------------------------------------------------------------------------------


def test_nft_that_hangs_does_not_hold_up_packets_and_the_rule_has_no_words_then(monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(host, "rule_texts", lambda *_: hangs.wait(30) and {7: "udp dport 51820 drop"})
    gathering = Gathering(CHOSEN, Config(), lambda: LOOK, LOOK, Around())
    chain = Chain(2, "filter", "output")
    try:
        began = time.monotonic()
        assert gathering._rule_texts("", chain) == {}
        assert gathering._rule_texts("", chain) == {}
        assert time.monotonic() - began < 10  # it waits for a third of a second, once
        hangs.set()
        assert eventually(lambda: gathering._rule_texts("", chain), within=30) == {7: "udp dport 51820 drop"}
    finally:
        hangs.set()
        gathering.close()
