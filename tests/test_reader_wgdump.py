"""The decoder of WireGuard's dumps: against recorded kernels, a kernel made by hand, pyroute2, and wrong bytes.

The kernel by hand (tests/netlinking.py) fills its messages as the real one does, so each size of message is another
cut of the same device. What must be read is known from what was written: no cut may change a number.
"""

from __future__ import annotations

import base64
import dataclasses
import random
from sys import byteorder
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.netlinking import (
    KERNEL,
    NESTED,
    Shape,
    State,
    allowed_ip,
    bytes_within,
    device_attributes,
    expected,
    key,
    nla,
    spellings,
    written,
)
from tests.recordings import DEVICES, KERNELS, about, datagrams, in_seconds, payloads, said
from wg_exporter.linux.netlink import DecodeError
from wg_exporter.model import Peer, Peers
from wg_exporter.reader.kernel.dump import DeviceFacts, Extractor
from wg_exporter.reader.kernel.peers import PeerTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RECORDINGS = [f"{kernel}-{device}" for kernel in KERNELS for device in DEVICES]
SECOND = 1_000_000_000


@dataclasses.dataclass
class Reading:
    """What the exporter keeps of one device: both halves of the decoder, through one dump after the other."""

    extractor: Extractor = dataclasses.field(default_factory=Extractor)
    table: PeerTable = dataclasses.field(default_factory=PeerTable)
    facts: DeviceFacts | None = None

    def dump(self, messages: Iterable[bytes]) -> Peers:
        self.extractor.begin()
        for message in messages:
            # As from a socket: in the middle of a buffer that is wiped after the dump.
            buffer = bytearray(b"\xee" * 20 + message + b"\xee" * 9)
            self.extractor.feed(buffer, 20, 20 + len(message))
            buffer[:] = bytes(len(buffer))
        self.facts, entries = self.extractor.finish()
        return self.table.update(entries)

    def write(self, peers: Sequence[State], shape: Shape = KERNEL) -> Peers:
        messages, lost = written(peers, shape)
        result = self.dump(messages)
        assert self.table.lost == lost
        return result


def device(count: int = 40, ips: int = 2) -> list[State]:
    """A device with peers of every kind."""
    places = (None, ("192.0.2.1", 51820, 0), ("2001:db8::7", 1, 0), ("fe80::1", 65535, 3))
    return [
        State(
            key(n),
            handshake=(1_700_000_000 + n, n % 3 * 999_999_999 // 2) if n % 2 else (0, 0),
            keepalive=n % 3 * 25,
            tx=2**40 + n,
            rx=n,
            endpoint=places[n % 4],
            ips=tuple(f"10.{n // 256}.{n % 256}.{i}/32" if i % 2 else f"fd00:{n:x}::{i:x}/128" for i in range(ips)),
        )
        for n in range(count)
    ]


def expected_of(peers: Sequence[State]) -> Peers:
    return Peers.of(map(expected, peers))


# --- Real kernels


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_dump_says_what_wg_said_at_the_same_moment(name: str) -> None:
    reading, truth = Reading(), said(name)
    peers = reading.dump(payloads(name))
    assert tuple(map(in_seconds, peers)) == truth.peers
    facts = about(name)
    assert reading.facts == DeviceFacts(
        facts["ifindex"], facts["ifname"], truth.public_key, truth.listen_port, truth.fwmark
    )
    assert reading.table.lost == frozenset()


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_recordings_hold_what_is_hard(kernel: str) -> None:
    """Else the test above would prove little: several messages, 3,000 allowed IPs over them, a handshake, IPv6."""
    assert len(list(payloads(f"{kernel}-sixty"))) > 1
    assert len(list(payloads(f"{kernel}-wide"))) > 2
    assert max(len(peer.allowed_ips) for peer in said(f"{kernel}-wide").peers) == 3000
    small = said(f"{kernel}-small")
    assert small.fwmark
    assert any(peer.last_handshake_ns and peer.rx_bytes and peer.tx_bytes for peer in small.peers)
    assert any(peer.endpoint.startswith("[") for peer in small.peers)
    assert said(f"{kernel}-nokey").public_key == ""


@pytest.mark.parametrize("name", RECORDINGS)
def test_pyroute2_reads_the_same_from_the_same_bytes(name: str) -> None:
    from pyroute2.netlink.generic import wireguard

    merged: dict[str, list[object]] = {}
    for datagram in datagrams(name):
        for message in _pyroute2_messages(wireguard.wgmsg, datagram):
            for peer in message.get_attr("WGDEVICE_A_PEERS") or ():
                _merge_pyroute2(merged, peer)
    ours = {peer.public_key: peer for peer in Reading().dump(payloads(name))}
    assert list(merged) == list(ours)
    for public_key, theirs in merged.items():
        peer = ours[public_key]
        seconds, nanoseconds = divmod(peer.last_handshake_ns, SECOND)
        endpoint, port = peer.endpoint.rpartition(":")[::2]
        read = [(seconds, nanoseconds), peer.persistent_keepalive, peer.rx_bytes, peer.tx_bytes]
        read += [(endpoint.strip("[]"), int(port)) if endpoint else None, list(peer.allowed_ips)]
        assert theirs == read


def _pyroute2_messages(decoder: type, datagram: bytes) -> Iterable[object]:
    at = 0
    while at < len(datagram):
        size, kind = (
            int.from_bytes(datagram[at : at + 4], "little"),
            int.from_bytes(datagram[at + 4 : at + 6], "little"),
        )
        if kind >= 16:
            message = decoder(datagram[at : at + size])
            message.decode()
            yield message
        at += (size + 3) & ~3


def _merge_pyroute2(merged: dict[str, list[object]], peer: object) -> None:
    get = peer.get_attr
    public_key = get("WGPEER_A_PUBLIC_KEY")
    public_key = (public_key if isinstance(public_key, bytes) else public_key["value"]).decode()
    if public_key not in merged:
        time, endpoint = get("WGPEER_A_LAST_HANDSHAKE_TIME"), get("WGPEER_A_ENDPOINT")
        merged[public_key] = [
            (time["tv_sec"], time["tv_nsec"]),
            get("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"),
            get("WGPEER_A_RX_BYTES"),
            get("WGPEER_A_TX_BYTES"),
            None if endpoint is None else (endpoint["addr"], endpoint["port"]),
            [],
        ]
    merged[public_key][-1] += [ip["addr"] for ip in get("WGPEER_A_ALLOWEDIPS") or ()]


# --- What recordings lack


def test_an_empty_device_without_a_key_is_read() -> None:
    reading = Reading()
    messages, _ = written([], device=device_attributes("empty", 3, None, 0, 0))
    assert reading.dump(messages) == Peers()
    assert reading.facts == DeviceFacts(3, "empty", "", 0, 0)


def test_fields_at_their_limits_are_read_exactly() -> None:
    peer = State(
        key(1), (2**62 // SECOND, 999_999_999), 65535, 2**64 - 1, 2**63, ("ff02::1", 65535, 2**32 - 1), ("::/0",)
    )
    reading = Reading()
    messages, _ = written([peer], device=device_attributes("a" * 15, 2**31 - 1, b"\xff" * 32, 65535, 2**32 - 1))
    assert reading.dump(messages) == Peers.of([expected(peer)])
    assert expected(peer).endpoint == "[ff02::1%4294967295]:65535"
    assert reading.facts == DeviceFacts(2**31 - 1, "a" * 15, base64.b64encode(b"\xff" * 32).decode(), 65535, 2**32 - 1)


def test_a_handshake_with_0_nanoseconds_is_one_and_only_0_and_0_is_none() -> None:
    peers = Reading().write([State(key(1), (5, 0)), State(key(2), (0, 7)), State(key(3), (0, 0))])
    assert [peer.last_handshake_ns for peer in peers] == [5 * SECOND, 7, 0]


@pytest.mark.parametrize("room", [400, 700, 1000, 4096, 32448])
@pytest.mark.parametrize("align64", [False, True], ids=["plain", "align64"])
@pytest.mark.parametrize("flags", [0, NESTED, NESTED | 0x4000])
@pytest.mark.parametrize("unknown", [False, True], ids=["known", "unknown"])
@pytest.mark.parametrize("amnezia", [False, True], ids=["wireguard", "amneziawg"])
def test_no_cut_padding_flag_or_unknown_attribute_changes_a_value(
    room: int, align64: bool, flags: int, unknown: bool, amnezia: bool
) -> None:
    peers = device()
    shape = Shape(first=room, room=room, align64=align64, unknown=unknown, flags=flags, amnezia=amnezia)
    reading, truth = Reading(), expected_of(peers)
    for _ in range(2):  # the second time by the layouts learned from the first
        assert reading.write(peers, shape) == truth


def test_a_peer_with_3000_allowed_ips_is_whole_over_any_number_of_messages() -> None:
    ips = tuple(f"10.{i // 256}.{i % 256}.0/24" for i in range(3000))
    peers = [State(key(0), ips=("10.0.0.0/8",)), State(key(1), (9, 9), 25, 1, 2, ips=ips), State(key(2), (1, 1))]
    for room, at_least in ((32448, 3), (3776, 20), (1000, 80)):
        messages, lost = written(peers, Shape(first=room, room=room))
        assert len(messages) >= at_least
        assert not lost
        assert Reading().dump(messages) == expected_of(peers)


def test_counters_that_move_are_read_on_machines_that_pad_64_bit_numbers() -> None:
    reading, peers = Reading(), device(5)
    shape = Shape(align64=True)
    before = reading.write(peers, shape)
    after = reading.write([peers[0], peers[1]._replace(tx=1, rx=2, handshake=(3, 4)), *peers[2:]], shape)
    assert after[1] == before[1]._replace(tx_bytes=1, rx_bytes=2, last_handshake_ns=3 * SECOND + 4)
    assert moved(before, after) == [1]


def test_a_peer_that_the_kernel_lost_at_the_end_of_a_message_is_known_as_lost_and_never_as_one_without_traffic() -> (
    None
):
    peers = device(30)
    losing = [room for room in range(800, 2000, 4) if written(peers, Shape(room, room, loses=True))[1]]
    assert losing
    for room in losing:
        messages, lost = written(peers, Shape(room, room, loses=True))
        reading = Reading()
        result = reading.dump(messages)
        assert reading.table.lost == lost
        assert [peer for peer in result if peer.public_key not in lost] == [
            peer for peer in expected_of(peers) if peer.public_key not in lost
        ]


# --- The same object for what did not change


@pytest.fixture
def known() -> tuple[Reading, list[State], Peers]:
    reading, peers = Reading(), device(60)
    return reading, peers, reading.write(peers, Shape(1000, 2000))


def moved(before: Peers, after: Peers) -> list[int]:
    return [n for n, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]


def renewed(before: Peers, after: Peers) -> list[str]:
    """The columns that are no longer the same object."""
    return [name for name in Peer._fields if getattr(before, name) is not getattr(after, name)]


Known = tuple[Reading, list[State], Peers]


def test_an_unchanged_dump_is_the_same_object(known: Known) -> None:
    reading, peers, before = known
    assert reading.write(peers, Shape(1000, 2000)) is before


def test_the_same_peers_cut_in_another_way_are_the_same_object(known: Known) -> None:
    reading, peers, before = known
    for shape in (Shape(1500, 900), Shape(), Shape(1000, 2000)):
        assert reading.write(peers, shape) is before


def test_counters_that_move_renew_their_columns_alone(known: Known) -> None:
    reading, peers, before = known
    peers[7] = peers[7]._replace(tx=5)
    after = reading.write(peers, Shape(1000, 2000))
    assert after == expected_of(peers)
    assert (moved(before, after), renewed(before, after)) == ([7], ["tx_bytes"])
    peers[7] = peers[7]._replace(tx=5, rx=6, handshake=(7, 8), keepalive=9)
    later = reading.write(peers, Shape(1000, 2000))
    assert later == expected_of(peers)
    assert moved(after, later) == [7]
    assert renewed(after, later) == ["persistent_keepalive", "last_handshake_ns", "rx_bytes"]


def test_counters_of_all_peers_that_move_are_all_read(known: Known) -> None:
    reading, peers, before = known
    peers[:] = [row._replace(tx=2**63 + n, rx=2**62 + n) for n, row in enumerate(peers)]
    after = reading.write(peers, Shape(1000, 2000))
    assert after == expected_of(peers)
    assert renewed(before, after) == ["rx_bytes", "tx_bytes"]


def test_a_peer_that_roams_is_renewed_alone(known: Known) -> None:
    reading, peers, before = known
    peers[9] = peers[9]._replace(endpoint=("203.0.113.9", 9, 0))
    after = reading.write(peers, Shape(1000, 2000))
    assert after[9].endpoint == "203.0.113.9:9"
    assert moved(before, after) == [9]


def test_an_endpoint_and_counters_that_change_together_are_both_read(known: Known) -> None:
    reading, peers, before = known
    peers[9] = peers[9]._replace(endpoint=("203.0.113.9", 9, 0), rx=77)
    after = reading.write(peers, Shape(1000, 2000))
    assert (after[9].endpoint, after[9].rx_bytes) == ("203.0.113.9:9", 77)
    assert moved(before, after) == [9]


def test_an_allowed_ip_more_shifts_later_peers_into_other_messages_and_changes_none_of_them(known: Known) -> None:
    reading, peers, before = known
    peers[3] = peers[3]._replace(ips=(*peers[3].ips, "10.200.0.0/16"))
    after = reading.write(peers, Shape(1000, 2000))
    assert after == expected_of(peers)
    assert (moved(before, after), renewed(before, after)) == ([3], ["allowed_ips"])


def test_peers_that_come_go_and_change_places_are_read_where_they_are(known: Known) -> None:
    reading, peers, _ = known
    random.Random(1).shuffle(peers)
    del peers[5:9]
    peers.insert(20, State(key(999), (1, 2)))
    assert reading.write(peers, Shape(1100, 2000)) == expected_of(peers)


def test_a_message_that_held_no_peer_last_time_is_read_when_it_holds_some() -> None:
    """The kernel sends an empty list of peers when the last one went away during the dump."""
    reading = Reading()
    reading.extractor.begin()
    for message in (device_attributes() + nla(8, b""), nla(8 | NESTED, b"")):
        reading.extractor.feed(message, 0, len(message))
    # Interrupted: it never comes to `finish`, and its layouts are still there as guesses.
    peers = device(10)
    assert reading.write(peers, Shape(1200, 1200)) == expected_of(peers)


def test_a_failure_leaves_nothing_half_done() -> None:
    reading, peers = Reading(), device(6)
    reading.write(peers)
    broken = nla(9, nla(0, nla(1, b"\x0a\0") + nla(2, b"\1\2") + nla(3, b"\x20")))  # two bytes of an IPv4 address
    messages, _ = written([*peers[:-1], peers[-1]._replace(ips=())])
    bad = messages[0].replace(nla(1, peers[-1].key), nla(1, key(77)))
    body = nla(0, nla(1, key(88)) + broken)
    with pytest.raises(DecodeError, match="neither IPv4 nor IPv6"):
        reading.dump([bad, nla(8, body)])
    assert reading.write(peers) == expected_of(peers)
    assert reading.write(peers[:5]) == expected_of(peers[:5])


class Device(RuleBasedStateMachine):
    """One device through any changes, in any cut: what is read is always what was written, and no more is renewed."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading()
        self.peers: list[State] = []
        self.number = 0
        self.shape = Shape()
        self.before = self.reading.write([], self.shape)

    @rule(ips=st.integers(0, 12), v6=st.integers(0, 3), at=st.integers(0, 50), place=st.integers(0, 3))
    def join(self, ips: int, v6: int, at: int, place: int) -> None:
        self.number += 1
        n = self.number
        many = tuple(f"10.{n}.0.{i}/32" for i in range(ips)) + tuple(f"fd00:{n:x}::{i:x}/128" for i in range(v6))
        endpoint = (None, ("192.0.2.1", n, 0), ("2001:db8::1", n, 0), ("fe80::1", n, 2))[place]
        self.peers.insert(min(at, len(self.peers)), State(key(n), endpoint=endpoint, ips=many))

    @precondition(lambda self: self.peers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.peers.pop(data.draw(st.integers(0, len(self.peers) - 1)))

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), traffic=st.integers(0, 2**64 - 1), seconds=st.integers(0, 2**33))
    def talk(self, data: st.DataObject, traffic: int, seconds: int) -> None:
        at = data.draw(st.integers(0, len(self.peers) - 1))
        self.peers[at] = self.peers[at]._replace(
            rx=traffic, tx=traffic ^ 1, handshake=(seconds, traffic % SECOND), keepalive=seconds % 65536
        )

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), place=st.sampled_from([None, ("192.0.2.9", 9, 0), ("2001:db8::9", 9, 0)]))
    def roam(self, data: st.DataObject, place: tuple[str, int, int] | None) -> None:
        at = data.draw(st.integers(0, len(self.peers) - 1))
        self.peers[at] = self.peers[at]._replace(endpoint=place)

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), count=st.integers(0, 20))
    def route(self, data: st.DataObject, count: int) -> None:
        at = data.draw(st.integers(0, len(self.peers) - 1))
        self.peers[at] = self.peers[at]._replace(ips=tuple(f"10.{at}.1.{i}/32" for i in range(count)))

    @rule(seed=st.integers(0, 99))
    def reorder(self, seed: int) -> None:
        random.Random(seed).shuffle(self.peers)

    @rule(first=st.integers(90, 600), room=st.integers(80, 900), others=st.tuples(*[st.booleans()] * 4))
    def cut(self, first: int, room: int, others: tuple[bool, bool, bool, bool]) -> None:
        align64, unknown, loses, amnezia = others
        self.shape = Shape(4 * first, 4 * room, align64, unknown, loses=loses, amnezia=amnezia)

    @invariant()
    def is_read_as_it_is(self) -> None:
        result = self.reading.write(self.peers, self.shape)
        truth, lost = expected_of(self.peers), self.reading.table.lost
        assert [peer.public_key for peer in result] == [peer.public_key for peer in truth]
        for peer, right in zip(result, truth, strict=True):
            if peer.public_key not in lost:
                assert peer == right
        assert result != self.before or result is self.before
        columns = zip(result.columns(), self.before.columns(), strict=True)
        for now, then in columns:
            assert now is then or now != then
            if len(now) == len(then):
                assert all(new is old for new, old in zip(now, then, strict=True) if new == old)
        self.before = result


TestDevice = Device.TestCase
TestDevice.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


# --- Secrets


def assert_none_of(secrets: Iterable[bytes], texts: Iterable[bytes]) -> None:
    whole = b"\0".join(texts)
    for secret in secrets:
        for spelling in spellings(secret):
            assert spelling not in whole


@pytest.mark.parametrize("name", RECORDINGS)
def test_nothing_that_is_kept_of_a_recorded_dump_holds_a_secret(name: str) -> None:
    reading, secrets = Reading(), [base64.b64decode(text) for text in said(name).secrets]
    for _ in range(2):
        reading.dump(payloads(name))
        kept = bytes_within(reading)
        assert_none_of(
            (s for s in secrets if any(s)), [*kept, repr(reading).encode(), repr(reading.extractor).encode()]
        )
    if said(name).public_key:
        assert any(
            base64.b64decode(said(name).public_key) in each or said(name).public_key.encode() in each for each in kept
        )


def test_the_rest_of_a_peer_that_becomes_a_whole_one_of_the_same_length_is_not_kept_with_its_secret() -> None:
    """88 + 8 bytes of secret and counters, against allowed IPs of 28 and 40 bytes: lengths can meet by chance."""
    ips = tuple(f"10.0.0.{i}/32" for i in range(10))
    whole = State(key(1), (3, 4), 5, 6, 7, ips=ips[:4])
    rest = nla(
        NESTED, nla(1, whole.key) + nla(9 | NESTED, b"".join(nla(NESTED, allowed_ip(ip)) for ip in (*ips[:6], "::/0")))
    )
    messages, _ = written([whole])
    head = device_attributes()
    entry = messages[0][len(head) + 4 :]
    assert len(entry) == len(rest), "else this tests nothing"
    assert entry[:40] == rest[:40]
    reading = Reading()
    first, _ = written([whole._replace(ips=())])
    reading.dump([*first, nla(8 | NESTED, rest)])
    reading.dump([head + nla(8 | NESTED, nla(NESTED, nla(1, key(2)))), nla(8 | NESTED, entry)])
    assert_none_of([whole.secret], bytes_within(reading))
    assert reading.table.update(reading.extractor.finish()[1])[1] == expected(whole)


def test_a_whole_peer_that_becomes_a_rest_of_the_same_length_is_read_as_the_rest() -> None:
    """The same meeting of lengths the other way round."""
    ips = (*(f"10.0.0.{i}/32" for i in range(6)), "::/0")
    whole = State(key(1), (3, 4), 5, 6, 7, ips=ips[:4])
    listed = nla(9 | NESTED, b"".join(nla(NESTED, allowed_ip(ip)) for ip in ips))
    rest = nla(NESTED, nla(1, whole.key) + listed)
    first = written([whole])[0][0]
    entry = first[len(device_attributes()) + 4 :]
    assert len(entry) == len(rest)
    other = nla(8 | NESTED, written([State(key(2))])[0][0][len(device_attributes()) + 4 :])
    head = written([whole._replace(ips=())])[0][0]
    reading = Reading()
    reading.dump([device_attributes() + other, nla(8 | NESTED, entry)])
    peer, _ = reading.dump([head + other, nla(8 | NESTED, rest)])
    assert peer == expected(whole._replace(ips=ips))


def test_peers_that_went_with_their_message_are_forgotten() -> None:
    reading, peers = Reading(), device()
    reading.write(peers, Shape(1000, 1000))
    reading.write(peers[:1], Shape(1000, 1000))
    assert all(peers[-1].key not in each for each in bytes_within(reading))


def test_a_last_peer_that_ends_with_the_buffer_before_its_padding_is_an_error() -> None:
    body = nla(1, key(1)) + nla(9, b"")
    message = device_attributes() + nla(8, nla(0, body))
    cut = bytearray(message + b"\x05\0\x09\0x")
    at = len(device_attributes())
    for place, grown in ((at, 4 + 4 + len(body) + 5), (at + 4, 4 + len(body) + 5)):
        cut[place : place + 2] = grown.to_bytes(2, byteorder)
    with pytest.raises(DecodeError, match="not padded"):
        Extractor().feed(cut, 0, len(cut))


def test_a_preshared_key_where_none_is_expected_is_refused() -> None:
    for body in (
        nla(1, key(1)) + nla(5, b"\0\0") + nla(2, b"s" * 32),
        nla(1, key(1)) + nla(0, b"") + nla(2, b"s" * 32),
        nla(1, key(1)) + nla(2 | NESTED, b"s" * 32),
        nla(1, key(1)) + nla(2, b"s" * 31),
        nla(1, key(1)) + nla(2, b"p" * 32) + nla(2, b"s" * 32),
        nla(3, b"\x08\0\0\0") + nla(1, key(1)) + nla(5, b"\0\0") + nla(2, b"s" * 32),
    ):
        with pytest.raises(DecodeError, match="preshared key"):
            Reading().dump([device_attributes() + nla(8, nla(0, body))])


def test_a_name_longer_than_any_interface_has_is_refused() -> None:
    with pytest.raises(DecodeError):
        Reading().dump([nla(2, b"n" * 32)])


# --- Bytes that are wrong

SMALL = [State(key(n), (n, n), n, n, n, ("192.0.2.1", n, 0), ("10.0.0.0/24", "fd00::/64")) for n in range(6)]


def feed(reading: Reading, messages: Sequence[bytes], secrets: Sequence[bytes]) -> None:
    """A result or a DecodeError, whose text says nothing secret."""
    try:
        result = reading.dump(messages)
    except DecodeError as error:
        said_of_it = [str(error).encode(), repr(error).encode()]
        while error.__context__ is not None:
            error = error.__context__
            said_of_it.append(repr(error).encode())
        assert_none_of(secrets, said_of_it)
        assert len(str(error)) < 120  # noqa: PT017 - a result is right as well
    else:
        assert len(result) == len(set(result.public_key)) == len(list(result))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=4))
def test_random_bytes_are_an_error_or_a_result(messages: list[bytes]) -> None:
    feed(Reading(), messages, [])


@settings(max_examples=300, deadline=None)
@given(body=st.binary(max_size=200), secret=st.booleans())
def test_random_bytes_inside_of_a_peer_are_an_error_or_a_result(body: bytes, secret: bool) -> None:
    psk = nla(2, b"s" * 32) if secret else b""
    reading, good = Reading(), written(SMALL)[0]
    for _ in range(2):
        feed(reading, [device_attributes() + nla(8, nla(0, nla(1, key(1)) + psk + body))], [b"s" * 32])
    assert reading.dump(good) == expected_of(SMALL)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), room=st.sampled_from([400, 1000, 32448]))
def test_a_dump_with_bits_flipped_or_cut_short_is_an_error_or_a_result_and_the_next_good_one_is_right(
    data: st.DataObject, room: int
) -> None:
    messages, lost = written(SMALL, Shape(first=room, room=room))
    assert not lost
    secrets = [peer.secret for peer in SMALL] + [b"private" + b"P" * 25]
    reading = Reading()
    if data.draw(st.booleans(), "after a good dump"):
        reading.dump(messages)
    at = data.draw(st.integers(0, len(messages) - 1), "message")
    bad = bytearray(messages[at])
    for _ in range(data.draw(st.integers(0, 3), "flips")):
        bit = data.draw(st.integers(0, 8 * len(bad) - 1), "bit")
        bad[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(bad)), "cut") if data.draw(st.booleans(), "cut short") else len(bad)
    feed(reading, [*messages[:at], bytes(bad[:cut]), *messages[at + 1 :]], secrets)
    assert reading.dump(messages) == expected_of(SMALL)


@pytest.mark.parametrize("name", ["linux-6.12-small", "linux-6.12-sixty"])
def test_a_recorded_dump_cut_anywhere_is_an_error_or_a_result(name: str) -> None:
    messages, secrets = list(payloads(name)), [base64.b64decode(text) for text in said(name).secrets]
    secrets = [secret for secret in secrets if any(secret)]
    last = messages[-1]
    for cut in range(0, len(last), max(1, len(last) // 300)):
        feed(Reading(), [*messages[:-1], last[:cut]], secrets)


def test_a_dump_without_a_name_is_an_error() -> None:
    with pytest.raises(DecodeError, match="names no device"):
        Reading().dump([nla(6, b"\0\0")])


def test_a_peer_that_comes_twice_is_an_error() -> None:
    message = written(SMALL)[0][0]
    peers = message[len(device_attributes()) :]
    with pytest.raises(DecodeError, match="twice"):
        Reading().dump([message, peers])
