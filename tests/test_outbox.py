"""What waits to be told to an exporter that takes nothing: no more than is needed, in order, and no file stays open."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.openfiles import open_files
from wg_exporter.messages.channel import ConnectionEndedError
from wg_exporter.messages.packets import FullError, Packets
from wg_exporter.messages.supervisor import (
    Cost,
    Ended,
    FromSupervisor,
    Loaded,
    Reload,
    Started,
    ToSupervisor,
    WebMaterial,
)
from wg_exporter.model import Usage
from wg_exporter.supervisor.copies import holding
from wg_exporter.supervisor.outbox import MOST, RETRY, Outbox


class Sender:
    """Takes so many messages; then it is full, for lack of room or of something else."""

    def __init__(self, room: int = 0, *, lacks_room: bool = True) -> None:
        self.room, self.lacks_room = room, lacks_room
        self.sent: list[object] = []

    def send(self, message, files=()):
        if not self.room:
            raise FullError("full", room=self.lacks_room)
        self.room -= 1
        self.sent.append(message)
        assert all(os.fstat(file) for file in files)


def fill(packets: Packets[ToSupervisor]) -> None:
    for _ in range(10_000):
        packets.send(Reload())


def cost(n: int) -> Cost:
    return Cost(Usage(float(n), 0, 0, 0))


def test_what_a_later_message_says_anew_is_told_once_and_the_rest_in_order():
    sender = Sender()
    outbox = Outbox(sender)
    said = [Ended(1, 0), Reload(), cost(1), Reload(), Started(7, 2), cost(2), WebMaterial(("a",)), Ended(2, -9)]
    for message in [*said, WebMaterial(("b",))]:
        outbox.put(message)
        outbox.flush(0.0)
    sender.room = 100
    outbox.flush(0.0)
    assert sender.sent == [Ended(1, 0), Reload(), Started(7, 2), cost(2), Ended(2, -9), WebMaterial(("b",))]
    assert len(outbox) == 0


@given(
    st.lists(
        st.one_of(
            st.builds(Ended, st.integers(1, 9), st.just(0)),
            st.builds(Loaded, st.integers(1, 9), st.just(0)),
            st.builds(cost, st.integers(1, 9)),
            st.builds(WebMaterial, st.tuples(st.text(max_size=2))),
            st.just(Reload()),
            st.integers(0, 3),  # room for so many
        )
    )
)
def test_of_those_that_may_not_be_lost_each_is_sent_once_in_order_and_of_the_others_the_last(steps):
    sender = Sender()
    outbox = Outbox(sender)
    told = [step for step in steps if not isinstance(step, int)]
    for step in steps:
        if isinstance(step, int):
            sender.room = step
        else:
            outbox.put(step)
        outbox.flush(0.0)
    sender.room = len(steps)
    outbox.flush(0.0)
    certain = (Ended, Loaded)
    assert [one for one in sender.sent if isinstance(one, certain)] == [one for one in told if isinstance(one, certain)]
    for kind in (Cost, WebMaterial, Reload):
        assert [one for one in sender.sent if isinstance(one, kind)][-1:] == [
            one for one in told if isinstance(one, kind)
        ][-1:]


def test_files_are_closed_when_they_were_sent_replaced_or_are_not_wanted_any_more():
    before = open_files()
    sender = Sender()
    outbox = Outbox(sender)
    for text in (b"first", b"second"):
        outbox.put(WebMaterial(()), [holding(text)])
        outbox.flush(0.0)
    (file,) = outbox.files()
    assert (os.pread(file, 10, 0), (open_files() - before).total()) == (b"second", 1)
    outbox.put(Loaded(1, 1), [holding(b"")])
    sender.room = 1
    outbox.flush(0.0)
    assert (open_files() - before).total() == 1
    outbox.close()
    assert not open_files() - before


def test_it_says_whether_to_wait_for_room_or_for_a_time():
    outbox = Outbox(Sender())
    assert (outbox.wants_room, outbox.again) == (False, float("inf"))
    outbox.put(Reload())
    outbox.flush(5.0)
    assert outbox.wants_room
    outbox = Outbox(Sender(lacks_room=False))
    outbox.put(Reload())
    outbox.flush(5.0)
    assert (outbox.wants_room, outbox.again) == (False, 5.0 + RETRY)


def test_it_is_full_above_so_many_answers():
    outbox = Outbox(Sender())
    for number in range(MOST):
        assert not outbox.full
        outbox.put(Loaded(number, 0))
    assert outbox.full


def test_a_socket_that_is_full_is_told_from_one_that_is_closed():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    packets = Packets(ours, ToSupervisor)
    with pytest.raises(FullError) as full:
        fill(packets)
    assert full.value.room
    other = Packets(theirs, FromSupervisor)
    assert other.receive() == (Reload(), [])
    while other.receive() is not None:
        pass
    packets.send(Reload())
    other.close()
    with pytest.raises(ConnectionEndedError) as closed:
        packets.send(Reload())
    assert not isinstance(closed.value, FullError)
    packets.close()
