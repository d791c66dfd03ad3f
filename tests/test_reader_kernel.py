"""Kernel devices as a whole: which are read, which failed, what is served when a dump can't be trusted, and what to do.

The kernel here is made by hand (tests/netlinking.py): it lists families and links and dumps devices, one play after the
other. Real kernels are read in the virtual machine (tests/vm/guest).
"""

from __future__ import annotations

import base64
import errno
import struct
from typing import TYPE_CHECKING

import pytest

from tests.netlinking import (
    MULTI,
    FakeKernel,
    Request,
    Shape,
    State,
    bytes_within,
    device_attributes,
    done,
    error,
    expected,
    key,
    message,
    nla,
    spellings,
    written,
)
from tests.recordings import KERNELS, about, datagrams, in_seconds, said
from wg_exporter.linux.errors import DeniedError, SourceError
from wg_exporter.linux.netlink import NETLINK_GENERIC, NETLINK_ROUTE, NetlinkError
from wg_exporter.model import Backend, Device, FailedDevice, Peers
from wg_exporter.reader.kernel.source import NO_PERMISSION, KernelSource
from wg_exporter.reader.keys import LOOK_SECONDS, KeyDigests, KeyLooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

INTR = 0x10
FAMILY = 0x20
PEERS = [State(key(n), (n, n), n, n, n, ("192.0.2.1", n, 0), ("10.0.0.0/24", f"fd00::{n}/128")) for n in range(1, 30)]
PLAIN = Shape(2000, 3000)

Play = "Callable[[Request], Iterable[bytes | OSError]]"


def dump(name: str = "wg0", peers: list[State] = PEERS, ifindex: int = 5) -> Play:
    """A complete answer."""
    messages, _ = written(peers, PLAIN, device_attributes(name, ifindex))
    return lambda ask: [*(message(FAMILY, ask.sequence, bytes(4) + one) for one in messages), done(ask.sequence)]


def interrupted(name: str = "wg0", peers: list[State] = PEERS[:7]) -> Play:
    """An answer that was not of one moment, and of which the end is missing."""
    messages, _ = written(peers, PLAIN, device_attributes(name, 5))
    return lambda ask: [
        *(message(FAMILY, ask.sequence, bytes(4) + one, MULTI | INTR) for one in messages),
        done(ask.sequence, 0, MULTI | INTR),
    ]


def refused(number: int) -> Play:
    return lambda ask: [error(ask.sequence, -number)]


def broken(ask: Request) -> list[bytes]:
    """A preshared key, and a length that points outside."""
    return [message(FAMILY, ask.sequence, bytes(4) + nla(2, b"wg0\0") + b"\xff\xff\x08\x80" + b"psk" * 30)]


def silent(_ask: Request) -> list[bytes]:
    return []


class Host(FakeKernel):
    """A kernel with links, and for each of them the plays of its dumps; the last one is played for ever."""

    def __init__(self, **plays: list[Play] | Play) -> None:
        super().__init__(self._answer)
        self.families = {"nlctrl": 16, "wireguard": FAMILY}
        self.links = {5 + n: name for n, name in enumerate(plays)}
        self.plays = {5 + n: play if isinstance(play, list) else [play] for n, play in enumerate(plays.values())}
        self.plays[1] = [refused(errno.EOPNOTSUPP)]

    def play(self, name: str, *plays: Play) -> None:
        (index,) = (index for index, known in self.links.items() if known == name)
        self.plays[index] = list(plays)

    def source(self, backend: Backend = Backend.KERNEL, wanted: Callable[[str], bool] = lambda _: True) -> KernelSource:
        return KernelSource(backend, wanted, self.open)

    def dumps(self) -> int:
        return sum(request.kind in (FAMILY, 0x21) for request in self.requests)

    def _answer(self, ask: Request) -> Iterable[bytes | OSError]:
        if ask.protocol == NETLINK_ROUTE:
            links = (
                bytes(4) + struct.pack("=iII", index, 1, 0) + nla(3, name.encode() + b"\0") + nla(18, nla(1, kind))
                for kind in (b"wireguard\0", b"amneziawg\0")
                for index, name in self.links.items()
                if (b"awg" in name.encode()) == (b"amnezia" in kind)
            )
            return [*(message(16, ask.sequence, link) for link in links), done(ask.sequence)]
        assert ask.protocol == NETLINK_GENERIC
        if ask.kind == 16:
            known = (nla(2, name.encode() + b"\0") + nla(1, struct.pack("=H", n)) for name, n in self.families.items())
            return [*(message(16, ask.sequence, bytes(4) + one) for one in known), done(ask.sequence)]
        (ifindex,) = struct.unpack_from("=I", ask.body, 8)
        plays = self.plays[ifindex]
        return (plays.pop(0) if len(plays) > 1 else plays[0])(ask)


def device(name: str = "wg0", peers: list[State] = PEERS, *, fresh: bool = True) -> Device:
    public_key = base64.b64encode(b"P" * 32).decode()
    return Device("", name, Backend.KERNEL, public_key, 51820, 0, Peers.of(map(expected, peers)), fresh)


def test_all_devices_are_read_in_the_order_of_their_index() -> None:
    host = Host(wg0=dump("wg0"), office=dump("office", PEERS[:2]), empty=dump("empty", []))
    source = host.source()
    assert source.read() == ([device("wg0"), device("office", PEERS[:2]), device("empty", [])], [])


def test_unwanted_devices_are_not_even_asked_for() -> None:
    host = Host(wg0=dump("wg0"), office=dump("office"))
    assert host.source(wanted=lambda name: name == "office").read() == ([device("office")], [])
    assert host.dumps() == 1


def test_an_unchanged_device_has_the_same_peers() -> None:
    source = Host(wg0=dump()).source()
    ((first,), _), ((second,), _) = source.read(), source.read()
    assert second.peers is first.peers


def test_keys_are_looked_at_when_they_are_due_and_never_in_a_dump_that_was_interrupted() -> None:
    now = [0.0]
    looks = KeyLooks(KeyDigests(), lambda: now[0])
    looks.describe(frozenset({"wg0"}))
    host = Host(wg0=[interrupted(), dump()], office=dump("office", ifindex=6))
    source = KernelSource(Backend.KERNEL, lambda _: True, host.open, looks)
    source.read()
    found = looks.found("wg0", Backend.KERNEL)
    assert found is not None
    assert found.private_key == looks.digests.of_raw(bytearray(b"private" + b"P" * 25), private=True)
    assert found.preshared_keys == {
        base64.b64encode(one.key).decode(): looks.digests.of_raw(bytearray(one.secret)) for one in PEERS
    }
    assert looks.found("office", Backend.KERNEL) is None, "no file describes it"
    host.play("wg0", dump("wg0", PEERS[:2]))
    source.read()
    assert looks.found("wg0", Backend.KERNEL) is found
    now[0] = LOOK_SECONDS
    source.read()
    assert len(looks.found("wg0", Backend.KERNEL).preshared_keys) == 2


def test_a_family_that_the_kernel_does_not_have_means_no_devices_and_is_no_error() -> None:
    host = Host(wg0=refused(errno.EPERM))
    del host.families["wireguard"]
    assert host.source().read() == ([], [])
    assert all(request.protocol == NETLINK_GENERIC and request.kind == 16 for request in host.requests)


def test_amneziawg_is_read_from_its_own_family_and_its_own_links() -> None:
    host = Host(wg0=dump("wg0"), awg0=dump("awg0"))
    host.families["amneziawg"] = 0x21
    (devices, failed) = host.source(Backend.AMNEZIAWG).read()
    assert devices == [device("awg0")._replace(backend=Backend.AMNEZIAWG)]
    assert failed == []
    assert [request.kind for request in host.requests if request.kind in (FAMILY, 0x21)] == [0x21]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["small", "sixty", "wide", "nokey"])
def test_recorded_datagrams_come_out_as_wg_said_them(kernel: str, name: str) -> None:
    recording = f"{kernel}-{name}"
    host = Host(**{name: lambda ask: _replayed(recording, ask.sequence)})
    host.families["wireguard"] = about(recording)["family"]
    (found,), failed = host.source().read()
    truth = said(recording)
    assert failed == []
    assert tuple(map(in_seconds, found.peers)) == truth.peers
    assert (found.name, found.public_key, found.listen_port, found.fwmark) == (name, *truth[:3])


def _replayed(recording: str, sequence: int) -> list[bytes]:
    """A recording, with the sequence number that its reader expects now."""
    out = []
    for datagram in datagrams(recording):
        data, at = bytearray(datagram), 0
        while at < len(data):
            struct.pack_into("=I", data, at + 8, sequence)
            at += (struct.unpack_from("=I", data, at)[0] + 3) & ~3
        out.append(bytes(data))
    return out


# --- Dumps that can't be trusted


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_recorded_interrupted_dump_is_asked_for_again(kernel: str) -> None:
    recordings = [f"{kernel}-interrupted", f"{kernel}-wide"]
    plays = [lambda ask, name=name: _replayed(name, ask.sequence) for name in recordings]
    host = Host(wide=plays)
    (found,), failed = host.source().read()
    assert failed == []
    assert tuple(map(in_seconds, found.peers)) == said(f"{kernel}-wide").peers
    assert host.dumps() == 2


def test_a_dump_interrupted_twice_is_read_the_third_time() -> None:
    host = Host(wg0=[interrupted(), interrupted(), dump()])
    assert host.source().read() == ([device()], [])
    assert host.dumps() == 3


def test_after_three_interrupted_dumps_the_last_complete_list_is_served_and_never_a_part() -> None:
    host = Host(wg0=dump(), other=dump("other", PEERS[:3]))
    source = host.source()
    source.read()
    host.play("wg0", interrupted())
    before = host.dumps()
    for _ in range(2):
        assert source.read() == ([device(fresh=False), device("other", PEERS[:3])], [])
    assert host.dumps() - before == 2 * (3 + 1)
    host.play("wg0", dump(peers=PEERS[:5]))
    assert source.read()[0][0] == device(peers=PEERS[:5])
    host.play("wg0", interrupted())
    assert source.read()[0][0] == device(peers=PEERS[:5], fresh=False)


def test_three_interrupted_dumps_at_the_first_read_are_a_failed_device() -> None:
    devices, failed = Host(wg0=interrupted(), wg1=dump("wg1")).source().read()
    assert devices == [device("wg1")]
    (row,) = failed
    assert row[:3] == ("", "wg0", Backend.KERNEL)
    assert "3 times in a row" in row.problem


def test_an_overrun_counts_as_an_interruption() -> None:
    host = Host(wg0=[lambda _ask: [OSError(errno.ENOBUFS, "")], dump()])
    assert host.source().read() == ([device()], [])


def test_a_list_that_was_served_last_under_another_name_has_the_new_one() -> None:
    host = Host(wg0=dump())
    source = host.source()
    source.read()
    host.links = {5: "renamed"}
    host.play("renamed", interrupted())
    assert source.read() == ([device("renamed", fresh=False)], [])


def test_a_device_that_was_away_in_between_is_not_served_from_memory() -> None:
    host = Host(wg0=dump())
    source = host.source()
    source.read()
    host.links = {}
    assert source.read() == ([], [])
    host.links = {5: "wg0"}
    host.play("wg0", interrupted())
    devices, failed = source.read()
    assert (devices, len(failed)) == ([], 1)


def losing(peers: list[State]) -> tuple[Play, list[frozenset[str]]]:
    """A kernel that loses a peer where a message is full just before its allowed IPs: another one for each size that
    the reader shows, and what it lost each time.
    """
    cuts: dict[frozenset[str], list[bytes]] = {}
    for room in range(1200, 4000, 4):
        messages, lost = written(peers, Shape(room, room, loses=True), device_attributes("wg0", 5))
        if lost:
            cuts.setdefault(frozenset(lost), messages)
    sizes: list[int] = []
    told: list[frozenset[str]] = []

    def answer(ask: Request) -> list[bytes]:
        if ask.room not in sizes:
            sizes.append(ask.room)
        told.append(list(cuts)[sizes.index(ask.room) % len(cuts)])
        messages = cuts[told[-1]]
        return [*(message(FAMILY, ask.sequence, bytes(4) + one) for one in messages), done(ask.sequence)]

    return answer, told


def test_what_a_kernel_loses_of_a_peer_is_read_from_a_dump_that_is_cut_in_another_way() -> None:
    play, lost = losing(PEERS)
    host = Host(wg0=play)
    source = host.source()
    for _ in range(4):
        assert source.read() == ([device()], [])
    assert all(lost)
    assert len(set(lost)) > 1
    rooms = [request.room for request in host.requests if request.kind == FAMILY]
    assert len(set(rooms)) > 2


def test_a_peer_that_is_lost_in_every_dump_makes_the_list_incomplete() -> None:
    bare = nla(8, nla(0, nla(1, PEERS[0].key)))
    loses = [message(FAMILY, 0, bytes(4) + device_attributes("wg0", 5) + bare)]

    def play(ask: Request) -> list[bytes]:
        return [loses[0][:8] + struct.pack("=I", ask.sequence) + loses[0][12:], done(ask.sequence)]

    host = Host(wg0=play)
    source = host.source()
    devices, (row,) = source.read()
    assert devices == []
    assert "left out" in row.problem
    host.play("wg0", dump())
    source.read()
    host.play("wg0", play)
    assert source.read() == ([device(fresh=False)], [])


# --- Devices that fail, alone


@pytest.mark.parametrize("number", [errno.ENODEV, errno.EOPNOTSUPP])
def test_a_device_that_vanishes_between_the_list_and_its_dump_is_skipped(number: int) -> None:
    host = Host(wg0=dump("wg0"), gone=refused(number), wg2=dump("wg2"))
    assert host.source().read() == ([device("wg0"), device("wg2")], [])


def test_a_device_that_vanishes_during_its_dump_is_skipped() -> None:
    messages, _ = written(PEERS, PLAIN, device_attributes("gone", 5))
    host = Host(
        gone=lambda ask: [message(FAMILY, ask.sequence, bytes(4) + messages[0]), done(ask.sequence, -errno.ENODEV)],
        wg1=dump("wg1"),
    )
    assert host.source().read() == ([device("wg1")], [])


@pytest.mark.parametrize(
    ("play", "why"),
    [(refused(errno.EIO), "Input/output error"), (broken, "out of range"), (silent, "did not answer within 2 s")],
    ids=["refused", "broken", "silent"],
)
def test_a_device_that_cannot_be_read_is_a_failed_one_and_the_others_stay(play: Play, why: str) -> None:
    host = Host(wg0=dump("wg0"), bad=play, wg2=dump("wg2"))
    source = host.source()
    for _ in range(2):
        devices, failed = source.read()
        assert devices == [device("wg0"), device("wg2")]
        assert [row[:3] for row in failed] == [("", "bad", Backend.KERNEL)]
        assert why in failed[0].problem
        assert failed[0].problem.startswith("reading it failed: ")
    host.play("bad", dump("bad"))
    assert len(source.read()[0]) == 3


# --- The source as a whole


@pytest.mark.parametrize("play", [refused(errno.EPERM), lambda ask: [done(ask.sequence, -errno.EPERM)]])
def test_no_permission_says_what_to_grant(play: Play) -> None:
    with pytest.raises(DeniedError, match=r"needs CAP_NET_ADMIN; .*AmbientCapabilities=CAP_NET_ADMIN") as caught:
        Host(wg0=play).source().read()
    assert str(caught.value) == NO_PERMISSION
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_recorded_refusal_of_a_kernel_says_what_to_grant(kernel: str) -> None:
    host = Host(small=lambda ask: _replayed(f"{kernel}-no_permission", ask.sequence))
    with pytest.raises(DeniedError, match="CAP_NET_ADMIN"):
        host.source().read()


def test_no_permission_is_seen_without_any_device_too() -> None:
    host = Host()
    source = host.source()
    assert source.read() == ([], [])
    host.plays[1] = [refused(errno.EPERM)]
    with pytest.raises(DeniedError, match="CAP_NET_ADMIN"):
        source.read()


@pytest.mark.parametrize("play", [refused(errno.EINVAL), broken, interrupted()], ids=["refused", "broken", "changed"])
def test_the_question_for_permission_fails_for_nothing_else(play: Play) -> None:
    host = Host()
    host.plays[1] = [play]
    assert host.source().read() == ([], [])


def test_a_kernel_that_gives_no_families_or_links_is_a_failure_of_the_source() -> None:
    host = Host(wg0=dump())
    answer = host.answer
    source = host.source()
    for kind, wrong in ((16, [b"\1"]), (16, []), (18, []), (18, [OSError(errno.EIO, "")])):
        host.answer = lambda ask, kind=kind, wrong=wrong: wrong if ask.kind == kind else answer(ask)
        with pytest.raises(SourceError):
            source.read()
    host.answer = answer
    assert source.read() == ([device()], [])


def test_after_close_the_next_read_opens_new_sockets() -> None:
    host = Host(wg0=dump())
    source = host.source()
    source.read()
    source.close()
    assert [socket.closed for socket in host.sockets] == [True, True]
    assert source.read() == ([device()], [])
    assert len(host.sockets) == 4


# --- Secrets


@pytest.mark.parametrize("last", [dump(), interrupted(), broken, refused(errno.EIO), silent])
def test_no_secret_stays_in_the_source_however_the_last_read_ended(last: Play) -> None:
    host = Host(wg0=[dump(), last])
    source = host.source()
    rows = [source.read(), source.read()]
    host.answer = list
    everything = b"\0".join([*bytes_within(vars(source), rows), repr(rows).encode()])
    for secret in [*(peer.secret for peer in PEERS), b"private" + b"P" * 25, b"psk" * 10]:
        assert not any(spelling in everything for spelling in spellings(secret))
    assert expected(PEERS[0]).public_key.encode() in everything


def test_a_failed_read_that_is_kept_with_its_traceback_holds_no_open_dump() -> None:
    """Whoever logs an exception may keep it: the socket is closed and the buffer wiped all the same."""
    host = Host(wg0=[lambda ask: [message(FAMILY, ask.sequence, bytes(4) + b"\xff\xff\x08\x80" + b"psk" * 30)]])
    source = host.source()
    with pytest.raises(SourceError) as kept:
        source._dump(FAMILY, 5)
    assert kept.value.__traceback__ is not None
    assert all(socket.closed for socket in host.sockets)
    assert not any(host.buffer)


def test_an_error_number_is_told_in_words() -> None:
    assert str(NetlinkError(errno.ENODEV)) == "No such device"
    _, (row,) = Host(wg0=refused(errno.ENOMEM)).source().read()
    assert row == FailedDevice("", "wg0", Backend.KERNEL, "reading it failed: Cannot allocate memory")
