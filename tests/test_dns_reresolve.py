"""Whose endpoint is set, and to what: all by rows of the test's own, and a fake clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import device, key, peer
from wg_exporter.model import Backend
from wg_exporter.reader.dns.reresolve import EVERY, FRESH, SILENT, Order, Reresolve, choose, usable

NAME = "vpn.example.org:51820"
OLD, NEW, OTHER = "192.0.2.1:51820", "198.51.100.7:51820", "203.0.113.9:51820"
V6 = "[2001:db8::7]:51820"
ME = ("wg0", key(1))


class Play:
    """One peer with a host name that is silent and down, and what is set for it."""

    def __init__(self, *addresses: str, endpoint: str = OLD, begun: float = 0.0) -> None:
        self.now = begun
        self.addresses = addresses
        self.age = 1.0
        self.names = {ME: NAME}
        self.down = [ME]
        self.row = peer(1, endpoint=endpoint, rx_bytes=500)
        self.more: dict[str, object] = {}
        self.reresolve = Reresolve(begun)

    def look(self) -> list[Order]:
        self.reresolve.look([device(self.row, **self.more)], self.names, self.now)

        def known(name: str) -> tuple[tuple[str, ...], float] | None:
            return (self.addresses, self.age) if name == NAME and self.addresses else None

        found = self.reresolve.orders(self.down, self.names, known, self.now)
        for order in found:
            self.row = self.row._replace(endpoint=order.after)
        return found

    def pass_by(self, seconds: float, every: float = 5.0) -> list[tuple[float, str]]:
        """Look again and again. Returns when what was set."""
        end, found = self.now + seconds, []
        while self.now < end:
            found += [(self.now, order.after) for order in self.look()]
            self.now += every
        return found


def test_a_peer_that_is_down_gets_the_address_that_its_name_resolves_to_now():
    play = Play(NEW)
    assert play.pass_by(300) == [(EVERY, NEW)]
    play = Play(NEW, endpoint="")
    assert play.pass_by(300) == [(EVERY, NEW)], "it had none"


def test_nothing_is_set_in_the_first_minute_of_a_reader_for_what_the_one_before_has_set_is_not_known():
    play = Play(NEW, begun=5000.0)
    assert play.pass_by(EVERY) == []
    assert play.pass_by(10) == [(5000 + EVERY, NEW)]


def test_an_order_says_whose_and_what_it_was():
    play = Play(NEW)
    play.more = {"backend": Backend.USERSPACE}
    play.now = EVERY
    play.look()
    play.now += SILENT
    assert play.look() == [Order("wg0", key(1), Backend.USERSPACE, NAME, OLD, NEW)]


@pytest.mark.parametrize("what", ["up", "no name", "other namespace", "not read", "gone", "no answer", "old answer"])
def test_nothing_is_set_for_a_peer(what):
    play = Play(NEW)
    if what == "up":
        play.down = []
    elif what == "no name":
        play.names = {("wg0", key(2)): NAME}
    elif what == "other namespace":
        play.more = {"netns": "blue"}
    elif what == "not read":
        play.more = {"fresh": False}
    elif what == "gone":
        play.more = {"name": "wg7"}
    elif what == "no answer":
        play.addresses = ()
    else:
        play.age = FRESH + 1
    assert play.pass_by(600) == []


def test_a_peer_from_which_anything_came_lately_keeps_its_endpoint_whatever_the_exporter_says():
    play = Play(NEW)
    for moment in range(600):
        if moment % 15 == 0:
            play.row = play.row._replace(rx_bytes=play.row.rx_bytes + 148)
        assert play.look() == []
        play.now += 1
    for moment in range(600):
        if moment % 15 == 0:
            play.row = play.row._replace(last_handshake_ns=play.row.last_handshake_ns + 15 * 10**9)
        assert play.look() == []
        play.now += 1
    heard = play.now - 10  # as 600 is a multiple of 15, the last was at 585
    assert play.pass_by(60, every=1) == [(heard - 5 + SILENT, NEW)]


def test_a_device_that_can_not_be_read_for_a_moment_makes_no_try_come_sooner():
    play = Play(NEW, OTHER)
    assert [at for at, _ in play.pass_by(EVERY + 5)] == [EVERY]
    play.more = {"fresh": False}
    assert play.pass_by(10) == []
    play.more = {}
    assert [at for at, _ in play.pass_by(200)] == [2 * EVERY, 3 * EVERY, 4 * EVERY]


def test_nothing_is_set_for_a_peer_that_is_gone_or_can_not_be_read_any_more():
    for more in ({"fresh": False}, {"name": "wg7"}):
        play = Play(NEW)
        assert play.pass_by(EVERY) == []
        play.more = more
        assert play.pass_by(300) == []
        play.more = {}
        assert len(play.pass_by(30)) == 1


def test_a_daemon_that_tells_the_same_handshake_a_little_differently_each_time_has_heard_nothing():
    play = Play(NEW)
    found = []
    for moment in range(80):
        play.row = play.row._replace(last_handshake_ns=1_700_000_000_000_000_000 + moment % 7 * 1000)
        found += [(play.now, order.after) for order in play.look()]
        play.now += 1
    assert found == [(EVERY, NEW)]


def test_one_whose_endpoint_is_right_is_left_alone():
    play = Play(OLD)
    assert play.pass_by(600) == []


def test_a_port_that_differs_from_the_one_in_the_file_is_set_too():
    play = Play(OLD, endpoint="192.0.2.1:40000")
    assert play.pass_by(600) == [(EVERY, OLD)]


def test_with_several_addresses_each_has_its_turn_a_minute_each():
    play = Play(NEW, OTHER, V6)
    found = play.pass_by(400)
    assert [after for _, after in found] == [NEW, OTHER, V6, NEW, OTHER, V6]
    assert [at for at, _ in found] == [EVERY * number for number in range(1, 7)]


def test_the_order_in_which_a_server_gives_them_does_not_matter():
    play = Play(NEW, OTHER, V6)
    found = []
    for number in range(9):
        play.addresses = [(NEW, OTHER, V6), (V6, NEW, OTHER), (OTHER, V6, NEW)][number % 3]
        found += [after for _, after in play.pass_by(EVERY)]
    assert {*found[:3]} == {*found[3:6]} == {NEW, OTHER, V6}


def test_the_family_that_has_worked_is_tried_first():
    assert choose(OLD, (V6, NEW)) == NEW
    assert choose("[2001:db8::1]:51820", (NEW, V6)) == V6
    assert choose("", (V6, NEW)) == V6, "nothing is known, so it is as getaddrinfo(3) prefers"
    assert choose(OLD, (V6,)) == V6
    assert choose(NEW, (NEW, OTHER)) == OTHER
    assert choose(NEW, (NEW,)) == ""
    assert choose("[::ffff:198.51.100.7]:51820", (NEW,)) == "", "it is the same address"


@pytest.mark.parametrize("bad", ["0.0.0.0:51820", "[::]:51820", "224.0.0.1:1", "[ff02::1]:1", "255.255.255.255:1"])
def test_an_address_at_which_no_peer_can_be_is_never_set(bad):
    """A server that blocks a name says 0.0.0.0."""
    assert not usable(bad)
    assert Play(bad).pass_by(600) == []
    assert not usable("192.0.2.1:0")
    assert not usable("[fe80::1%eth0]:51820")
    assert usable("127.0.0.1:51820"), "where a tunnel runs through a local proxy, localhost is a name for it"


def test_after_a_peer_was_heard_the_addresses_are_tried_from_the_first_on():
    play = Play(NEW, OTHER)
    assert [after for _, after in play.pass_by(EVERY + 5)] == [NEW]
    play.row = play.row._replace(rx_bytes=99_999)
    play.pass_by(5)
    play.addresses = (OTHER, V6, NEW)
    assert play.pass_by(EVERY + SILENT)[0][1] == OTHER


ADDRESSES = st.lists(st.sampled_from([OLD, NEW, OTHER, V6, "0.0.0.0:1", "[fe80::1%3]:1"]), max_size=5)
STEPS = st.lists(
    st.tuples(
        st.floats(0.0, 90.0),  # seconds that go by
        ADDRESSES,
        st.floats(0.0, 120.0),  # age of the answer
        st.lists(st.sampled_from([ME, ("wg0", key(2)), ("wg1", key(1)), ("../x", "nonsense")]), max_size=4),
        st.booleans(),  # whether something came from it
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_the_exporter_says_only_a_silent_peer_is_set_once_a_minute_and_only_to_what_its_name_says(steps):
    play, heard, tries = Play(), 0.0, [0.0]
    for seconds, addresses, age, down, comes in steps:
        play.now += seconds
        play.addresses, play.age, play.down = tuple(addresses), age, down
        if comes:
            play.row = play.row._replace(rx_bytes=play.row.rx_bytes + 32)
            heard = play.now
        before = play.row.endpoint
        for order in play.look():
            assert (order.interface, order.public_key) == ME
            assert ME in down
            assert order.after in addresses
            assert (order.before, order.after) == (before, play.row.endpoint)
            assert age <= FRESH
            assert play.now - heard >= SILENT - 1e-6
            assert play.now - tries[-1] >= EVERY - 1e-6
            tries.append(play.now)
