"""What the exporter and its prober say to each other, and how what several processes counted becomes one number."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.probers import STATS, peer
from wg_exporter.model import Probed, ProbeStats, SendError
from wg_exporter.prober.process.messages import (
    Connection,
    ConnectionEndedError,
    Counters,
    FromProber,
    Peers,
    Results,
    Setup,
    ToProber,
)
from wg_exporter.prober.process.totals import continued

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        Setup(3.0, 1.0, (0.1, 0.2), 60.0, 300.0, {"blue": "/run/netns/blue"}),
        Peers(((1, peer()), (2, peer(2))), (7,)),
        Counters(((1, 2, 1 << 60),)),
    ):
        there.send(message)
        assert here.receive() == message
    silent = STATS._replace(silent_since=12345.678901)
    results = Results(((1, Probed("10.0.0.1", STATS, None)), (2, Probed("10.0.0.2", silent, None))), 0.25)
    here.send(results)
    got = there.receive()
    assert got == results
    assert isinstance(got.rows[0][1].stats.errors[0][0], SendError)
    assert here.receive() is None
    there.close()
    with pytest.raises(ConnectionEndedError):
        here.receive()
    here.close()


def test_messages_in_pieces_and_in_heaps_are_taken_one_by_one(pair):
    connection, theirs = pair
    data = msgspec.msgpack.encode(Counters(()))
    stream = (struct.pack("!I", len(data)) + data) * 3
    for byte in stream[:-1]:
        theirs.send(bytes([byte]))
        assert connection.receive() in (None, Counters(()))
    theirs.send(stream[-1:] + stream)
    got = 0
    while connection.receive() == Counters(()):
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
    big = Counters(tuple((n, n, n) for n in range(100_000)))
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


# --- totals ---------------------------------------------------------------------------------------------------------


def test_a_new_process_adds_to_what_was_counted():
    new = ProbeStats(False, 2, 2, 1, 1, ((SendError.NO_ROUTE, 1),), (0, 0), 0.0, None, None, None)
    told = continued(Probed("t", STATS, None), Probed("t", new, None)).stats
    assert (told.up, told.sent, told.lost, told.duplicates, told.late) == (False, 5, 3, 1, 1)
    assert (told.rtt_sum, told.rtt_min, told.rtt_last, told.jitter) == (0.5, 0.1, 0.2, 0.01)
    assert told.errors == ((SendError.NO_KEY, 2), (SendError.NO_ROUTE, 1))
    assert told.buckets == (1, 1)


def test_before_it_has_probed_everything_is_as_it_was():
    nothing = ProbeStats(False, 0, 0, 0, 0, (), (0, 0), 0.0, None, None, None)
    assert continued(Probed("t", STATS, None), Probed("t", nothing, None)).stats is STATS


def test_a_silence_is_that_which_the_new_process_heard():
    new = ProbeStats(False, 2, 2, 0, 0, (), (0, 0), 0.0, None, None, None, 70.0)
    nothing = new._replace(sent=0, lost=0, silent_since=None)
    before = Probed("t", STATS._replace(silent_since=10.0), None)
    assert continued(before, Probed("t", new, None)).stats.silent_since == 70.0
    assert continued(before, Probed("t", nothing, None)).stats == STATS


def test_another_target_is_counted_from_nothing():
    nothing = ProbeStats(False, 0, 0, 0, 0, (), (0, 0), 0.0, None, None, None)
    assert continued(Probed("t", STATS, None), Probed("u", nothing, None)).stats is nothing
