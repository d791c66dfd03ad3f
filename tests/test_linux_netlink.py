"""The netlink client: what it does with each answer that a kernel can give, and with what is not from the kernel.

Where the host's own kernel can say it, it is asked; what no kernel says on demand comes from one made by hand.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.netlinking import MULTI, FakeKernel, Request, done, error, message, nla
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import (
    GENERIC,
    GENL_ID_CTRL,
    MAX_STRAY,
    NETLINK_GENERIC,
    NETLINK_ROUTE,
    NLM_F_DUMP,
    RECEIVE_BUFFER,
    DecodeError,
    Families,
    InterruptedDumpError,
    Netlink,
    NetlinkError,
    attributes,
    messages,
    open_socket,
)

if TYPE_CHECKING:
    from collections.abc import Callable

INTR = 0x10
KIND = 0x20
GETLINK = struct.pack("=BxHiII", 0, 0, 0, 0, 0)


def ask(netlink: Netlink) -> list[bytes]:
    return [bytes(data[start:end]) for data, start, end in netlink.dump(KIND, b"what")]


def kernel_that(answer: Callable[[int], list[bytes | OSError | tuple[bytes, int]]]) -> tuple[FakeKernel, Netlink]:
    """A client and its kernel, that answers each request by its sequence number."""
    kernel = FakeKernel(lambda request: answer(request.sequence))
    return kernel, Netlink(NETLINK_GENERIC, kernel.open)


def good(sequence: int) -> list[bytes]:
    first = message(KIND, sequence, b"one!") + message(KIND, sequence, b"two!")
    return [first, message(KIND, sequence, b"three"), done(sequence)]


# --- Answers


def test_a_dump_gives_every_payload_of_every_datagram_up_to_done() -> None:
    kernel, netlink = kernel_that(good)
    assert ask(netlink) == [b"one!", b"two!", b"three"]
    assert kernel.requests == [Request(NETLINK_GENERIC, KIND, 1, b"what", RECEIVE_BUFFER)]


def test_one_socket_serves_one_dump_after_the_other() -> None:
    kernel, netlink = kernel_that(good)
    for _ in range(3):
        assert len(ask(netlink)) == 3
    assert [request.sequence for request in kernel.requests] == [1, 2, 3]
    assert len(kernel.sockets) == 1


def test_done_in_the_same_datagram_as_the_last_message_ends_the_dump() -> None:
    _, netlink = kernel_that(lambda n: [message(KIND, n, b"one!") + done(n) + message(KIND, n, b"more")])
    assert ask(netlink) == [b"one!"]


@pytest.mark.parametrize("where", range(3))
def test_a_dump_that_was_not_of_one_moment_is_told_wherever_the_mark_is(where: int) -> None:
    def answer(n: int) -> list[bytes]:
        flags = [MULTI | (INTR if where == i else 0) for i in range(3)]
        return [message(KIND, n, b"a", flags[0]), message(KIND, n, b"b", flags[1]), done(n, 0, flags[2])]

    _, netlink = kernel_that(answer)
    with pytest.raises(InterruptedDumpError):
        ask(netlink)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENODEV, errno.EMSGSIZE])
@pytest.mark.parametrize("tell", [done, error], ids=["done", "error"])
def test_an_error_number_in_done_or_in_an_error_message_is_raised(
    tell: Callable[[int, int], bytes], number: int
) -> None:
    kernel, netlink = kernel_that(lambda n: [message(KIND, n, b"part"), tell(n, -number)])
    with pytest.raises(NetlinkError) as caught:
        ask(netlink)
    assert caught.value.errno == number
    assert str(caught.value) == os.strerror(number)
    assert kernel.sockets[0].closed


def test_an_acknowledgement_and_control_messages_are_no_data() -> None:
    _, netlink = kernel_that(lambda n: [message(1, n, b"noop"), message(4, n, b"over"), error(n, 0)])
    assert ask(netlink) == []


def test_messages_that_answer_another_request_are_passed_over() -> None:
    foreign = [message(KIND, 77, b"foreign"), done(77, -errno.EPERM), message(KIND, 0, b"news", INTR)]
    _, netlink = kernel_that(lambda n: [*foreign, *good(n)])
    assert ask(netlink) == [b"one!", b"two!", b"three"]


def test_datagrams_of_other_processes_are_passed_over() -> None:
    _, netlink = kernel_that(lambda n: [(message(KIND, n, b"forged"), 4242), (done(n), 4242), *good(n)])
    assert ask(netlink) == [b"one!", b"two!", b"three"]


def test_a_flood_of_other_processes_ends_the_dump() -> None:
    kernel, netlink = kernel_that(lambda n: [(b"", 4242)] * (MAX_STRAY + 1) + good(n))
    with pytest.raises(SourceError, match="flood"):
        ask(netlink)
    assert kernel.sockets[0].closed


def test_a_datagram_larger_than_the_buffer_is_an_error() -> None:
    _, netlink = kernel_that(lambda n: [message(KIND, n, bytes(RECEIVE_BUFFER)), done(n)])
    with pytest.raises(DecodeError, match="larger"):
        ask(netlink)


def test_an_overrun_of_the_receive_buffer_counts_as_an_interrupted_dump() -> None:
    kernel, netlink = kernel_that(lambda n: [message(KIND, n, b"part"), OSError(errno.ENOBUFS, "no buffers")])
    with pytest.raises(InterruptedDumpError, match="overran"):
        ask(netlink)
    assert kernel.sockets[0].closed


def test_no_answer_in_time_is_an_error() -> None:
    kernel, netlink = kernel_that(lambda n: [message(KIND, n, b"part")])
    with pytest.raises(SourceError, match="did not answer within 2 s"):
        ask(netlink)
    assert kernel.sockets[0].closed


@pytest.mark.parametrize("number", [errno.EIO, errno.ECONNREFUSED])
def test_an_error_of_the_socket_itself_is_told(number: int) -> None:
    _, netlink = kernel_that(lambda n: [OSError(number, "broken")])
    with pytest.raises(NetlinkError) as caught:
        ask(netlink)
    assert caught.value.errno == number


def test_a_request_that_cannot_be_sent_is_an_error() -> None:
    kernel, netlink = kernel_that(good)
    kernel.refuses = OSError(errno.EPERM, "no")
    with pytest.raises(NetlinkError) as caught:
        ask(netlink)
    assert caught.value.errno == errno.EPERM
    kernel.refuses = None
    assert len(ask(netlink)) == 3


FAILURES: dict[str, Callable[[int], list[bytes | OSError | tuple[bytes, int]]]] = {
    "error": lambda n: [error(n, -errno.EIO)],
    "timeout": lambda n: [message(KIND, n, b"part")],
    "malformed": lambda n: [b"\1\2\3"],
    "overrun": lambda n: [OSError(errno.ENOBUFS, "")],
}


@pytest.mark.parametrize("failure", FAILURES)
def test_after_an_error_a_new_socket_is_opened_and_works(failure: str) -> None:
    kernel, netlink = kernel_that(lambda n: FAILURES[failure](n) if n == 1 else good(n))
    with pytest.raises(SourceError):
        ask(netlink)
    assert ask(netlink) == [b"one!", b"two!", b"three"]
    assert [fake.closed for fake in kernel.sockets] == [True, False]


def test_a_dump_that_its_reader_gives_up_closes_the_socket() -> None:
    kernel, netlink = kernel_that(good)
    dump = netlink.dump(KIND, b"")
    next(dump)
    dump.close()
    assert kernel.sockets[0].closed
    assert len(ask(netlink)) == 3


@pytest.mark.parametrize(
    "use",
    [
        lambda netlink: list(netlink.dump(KIND, b"")),
        lambda netlink: netlink.command(KIND, b""),
        lambda netlink: netlink.ask(KIND, [b""]),
    ],
    ids=["dump", "command", "ask"],
)
def test_the_buffer_is_there_only_while_somebody_asks(use: Callable[[Netlink], object]) -> None:
    """A reader has seven of these for months, and each asks for a millisecond every few seconds."""
    kernel, netlink = kernel_that(lambda n: [done(n)])
    tracemalloc.start()
    try:
        use(netlink)
        assert len(kernel.buffer) == RECEIVE_BUFFER
        kernel.buffer = bytearray()
        assert tracemalloc.get_traced_memory()[0] < RECEIVE_BUFFER // 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("failure", [None, *FAILURES])
def test_the_buffer_is_wiped_after_a_dump_however_it_ended(failure: str | None) -> None:
    def answer(n: int) -> list[bytes | OSError | tuple[bytes, int]]:
        part: list[bytes | OSError | tuple[bytes, int]] = [message(KIND, n, b"secret" * 100)]
        return part + (FAILURES[failure](n) if failure else [done(n)])

    kernel, netlink = kernel_that(answer)
    seen = False
    try:
        for data, start, end in netlink.dump(KIND, b""):
            seen = seen or b"secret" in data[start:end]
    except SourceError:
        pass
    assert seen
    assert len(kernel.buffer) == RECEIVE_BUFFER
    assert not any(kernel.buffer)


def test_cutting_differently_shows_the_kernel_another_size_each_time_on_a_new_socket() -> None:
    kernel, netlink = kernel_that(good)
    for _ in range(30):
        ask(netlink)
        netlink.cut_differently()
    rooms = [request.room for request in kernel.requests]
    assert len(set(rooms)) > 10
    assert all(a != b for a, b in pairwise(rooms))
    assert all(16384 <= room < 32448 for room in rooms[1:]), "below the size that the kernel fills anyway"
    assert all(fake.closed for fake in kernel.sockets)


# --- Bytes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_datagrams_are_an_error_or_a_result(data: bytes) -> None:
    _, netlink = kernel_that(lambda n: [data, done(n)])
    try:
        ask(netlink)
    except SourceError as problem:
        assert "\n" not in str(problem)  # noqa: PT017 - a result is right as well


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100))
def test_walking_attributes_ends_and_stays_inside(data: bytes) -> None:
    try:
        found = list(attributes(data, 0, len(data)))
    except DecodeError:
        return
    assert all(0 < start <= end <= len(data) and kind <= 0x3FFF for kind, start, end in found)
    assert sum((4 + end - start + 3) & ~3 for _, start, end in found) >= len(data)


@pytest.mark.parametrize("size", [0, 1, 15, 17, 2**32 - 1])
def test_a_message_length_out_of_range_is_an_error(size: int) -> None:
    data = bytearray(struct.pack("=IHHII", size, KIND, 0, 1, 0))
    with pytest.raises(DecodeError):
        list(messages(data, len(data)))


@pytest.mark.parametrize("length", [0, 3, 9, 65535])
def test_an_attribute_length_out_of_range_is_an_error(length: int) -> None:
    data = struct.pack("=HH", length, 1) + b"four"
    with pytest.raises(DecodeError):
        list(attributes(data, 0, len(data)))


def test_flag_bits_are_no_part_of_an_attributes_type() -> None:
    assert list(attributes(nla(0x8000 | 0x4000 | 5, b"four"), 0, 8)) == [(5, 4, 8)]


# --- The kernel of this host


def test_the_kernel_knows_its_own_controller_and_no_nonsense() -> None:
    families = Families(Netlink(NETLINK_GENERIC))
    assert families.get("nlctrl") == GENL_ID_CTRL
    assert families.get("no-such-kind") is None
    assert families.get("nlctr") is None, "the beginning of a name is another name"
    assert families.get("lctrl") is None, "so is its end"


def test_a_family_is_never_asked_for_by_its_name_for_that_loads_modules() -> None:
    kernel, netlink = kernel_that(lambda n: [done(n)])
    assert Families(netlink).get("wireguard") is None
    (request,) = kernel.requests
    assert (request.kind, request.body) == (GENL_ID_CTRL, GENERIC.pack(3, 1, 0))


def test_a_family_dump_that_names_another_familys_operations_is_not_misread() -> None:
    """The name may stand somewhere else in a message, such as that of a multicast group."""
    other = GENERIC.pack(1, 2, 0) + nla(2, b"other\0") + nla(1, b"\x21\0") + nla(7, nla(1, nla(1, b"wireguard\0")))
    right = GENERIC.pack(1, 2, 0) + nla(2, b"wireguard\0") + nla(1, b"\x22\0")
    _, netlink = kernel_that(lambda n: [message(16, n, right) + message(16, n, other), done(n)])
    assert Families(netlink).get("wireguard") == 0x22


def test_an_error_of_the_kernel_is_its_own_error_number() -> None:
    with pytest.raises(NetlinkError) as caught:
        list(Netlink(NETLINK_GENERIC).dump(0x7FF, GENERIC.pack(0, 1, 0)))
    assert caught.value.errno in (errno.ENOENT, errno.EOPNOTSUPP)


def test_a_real_dump_gives_messages_and_leaves_an_empty_buffer() -> None:
    netlink = Netlink(NETLINK_ROUTE)
    answers = netlink.dump(18, GETLINK)
    buffer, start, end = next(answers)
    assert b"lo\0" in buffer[start:end]
    list(answers)
    assert not any(buffer)
    assert list(netlink.dump(18, GETLINK))
    netlink.close()


def test_a_real_datagram_of_another_process_is_not_taken_for_the_kernels() -> None:
    opened: list[socket.socket] = []

    def opening(protocol: int) -> socket.socket:
        opened.append(open_socket(protocol))
        return opened[-1]

    netlink = Netlink(NETLINK_ROUTE, opening)
    names = [bytes(data[start:end]) for data, start, end in netlink.dump(18, GETLINK)]
    forged = message(16, 2, b"forged") + done(2)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as stranger:
        try:
            stranger.sendto(forged, opened[0].getsockname())
        except PermissionError:
            pytest.skip("sending to another process's socket needs root")
    after = [bytes(data[start:end]) for data, start, end in netlink.dump(18, GETLINK)]
    assert len(opened) == 1
    assert len(after) == len(names)
    assert not any(b"forged" in each for each in after)


def test_a_socket_without_an_answer_gives_up_in_time() -> None:
    """By the option that the kernel counts; no answer comes to a message without NLM_F_ACK that asks for nothing."""
    with open_socket(NETLINK_ROUTE) as opened:
        seconds, micros = struct.unpack("@ll", opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))
        assert (seconds, micros // 100_000) == (2, 0)
        assert opened.get_inheritable() is False


def test_dump_is_what_is_asked_for() -> None:
    flags: list[int] = []

    class Listening(FakeKernel):
        def open(self, protocol: int) -> object:
            fake = super().open(protocol)
            send = fake.send
            fake.send = lambda data: (flags.append(struct.unpack_from("=H", data, 6)[0]), send(data))[1]
            return fake

    kernel = Listening(lambda request: good(request.sequence))
    ask(Netlink(NETLINK_GENERIC, kernel.open))
    assert flags == [NLM_F_DUMP | 1]


def test_importing_the_client_costs_no_netlink_library() -> None:
    code = "import sys, wg_exporter.reader.kernel.source; print(*sorted(n for n in sys.modules if 'pyroute2' in n))"
    root = Path(__file__).parents[1]
    done_ = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert re.sub(r"\s", "", done_.stdout) == ""
