"""tc's hooks on a real kernel: what is put there, found there, and taken away, on a device that a test can write to.

The device is a tun in the tests' own network namespace. Packets are written to it as wireguard-go does, also many in
one (virtio_net_hdr), and so reach the program by the way of real ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bpf import ETHERNET, TCP, bpf, packet
from tests.openfiles import open_files
from tests.rows import peer
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import DecodeError
from wg_exporter.model import Peers
from wg_exporter.reader.accounting import filters
from wg_exporter.reader.accounting.counter import Programs
from wg_exporter.reader.accounting.hooks import Found, Hooks
from wg_exporter.reader.accounting.seat import Seat
from wg_exporter.reader.accounting.source import AGAIN_SECONDS, ANOTHER, AccountingSource
from wg_exporter.reader.accounting.sweeper import Sweeper
from wg_exporter.reader.accounting.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a device and loads a program")

TUNSETIFF, IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x400454CA, 0x1, 0x1000, 0x4000
VNET = struct.Struct("=BBHHHH")  # flags, kind, length of headers, gso_size, and where a checksum is missing
NEEDS_CHECKSUM, TCP4, TCP6 = 1, 1, 4


class Tun(NamedTuple):
    """A device, and the end of a daemon that drives it."""

    name: str
    ifindex: int
    file: int

    def receive(self, source: str, target: str = "10.9.9.9") -> None:
        """A packet comes out of the tunnel."""
        os.write(self.file, VNET.pack(0, 0, 0, 0, 0, 0) + packet(source, target)[ETHERNET:])

    def receive_many(self, source: str, target: str, payload: int, size: int) -> None:
        """Segments of TCP come out of it in one piece."""
        data = bytearray(packet(source, target, payload, TCP)[ETHERNET:])
        headers, kind = (60, TCP6) if ":" in source else (40, TCP4)
        os.write(self.file, VNET.pack(NEEDS_CHECKSUM, kind, headers, size, headers - 20, 16) + bytes(data))

    def send(self, target: str) -> None:
        """The host sends a packet into the tunnel."""
        with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.name.encode())
            sender.sendto(b"x", (target, 9))

    def send_many(self, target: str, payload: int, size: int) -> None:
        """Datagrams in one piece: UDP_SEGMENT."""
        with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.name.encode())
            sender.setsockopt(socket.SOL_UDP, 103, size)
            sender.sendto(bytes(payload), (target, 9))


def tc(*words: str) -> str:
    return subprocess.run(["tc", *words], check=True, capture_output=True, text=True).stdout


def there(tun: Tun) -> str:
    """All of tc on the device."""
    shown = [tc("filter", "show", "dev", tun.name, hook) for hook in ("ingress", "egress")]
    return "\n".join([tc("qdisc", "show", "dev", tun.name), *shown])


def foreign(tun: Tun, hook: str, pref: str) -> None:
    """A filter of somebody else, that takes every packet."""
    tc("filter", "add", "dev", tun.name, hook, "pref", pref, "protocol", "all", "bpf", "bytecode", "1,6 0 0 4294967295")


@pytest.fixture
def tun() -> Iterator[Tun]:
    bpf()
    name = f"wg{secrets.token_hex(3)}"
    try:
        file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI | IFF_VNET_HDR))
    except OSError as error:
        pytest.skip(f"no tun device can be made: {error}")
    try:
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
        for words in (
            ("address", "add", "10.9.9.9/8", "dev", name),
            ("-6", "address", "add", "fd00::9/64", "dev", name, "nodad"),
            ("link", "set", name, "up"),
        ):
            subprocess.run(["ip", *words], check=True)
        yield Tun(name, socket.if_nametoindex(name), file)
    finally:
        os.close(file)


class Exporter:
    """What counts on the device, and its clock."""

    def __init__(self, tun: Tun, *allowed_ips: tuple[str, ...]) -> None:
        self.now = 100.0
        self.tun = tun
        self.source = AccountingSource(lambda: self.now)
        self.owning(*(allowed_ips or (("10.0.0.1/32", "fd00::1/128"), ("10.0.0.2/32",))))

    def owning(self, *allowed_ips: tuple[str, ...]) -> None:
        peers = Peers.of(peer(n, allowed_ips=ips) for n, ips in enumerate(allowed_ips, 1))
        self.source.follow(Wanted({(self.tun.name, self.tun.ifindex): peers}, {self.tun.ifindex}))

    def kill(self) -> None:
        """What the kernel does with one that is killed: what it has put there stays."""
        for counted in self.source._counted.values():
            counted.seat.leave()

    def read(self, after: float = 0.0) -> list[tuple[int, int]] | None:
        """What was counted by peer, received and sent; None if nothing can be."""
        self.now += after
        found = self.source.read().get(self.tun.name)
        return found and [tuple(row) for row in found[1]]


@pytest.fixture
def exporter(tun: Tun) -> Iterator[Exporter]:
    made = Exporter(tun)
    yield made
    made.source.close()


@needs_root
def test_packets_that_come_by_are_counted_and_nothing_is_left_at_the_end(tun: Tun) -> None:
    before = there(tun)
    exporter = Exporter(tun)
    assert exporter.read() == [(0, 0), (0, 0)]
    assert there(tun).count("wg-exporter with qdisc direct-action") == 2
    for _ in range(3):
        tun.receive("10.0.0.1")
        tun.send("10.0.0.2")
    tun.receive("fd00::1", "fd00::9")
    tun.send("fd00::1")
    assert exporter.read() == [(4, 1), (0, 3)]
    exporter.source.close()
    assert there(tun) == before


@needs_root
@pytest.mark.parametrize(("source", "target"), [("10.0.0.1", "10.9.9.9"), ("fd00::1", "fd00::9")])
def test_what_comes_or_goes_in_one_piece_is_as_many_as_it_is_on_the_way(
    tun: Tun, exporter: Exporter, source: str, target: str
) -> None:
    exporter.read()
    for payload, segments in ((1000, 1), (1001, 2), (40_000, 40), (59_001, 60)):
        before = exporter.read()
        tun.receive_many(source, target, payload, 1000)
        assert exporter.read()[0][0] - before[0][0] == segments, "whatever the host answers"
    before = exporter.read()
    tun.send_many(source, 30_001, 1000)
    assert exporter.read() == [(before[0][0], before[0][1] + 31), (0, 0)]


@needs_root
def test_filters_of_others_stay_in_place_and_the_qdisc_with_them(tun: Tun) -> None:
    tc("qdisc", "add", "dev", tun.name, "clsact")
    foreign(tun, "egress", "2")
    before = there(tun)
    exporter = Exporter(tun)
    exporter.read()
    tun.send("10.0.0.1")
    assert exporter.read() == [(0, 1), (0, 0)], "ours comes first"
    assert "wg-exporter direct-action" in there(tun)
    exporter.source.close()
    assert there(tun) == before


@needs_root
def test_a_qdisc_of_ours_stays_if_others_use_it_by_then(tun: Tun) -> None:
    exporter = Exporter(tun)
    exporter.read()
    foreign(tun, "ingress", "9")
    exporter.source.close()
    left = there(tun)
    assert "clsact" in left
    assert "pref 9 bpf" in left
    assert "wg-exporter" not in left


@needs_root
@pytest.mark.parametrize("pref", ["1", "7"])
def test_where_a_filter_may_come_first_nothing_is_counted_and_a_line_says_why(tun: Tun, pref: str) -> None:
    tc("qdisc", "add", "dev", tun.name, "clsact")
    foreign(tun, "ingress", pref)
    before = there(tun)
    exporter = Exporter(tun)
    if pref == "7":
        assert exporter.read() is not None
    else:
        assert exporter.read() is None
        (note,) = exporter.source.notes
        assert note.startswith(f"{tun.name}: packets are not counted: a filter at ingress (bpf, pref 1)")
        assert there(tun) == before
        assert exporter.read(after=1) is None
        tc("filter", "del", "dev", tun.name, "ingress", "pref", "1")
        assert exporter.read(after=AGAIN_SECONDS) == [(0, 0), (0, 0)]
        assert exporter.source.notes == ()
    exporter.source.close()


@needs_root
def test_a_filter_that_comes_first_later_ends_the_counts(tun: Tun, exporter: Exporter) -> None:
    exporter.read()
    tc("filter", "del", "dev", tun.name, "ingress", "pref", "1")
    foreign(tun, "ingress", "1")
    assert exporter.read(after=AGAIN_SECONDS) is None
    assert "wg-exporter" not in there(tun), "at egress neither"


@needs_root
def test_a_program_that_somebody_takes_away_is_put_back_and_the_counts_go_on(tun: Tun, exporter: Exporter) -> None:
    exporter.read()
    tun.send("10.0.0.1")
    tc("qdisc", "del", "dev", tun.name, "clsact")
    assert exporter.read(after=AGAIN_SECONDS) == [(0, 1), (0, 0)]
    tun.send("10.0.0.1")
    assert exporter.read() == [(0, 2), (0, 0)]


@needs_root
def test_a_qdisc_of_another_kind_in_the_place_is_left_alone(tun: Tun) -> None:
    tc("qdisc", "add", "dev", tun.name, "ingress")
    before = there(tun)
    exporter = Exporter(tun)
    assert exporter.read() is None
    assert "the qdisc ingress is where clsact has to be" in exporter.source.notes[0]
    exporter.source.close()
    assert there(tun) == before


@needs_root
def test_the_next_reader_takes_over_and_the_one_before_takes_nothing_of_it_away(tun: Tun) -> None:
    before = there(tun)
    first, second = Exporter(tun), Exporter(tun)
    first.read()
    tun.send("10.0.0.1")
    second.read()
    tun.send("10.0.0.1")
    assert (first.read(), second.read()) == ([(0, 1), (0, 0)], [(0, 1), (0, 0)])
    assert first.read(after=AGAIN_SECONDS) == [(0, 1), (0, 0)], "as it may be about to end"
    first.source.close()
    tun.send("10.0.0.1")
    assert second.read() == [(0, 2), (0, 0)]
    second.source.close()
    assert there(tun) == before, "the qdisc is ours, whoever of us has made it"


@needs_root
def test_one_that_was_replaced_for_good_says_so_and_goes_on_once_it_is_alone(tun: Tun) -> None:
    first, second = Exporter(tun), Exporter(tun)
    first.read()
    second.read()
    for _ in range(2):
        first.read(after=AGAIN_SECONDS)
    assert ANOTHER in first.source.notes[0]
    assert first.read(after=AGAIN_SECONDS) is None
    tun.send("10.0.0.1")
    assert second.read(after=AGAIN_SECONDS) == [(0, 1), (0, 0)], "it was left alone"
    second.source.close()
    assert first.read(after=AGAIN_SECONDS) == [(0, 0), (0, 0)]
    first.source.close()


@needs_root
@pytest.mark.parametrize("how", ["taken over", "swept"])
def test_what_a_killed_exporter_left_does_not_stay(tun: Tun, how: str) -> None:
    before = there(tun)
    killed = Exporter(tun)
    killed.read()
    killed.kill()
    left = there(tun)
    assert "wg-exporter" in left
    if how == "swept":
        sweeper = Sweeper()
        sweeper.follow(Wanted({}, None))
        sweeper.read()
        assert (sweeper.done, there(tun)) == (False, left), "as long as nobody knows what is there"
        sweeper.follow(Wanted({}, {tun.ifindex}))
        sweeper.read()
        assert sweeper.done
        sweeper.close()
    else:
        exporter = Exporter(tun)
        assert exporter.read() == [(0, 0), (0, 0)]
        assert there(tun).count("direct-action") == 2
        exporter.source.close()
    assert there(tun) == before


@needs_root
def test_what_an_exporter_that_runs_has_put_there_is_swept_by_nobody_before_it_ends(
    tun: Tun, exporter: Exporter
) -> None:
    before = there(tun)
    exporter.read()
    sweeper = Sweeper()
    sweeper.follow(Wanted({}, {tun.ifindex}))
    sweeper.read()
    assert not sweeper.done
    tun.receive("10.0.0.1")
    assert exporter.read() == [(1, 0), (0, 0)]
    exporter.kill()
    sweeper.read()
    assert (sweeper.done, there(tun)) == (True, before)
    sweeper.close()


def test_a_seat_has_one_owner_and_where_there_are_no_names_nobody_is_kept_from_counting(monkeypatch) -> None:
    number = secrets.randbits(30) | 1 << 30
    first, second = Seat(number), Seat(number)
    assert (first.take(), first.take(), second.take(), Seat(number + 1).take()) == (True, True, False, True)
    first.leave()
    assert second.take()
    second.leave()
    second.leave()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", refuse)
    assert Seat(number).take()


@needs_root
def test_who_takes_over_at_a_reload_has_the_seat_once_the_one_before_has_ended(tun: Tun) -> None:
    first, second = Exporter(tun), Exporter(tun)
    first.read()
    second.read()
    first.source.close()
    second.read(AGAIN_SECONDS)
    sweeper = Sweeper()
    sweeper.follow(Wanted({}, {tun.ifindex}))
    sweeper.read()
    assert not sweeper.done
    second.source.close()
    sweeper.close()


@needs_root
def test_more_peers_than_there_was_room_for_put_other_programs_in_place(tun: Tun, exporter: Exporter) -> None:
    exporter.read()
    tun.send("10.0.0.1")
    exporter.owning(*((f"10.0.0.{n}/32",) for n in range(1, 200)))
    assert exporter.read()[0] == (0, 1)
    tun.send("10.0.0.1")
    tun.send("10.0.0.150")
    found = exporter.read()
    assert (found[0], found[149]) == ((0, 2), (0, 1))
    assert exporter.read(after=AGAIN_SECONDS) == found


@needs_root
def test_a_device_that_went_is_let_go_of_and_one_that_nobody_sees_is_not(tun: Tun, exporter: Exporter) -> None:
    exporter.read()
    exporter.source.follow(Wanted({}, None))
    assert exporter.source.read() == {}
    assert "wg-exporter" in there(tun)
    exporter.source.follow(Wanted({}, set()))
    exporter.source.read()
    assert "wg-exporter" not in there(tun)


@needs_root
def test_files_are_closed_again(tun: Tun) -> None:
    before = open_files()
    for _ in range(3):
        exporter = Exporter(tun)
        exporter.read()
        exporter.owning(*((f"10.0.0.{n}/32",) for n in range(1, 200)))
        exporter.read()
        exporter.source.close()
    assert not open_files() - before


@needs_root
def test_looking_tells_ours_from_nothing(tun: Tun) -> None:
    with contextlib.closing(Hooks()) as hooks:
        assert hooks.look(tun.ifindex, {1, 2}) is Found.NOTHING
        hooks.check(tun.ifindex)
        hooks.remove(tun.ifindex)
    with (
        contextlib.closing(Hooks(lambda _ifindex, hook: hook == 47)) as hooks,
        pytest.raises(SourceError, match="tcx egress"),
    ):
        hooks.check(tun.ifindex)


@needs_root
def test_a_program_that_tc_does_not_take_leaves_nothing(tun: Tun) -> None:
    """As where the kernel lacks cls_bpf."""
    before = there(tun)
    with contextlib.closing(Hooks()) as hooks:
        with pytest.raises(SourceError, match="it needs sch_ingress, cls_bpf"):
            hooks.put(tun.ifindex, Programs(1 << 20, 1 << 20))
        assert there(tun) == before
        tc("qdisc", "add", "dev", tun.name, "clsact")
        before = there(tun)
        with pytest.raises(SourceError):
            hooks.put(tun.ifindex, Programs(1 << 20, 1 << 20))
        assert there(tun) == before, "this one is not ours"


@needs_root
def test_of_a_device_that_went_between_two_looks_it_is_said_that_it_has_gone() -> None:
    with contextlib.closing(Hooks()) as hooks, pytest.raises(SourceError, match="the interface has just gone"):
        hooks.put(1 << 20, Programs(0, 0))


# --- messages ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_whatever_a_message_holds_it_is_taken_apart_or_refused(data: bytes) -> None:
    for decode in (filters.decode, filters.decode_qdisc):
        with contextlib.suppress(DecodeError):
            decode(data, 0, len(data))


def test_of_filters_those_of_others_that_may_come_first_are_in_the_way() -> None:
    ours = filters.Filter(1, 1, "bpf", 0, filters.NAME, 7)
    group = filters.Filter(1, 0, "bpf", 0)
    other = filters.Filter(1, 2, "bpf", 0, "cil_from_netdev", 8)
    assert filters.in_the_way([group, ours, ours._replace(name=filters.NAME_WITH_QDISC)]) is None
    assert filters.in_the_way([group, ours, other]) is other
    assert filters.in_the_way([ours, other._replace(preference=2)]) is None
    assert filters.in_the_way([ours, other._replace(chain=3)]) is None, "nobody gets there but by a jump"
    assert filters.in_the_way([filters.Filter(1, 0, "matchall", 0)]) is not None
