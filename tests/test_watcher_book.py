"""What is seen of a peer on the wire, and what a stranger can't make us believe."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import wires
from tests.wires import OTHER, OURS, PEER, PEER6, PORT, ROUTER, SOMEBODYS, THEIR_PORT, THEIRS, US, US6
from wg_exporter.prober.watcher import book as module
from wg_exporter.prober.watcher.book import Book, Captured
from wg_exporter.sighted import LAST, MOST_CALLERS, MOST_REFUSALS, Refusal, Sender, Sighting, WatchPeer

BERLIN = WatchPeer(("", "wg0", THEIRS), "", f"{PEER}:{THEIR_PORT}", PORT, OURS)
OVER_IPV6 = BERLIN._replace(endpoint=f"[{PEER6}]:{THEIR_PORT}")
PARIS = WatchPeer(("", "wg0", SOMEBODYS), "", f"{OTHER}:{THEIR_PORT}", PORT, OURS)
KEY = 1
LONG = 1000.0


class Wire:
    """A book on the peers 1, 2, ... and what passes; the interface `wg1` is a tunnel, the addresses `us` are ours."""

    def __init__(self, *peers, us=(US, US6)):
        self.local = {ip_address(address).packed for address in us}
        self.asked = 0
        self.book = Book(lambda name: name == "wg1", self._is_local)
        self.now = 0.0
        for number, peer in enumerate(peers or (BERLIN,), 1):
            self.book.watch(number, peer, LONG, self.now)

    def _is_local(self, address):
        self.asked += 1
        return address in self.local

    def comes(self, packet, on="eth0", after=0.0):
        return self._pass(packet, on, after, leaving=False)

    def leaves(self, packet, on="eth0", after=0.0):
        return self._pass(packet, on, after, leaving=True)

    def _pass(self, packet, on, after, *, leaving):
        self.now += after
        self.book.take(Captured(packet, on, leaving), self.now)
        return self

    def seen(self, number=1):
        return self.book._seen[number].row(self.now)

    def callers(self):
        return [caller for device in self.book.callers() for caller in device.callers]


def counts(row):
    """Those counts of a sighting that are not 0."""
    return {name: value for name, value in row._asdict().items() if type(value) is int and value}


both = pytest.mark.parametrize(("peer", "address"), [(BERLIN, PEER), (OVER_IPV6, PEER6)])


# --- what passes ------------------------------------------------------------------------------------------------------


@both
def test_a_handshake_that_we_begin_is_seen_from_its_initiation_to_the_response(peer, address):
    wire = Wire(peer).leaves(wires.leaving(wires.initiation(sender=5), address))
    wire.comes(wires.arriving(wires.response(receiver=5), address), after=0.5)
    assert counts(wire.seen()) == {"initiations_sent": 1, "responses_received": 1, "answered": 1}
    assert wire.seen().sent_at == (0.0,)
    assert wire.seen().senders == (Sender(address, THEIR_PORT, "eth0", 1),)


@both
def test_a_handshake_that_the_peer_begins_is_taken_when_our_response_leaves(peer, address):
    call = wires.initiation(OURS, sender=6)
    wire = Wire(peer).comes(wires.arriving(call, address))
    assert counts(wire.seen()) == {"initiations_received": 1}
    assert (wire.seen().received_at, wire.seen().taken_at, wire.seen().initiation) == ((0.0,), (), call)
    wire.leaves(wires.leaving(wires.response(THEIRS, receiver=6), address), after=0.25)
    assert counts(wire.seen()) == {"initiations_received": 1, "responses_sent": 1}
    assert wire.seen().taken_at == (0.25,)


def test_a_far_side_under_load_answers_with_a_cookie():
    wire = Wire().leaves(wires.leaving(wires.initiation(sender=5))).comes(wires.arriving(wires.cookie(receiver=5)))
    assert counts(wire.seen()) == {"initiations_sent": 1, "cookies_received": 1}


def test_so_do_we():
    assert counts(Wire().leaves(wires.leaving(wires.cookie(9))).seen()) == {"cookies_sent": 1}


def test_an_initiation_made_for_another_key_than_ours_is_misdirected():
    wire = Wire().comes(wires.arriving(wires.initiation(SOMEBODYS))).comes(wires.arriving(wires.response(SOMEBODYS)))
    assert counts(wire.seen()) == {"misdirected": 2}
    assert wire.seen().initiation == b""


def test_what_leaves_is_the_peers_for_whose_key_it_is_made_though_two_share_an_endpoint():
    twin = PARIS._replace(endpoint=BERLIN.endpoint)
    wire = Wire(BERLIN, twin).leaves(wires.leaving(wires.initiation(SOMEBODYS)))
    assert (counts(wire.seen(1)), counts(wire.seen(2))) == ({}, {"initiations_sent": 1})


def test_a_response_to_a_peer_that_called_from_a_new_place_is_its_own():
    wire = Wire(BERLIN, PARIS).comes(wires.arriving(wires.initiation(OURS, sender=6), ROUTER))
    wire.leaves(wires.leaving(wires.response(THEIRS, receiver=6), ROUTER))
    assert counts(wire.seen(1)) == {"responses_sent": 1}
    assert wire.callers() == []


def test_only_the_last_times_are_kept():
    wire = Wire()
    for second in range(20):
        wire.leaves(wires.leaving(wires.initiation(sender=second)), after=1)
    assert wire.seen().sent_at == tuple(map(float, range(21 - LAST, 21)))
    assert wire.seen().initiations_sent == 20


def test_packets_inside_a_tunnel_belong_to_the_inner_device_alone():
    """wg1 carries the outer packets of wg2: its own messages go to its own peer."""
    inner = BERLIN._replace(key=("", "wg2", SOMEBODYS), endpoint=f"10.0.0.2:{THEIR_PORT}", port=PORT + 1)
    wire = Wire(BERLIN, inner, us=(US, "10.0.0.1"))
    wire.leaves(wires.udp(wires.initiation(SOMEBODYS), "10.0.0.1", "10.0.0.2", (PORT + 1, THEIR_PORT)), on="wg1")
    wire.leaves(wires.udp(wires.initiation(THEIRS), "10.0.0.1", "10.0.0.2", (PORT, THEIR_PORT)), on="wg1")
    assert counts(wire.seen(1)) == {"initiations_sent": 1}, "made for its key: it is somewhere else than its endpoint"
    assert counts(wire.seen(2)) == {"initiations_sent": 1}


# --- copies and what is forwarded -------------------------------------------------------------------------------------


def test_copies_of_a_packet_count_once_and_on_the_interface_that_saw_it_last():
    packet = wires.arriving(wires.initiation(OURS))
    wire = Wire().comes(packet, on="port1").comes(packet, on="bond0").comes(packet, on="br0")
    assert counts(wire.seen()) == {"initiations_received": 1}
    assert wire.seen().senders == (Sender(PEER, THEIR_PORT, "br0", 1),)


def test_copies_of_what_leaves_count_once_too():
    packet = wires.leaving(wires.initiation())
    wire = Wire().leaves(packet, on="br0").leaves(packet, on="eth0.7").leaves(packet, on="eth0")
    assert counts(wire.seen()) == {"initiations_sent": 1}


def test_copies_of_an_error_count_once():
    error = wires.refused(wires.leaving(wires.initiation()))
    wire = Wire().comes(error, on="port1").comes(error, on="br0")
    assert wire.seen().refusals == (Refusal(ROUTER, False, 3, 3, 1, 0),)


def test_what_leaves_by_a_cable_to_this_host_itself_counts_for_both_ends():
    """Two devices on one host are each other's peers."""
    there = BERLIN._replace(key=("", "wg9", OURS), endpoint=f"{US}:{PORT}", port=THEIR_PORT, device_key=THEIRS)
    wire = Wire(BERLIN, there, us=(US, PEER))
    packet = wires.leaving(wires.initiation())
    wire.leaves(packet, on="veth0").comes(packet, on="veth1")
    assert counts(wire.seen(1)) == {"initiations_sent": 1}
    assert counts(wire.seen(2)) == {"initiations_received": 1}


def test_what_this_host_forwards_is_nobodys():
    """Somebody behind this router talks to the same server, from the same port."""
    packet = wires.leaving(wires.initiation())
    wire = Wire().comes(packet, on="lan0").leaves(packet, on="eth0")
    assert counts(wire.seen()) == {}


def test_nothing_is_held_against_a_peer_that_calls_another_host_behind_this_router():
    wire = Wire(us=(US6,)).comes(wires.arriving(wires.initiation(SOMEBODYS)))
    assert counts(wire.seen()) == {}
    assert wire.callers() == []


def test_the_same_bytes_a_while_later_are_no_copy():
    """Somebody plays them again: they count as what they are, received."""
    packet = wires.arriving(wires.initiation(OURS))
    wire = Wire().comes(packet).comes(packet, after=module.COPY_SECONDS + 0.1)
    assert counts(wire.seen()) == {"initiations_received": 2}


# --- what a stranger sends --------------------------------------------------------------------------------------------


def test_a_response_to_nothing_that_left_answers_nothing():
    wire = Wire().comes(wires.arriving(wires.response(receiver=5)))
    assert counts(wire.seen()) == {"responses_received": 1}


def test_nor_does_a_response_to_an_initiation_for_another_peer():
    wire = Wire(BERLIN, PARIS).leaves(wires.leaving(wires.initiation(SOMEBODYS, sender=5), OTHER))
    wire.comes(wires.arriving(wires.response(receiver=5)))
    assert counts(wire.seen(1)) == {"responses_received": 1}


def test_nor_one_that_comes_late():
    wire = Wire().leaves(wires.leaving(wires.initiation(sender=5)))
    wire.comes(wires.arriving(wires.response(receiver=5)), after=module.ANSWER_SECONDS + 1)
    assert wire.seen().answered == 0


def test_a_cookie_for_nothing_that_left_is_not_counted():
    assert counts(Wire().comes(wires.arriving(wires.cookie(5))).seen()) == {}


def test_initiations_that_wireguard_does_not_answer_are_never_taken():
    wire = Wire()
    for second in range(10):
        wire.comes(wires.arriving(wires.initiation(OURS, sender=second)), after=5)
    assert (wire.seen().initiations_received, wire.seen().taken_at) == (10, ())


def test_what_comes_from_elsewhere_is_a_callers():
    call = wires.initiation(OURS)
    wire = Wire().comes(wires.arriving(call, OTHER), on="eth1").comes(wires.arriving(wires.response(SOMEBODYS), ROUTER))
    first, second = wire.callers()
    assert counts(wire.seen()) == {}
    assert (first.sender, first.for_us, first.initiation) == (Sender(OTHER, THEIR_PORT, "eth1", 1), True, call)
    assert (second.sender.address, second.for_us, second.initiation) == (ROUTER, False, b"")


def test_a_caller_is_on_the_interface_that_saw_it_last_too():
    packet = wires.arriving(wires.initiation(OURS), OTHER)
    (caller,) = Wire().comes(packet, on="port1").comes(packet, on="bond0").comes(packet, on="br0").callers()
    assert caller.sender == Sender(OTHER, THEIR_PORT, "br0", 1)


def test_a_caller_that_wireguard_answers_is_a_peer_and_no_caller_any_more():
    wire = Wire().comes(wires.arriving(wires.initiation(OURS), OTHER))
    wire.leaves(wires.leaving(wires.response(THEIRS), OTHER))
    assert wire.callers() == []


def test_the_latest_callers_are_kept():
    wire = Wire()
    for number in range(3 * MOST_CALLERS):
        wire.comes(wires.arriving(wires.initiation(OURS, sender=number), f"203.0.113.{number}"))
    assert [one.sender.address for one in wire.callers()] == [
        f"203.0.113.{number}" for number in range(2 * MOST_CALLERS, 3 * MOST_CALLERS)
    ]


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 28 + 8])
def test_an_error_about_what_was_seen_leaving_is_proven(length):
    sent = wires.leaving(wires.initiation())
    wire = Wire().leaves(sent).comes(wires.refused(sent, code=13, length=length), after=1)
    assert wire.seen().refusals == (Refusal(ROUTER, False, 3, 13, 1, 1),)


def test_so_is_one_over_ipv6():
    sent = wires.leaving(wires.initiation(), PEER6)
    wire = Wire(OVER_IPV6).leaves(sent).comes(wires.refused(sent, "2001:db8:9::9", 1, 1))
    assert wire.seen().refusals == (Refusal("2001:db8:9::9", True, 1, 1, 1, 1),)


@pytest.mark.parametrize(("us", "own"), [((US, US6), False), ((US, US6, "192.0.2.99", "2001:db8:9::9"), True)])
@pytest.mark.parametrize(
    ("peer", "by", "packet"),
    [
        (BERLIN, "192.0.2.99", wires.refused(wires.leaving(wires.initiation()), "192.0.2.99", 3, 1)),
        (OVER_IPV6, "2001:db8:9::9", wires.refused(wires.leaving(wires.initiation(), PEER6), "2001:db8:9::9", 1, 3)),
    ],
)
def test_an_error_from_any_address_of_this_host_is_its_own(peer, by, packet, us, own):
    (found,) = Wire(peer, us=us).comes(packet, on="lo").seen().refusals
    assert (found.by, found.own, found.proven) == (by, own, 0)


def test_an_error_that_quotes_too_little_or_data_or_something_else_is_not():
    sent = wires.leaving(wires.initiation(sender=7))
    wire = Wire().leaves(sent)
    wire.comes(wires.refused(sent, length=28 + 7))
    wire.comes(wires.refused(wires.leaving(wires.data())))
    wire.comes(wires.refused(wires.leaving(wires.initiation(sender=7))))
    assert wire.seen().refusals == (Refusal(ROUTER, False, 3, 3, 3, 0),)


@pytest.mark.parametrize(
    "quoted",
    [
        wires.udp(wires.initiation(), US, PEER, (PORT + 1, THEIR_PORT)),
        wires.udp(wires.initiation(), US, PEER, (PORT, THEIR_PORT + 1)),
        wires.udp(wires.initiation(), US, OTHER, (PORT, THEIR_PORT)),
    ],
)
def test_an_error_about_other_ports_or_another_endpoint_is_not_counted(quoted):
    assert Wire().comes(wires.refused(quoted)).seen().refusals == ()


def test_an_error_that_comes_out_of_a_tunnel_or_leaves_is_not_counted():
    error = wires.refused(wires.leaving(wires.initiation()))
    assert Wire().comes(error, on="wg1").leaves(error).seen().refusals == ()


def test_made_up_errors_never_crowd_out_one_that_is_proven():
    sent = wires.leaving(wires.initiation())
    wire = Wire().leaves(sent)
    for number in range(2 * MOST_REFUSALS):
        wire.comes(wires.refused(wires.leaving(wires.data()), by=f"203.0.113.{number}"))
    first = [one.by for one in wire.seen().refusals]
    assert first == [f"203.0.113.{number}" for number in range(MOST_REFUSALS)], "nor those that came before"
    wire.comes(wires.refused(sent, by=ROUTER))
    found = wire.seen().refusals
    assert len(found) == MOST_REFUSALS
    assert Refusal(ROUTER, False, 3, 3, 1, 1) in found


def test_an_error_for_one_of_two_peers_that_share_an_endpoint_is_only_that_ones():
    twin = PARIS._replace(endpoint=BERLIN.endpoint)
    sent = wires.leaving(wires.initiation(SOMEBODYS))
    wire = Wire(BERLIN, twin).leaves(sent).comes(wires.refused(sent))
    assert (wire.seen(1).refusals, len(wire.seen(2).refusals)) == ((), 1)


# --- windows ----------------------------------------------------------------------------------------------------------


def test_a_window_ends_with_what_was_seen_in_it_and_the_next_begins_at_nothing():
    wire = Wire()
    wire.book.watch(2, PARIS, 30.0, 10.0)
    wire.leaves(wires.leaving(wires.initiation()), after=20)
    wire.book.rows(10, 20.0)
    wire.book.expire(30.0)
    assert wire.book.rows(10, 30.0) == {2: Sighting(10.0, 20.0, open=False)}
    assert len(wire.book) == 1
    wire.book.watch(2, PARIS, 90.0, 40.0)
    assert wire.book.rows(10, 41.0) == {2: Sighting(40.0, 1.0)}


def test_a_window_that_is_open_goes_on_with_another_endpoint():
    wire = Wire().leaves(wires.leaving(wires.initiation()))
    wire.book.watch(1, BERLIN._replace(endpoint=f"{OTHER}:9"), 5.0, 4.0)
    wire.leaves(wires.leaving(wires.initiation(), OTHER, 9), after=5)
    assert counts(wire.seen()) == {"initiations_sent": 2}
    wire.book.expire(LONG - 1)
    assert len(wire.book) == 1


def test_the_ports_are_those_of_the_devices_that_have_a_watched_peer():
    wire = Wire(BERLIN, PARIS, OVER_IPV6._replace(port=7))
    assert wire.book.ports == {PORT, 7}
    wire.book.watch(3, OVER_IPV6._replace(port=8), LONG, 0.0)
    assert wire.book.ports == {PORT, 8}
    wire.book.end(1.0)
    assert (wire.book.ports, len(wire.book)) == (frozenset(), 0)


def test_what_the_kernel_dropped_marks_every_open_window():
    wire = Wire(BERLIN, PARIS)
    wire.book.miss()
    assert wire.seen(1).missed
    assert wire.seen(2).missed
    wire.book.expire(LONG)
    wire.book.watch(1, BERLIN, 2 * LONG, LONG)
    assert not wire.book.rows(9, LONG)[1].missed


def test_few_rows_are_told_at_a_time_and_each_once():
    wire = Wire(*[BERLIN] * 5)
    assert list(wire.book.rows(3, 0.0)) == [1, 2, 3]
    assert list(wire.book.rows(3, 0.0)) == [4, 5]
    assert wire.book.changed == 0


@pytest.mark.parametrize("endpoint", ["", "nonsense", "192.0.2.1", "192.0.2.1:", "[::1]", "host.example:1"])
def test_a_peer_without_an_endpoint_is_watched_for_by_its_key(endpoint):
    wire = Wire(BERLIN._replace(endpoint=endpoint)).leaves(wires.leaving(wires.response(THEIRS)))
    assert counts(wire.seen()) == {"responses_sent": 1}


def test_memory_is_bounded_whoever_floods(monkeypatch):
    monkeypatch.setattr(module, "MOST_COPIES", 50)
    monkeypatch.setattr(module, "MOST_SENT", 40)
    wire = Wire()
    for number in range(300):
        wire.comes(wires.arriving(wires.initiation(SOMEBODYS, sender=number), f"203.0.113.{number % 250}"))
        wire.leaves(wires.leaving(wires.initiation(sender=number)))
    assert len(wire.book._copies) <= 50
    assert len(wire.book._sent) <= 40


PACKETS = st.sampled_from(
    [
        wires.arriving(wires.initiation(OURS)), wires.arriving(wires.response()), wires.arriving(wires.cookie()),
        wires.leaving(wires.initiation()), wires.leaving(wires.response(THEIRS)), wires.leaving(wires.cookie()),
        wires.refused(wires.leaving(wires.initiation())), wires.arriving(wires.initiation(OURS), OTHER),
        wires.leaving(wires.initiation(), PEER6), b"", b"\x45", wires.arriving(wires.data()),
    ]
)  # fmt: skip


@given(
    st.lists(st.tuples(PACKETS | st.binary(max_size=80), st.booleans(), st.sampled_from(["eth0", "br0", "wg1", ""]))),
    st.floats(0, 5),
)
def test_fuzz_whatever_passes_only_counters_grow_and_nothing_is_proven_that_nobody_sent(packets, step):
    wire = Wire(BERLIN, OVER_IPV6)
    before = {}
    for packet, leaving, interface in packets:
        (wire.leaves if leaving else wire.comes)(packet, interface, after=step)
        now = counts(wire.seen())
        assert all(now.get(name, 0) >= value for name, value in before.items())
        before = now
    row = wire.seen()
    if not any(leaving for _, leaving, _ in packets):
        assert (row.answered, row.taken_at, row.initiations_sent, row.responses_sent) == (0, (), 0, 0)
        assert not any(refusal.proven for refusal in row.refusals)
