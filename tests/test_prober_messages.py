"""What the exporter and its prober say to each other."""

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
from wg_exporter.config import MtuProbe, ProbeSettings
from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.prober import (
    Counters,
    FastPeers,
    FastStates,
    FromProber,
    Peers,
    Results,
    Setup,
    ToProber,
    Watch,
    Watched,
)
from wg_exporter.probed import FastPeer, MtuReport, SendError, Verdict
from wg_exporter.sighted import Caller, Callers, Refusal, Sender, Sighting, WatchPeer

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        Watch({1: (WatchPeer(("blue", "wg0", "k"), "", "[2001:db8::2]:51820", 51820, "d"), 30.0)}),
        FastPeers({1: FastPeer(("blue", "wg0", "k"), 7, "10.0.0.1", 0.1, 6)}),
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
    sender = Sender("192.0.2.2", 51820, "eth0", 3)
    row = Sighting(
        1.5, 2.5, sent_at=(2.0, 3.0), senders=(sender,), refusals=(Refusal("192.0.2.9", False, 3, 13, 2, 1, own=True),),
        initiation=bytes(range(148)), missed=True,
    )  # fmt: skip
    watched = Watched({1: row}, (Callers(("", "wg0"), (Caller(sender, True, b"x" * 148),)),), 4.0, "no packet socket")
    here.send(watched)
    assert there.receive() == watched
    states = FastStates({1: True, 2: False, 3: None})
    here.send(states)
    assert there.receive() == states
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


@pytest.mark.parametrize("direction", [ToProber, FromProber], ids=["to the prober", "from it"])
@given(data=st.binary(max_size=300))
@example(b"\x91\xa8\0\0\0\0\0\0\0\x80")
def test_no_bytes_do_anything_else_than_end_it(direction, data):
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours, direction)) as connection, theirs:
        theirs.send(struct.pack("!I", len(data)) + data)
        with contextlib.suppress(ConnectionEndedError):
            assert isinstance(connection.receive(), direction)


@given(st.integers(0, 600), st.integers(0, 255))
def test_a_message_about_the_wire_with_another_byte_in_it_is_a_message_or_ends_it(at, value):
    row = Sighting(1.5, 2.5, refusals=(Refusal("192.0.2.9", False, 3, 13, 2, 1),), initiation=bytes(148))
    data = bytearray(msgspec.msgpack.encode(Watched({1: row}, (), 4.0)))
    data[at % len(data)] = value
    ours, theirs = socket.socketpair()
    with contextlib.closing(Connection(ours, FromProber)) as connection, theirs:
        theirs.send(struct.pack("!I", len(data)) + data)
        with contextlib.suppress(ConnectionEndedError):
            assert isinstance(connection.receive(), FromProber)


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
