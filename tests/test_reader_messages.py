"""What the exporter and its reader say to each other: a snapshot arrives as it was, and what did not change is the very
same object again."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import declared, device, key, link, peer, snapshot
from wg_exporter.accounted import Packets
from wg_exporter.compared import KeyComparison, KeysDiffer
from wg_exporter.hostnames import HostName, LookupFailure
from wg_exporter.inspected import Inspected, Neighbour, Path, PathKind, PortOwner
from wg_exporter.messages.channel import Connection, ConnectionEndedError
from wg_exporter.messages.reader import (
    LONGEST,
    MOST_INSPECTED,
    Ask,
    FromReader,
    Inspect,
    Inspections,
    Pass,
    Read,
    ToReader,
    Unwell,
)
from wg_exporter.messages.snapshots import Packer, Unpacker, UnpackError
from wg_exporter.model import (
    SOME_TIME,
    Backend,
    ConfDevice,
    ConfFile,
    FailedDevice,
    Failure,
    Outcome,
    Peers,
    Snapshot,
    SourceName,
    Usage,
)

USAGE = Usage(1.5, 2.0, 3.0, 4.0)
CONF = (
    ConfFile(
        "/etc/wireguard/wg0.conf",
        "wg0",
        (
            declared(1, "anna", "vpn.example.org:51820", allowed_ips=("10.0.0.0/8",), persistent_keepalive=25),
            declared(2, unclear=("endpoint",)),
        ),
        ("line 3: not understood",),
        saved=True,
        labels=(("key", (("team", "core"),)),),
        own_table=True,
        device=ConfDevice(51820, 7, 1420, ("10.0.0.1/24",)),
        left_out=1,
        hooked=True,
    ),
)
OUTCOMES = (
    Outcome(SourceName.KERNEL, "", True, 0.25),
    Outcome(SourceName.LINKS, "blue", False, 2.5, "it is gone", Failure.NAMESPACE_GONE),
)


def whole() -> Snapshot:
    """One with something in every field."""
    rows = peer(1, rx_bytes=(1 << 64) - 1, last_handshake_ns=SOME_TIME), peer(2, endpoint="", allowed_ips=())
    found = snapshot(
        device(*rows, packets=Packets(7, (1, (1 << 64) - 1), (2, 3))),
        device(netns="blue", name="wg1", backend=Backend.USERSPACE, fresh=False, opaque=True),
        at=7.25,
        links=(link(addresses=("10.0.0.1/24", "fd00::1/64")), link(netns="blue", name="wg1")),
        failed=(FailedDevice("", "wg9", Backend.AMNEZIAWG, "busy", Failure.UNANSWERED),),
        conf=CONF,
        outcomes=OUTCOMES,
    )
    return found._replace(
        notes=("a note",),
        udp_ports={"": frozenset({51820, 53}), "blue": frozenset()},
        left_out=frozenset({"wg7"}),
        idle_patterns=("/etc/none/*.conf",),
        doubles=("wg0: twice",),
        routes={"": {(3, "10.0.0.2"): "leads into eth0", (3, "10.0.0.3"): ""}},
        capabilities=(("net_admin", True), ("netns", False)),
        keys=(KeyComparison("wg0", "/etc/wireguard/wg0.conf", False, (("key", KeysDiffer.OTHER),)),),
        host_names=(
            HostName("vpn.example.org:51820", ("192.0.2.1:51820", "[2001:db8::1]:51820"), 7.0),
            HostName("gone.example.org:1", (), 3.0, LookupFailure.NOT_FOUND, 5.0),
        ),
        reresolved=(("wg0", "key", 3),),
    )


class Wire:
    """Both sides of a connection, over a real socket."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        self.reader = Connection(far, ToReader)
        self.exporter = Connection(near, FromReader, LONGEST)
        self.packer, self.unpacker = Packer(), Unpacker()
        self.size = 0

    def carry(self, given: Snapshot) -> Snapshot:
        message = self.packer.pack(given, USAGE)
        self.reader.send(message)
        got = None
        while got is None:
            self.reader.flush()
            got = self.exporter.receive()
        self.message = got
        return self.unpacker.unpack(got)

    def close(self) -> None:
        self.reader.close()
        self.exporter.close()


@pytest.fixture
def wire():
    one = Wire()
    yield one
    one.close()


def test_a_snapshot_arrives_as_it_was(wire):
    given_ = whole()
    got = wire.carry(given_)
    assert got == given_
    assert wire.message.usage == USAGE
    assert isinstance(got.failed[0].failure, Failure)
    assert isinstance(got.outcomes[0].source, SourceName)
    assert wire.carry(snapshot()) == snapshot()


def test_what_is_asked_arrives(wire):
    unwell = Unwell(frozenset({("wg0", "key", True), ("wg0", "other", False)}))
    asked = Ask({"": ((3, "10.0.0.2"),), "blue": ()})
    for message in (Read(), asked, unwell, Inspect((("blue", "wg0", key(1)),))):
        wire.exporter.send(message)
        assert wire.reader.receive() == message


def test_what_was_found_for_a_peer_arrives_as_it_was(wire):
    path = Path("192.0.2.7", PathKind.BLACKHOLE, "eth0", "192.0.2.1", "192.0.2.2", 51820, neighbour=Neighbour.SILENT)
    row = Inspected(("", "wg0", key(1)), 7.5, "", "192.0.2.7:51820", path, path._replace(tunnel=True), ("10.0.0.1/24",),
                    key(2), PortOwner.OTHER, "nginx (pid 3)", 1, 2, 3, 4, 5, "", ("busy",))  # fmt: skip
    wire.reader.send(Inspections((row, Inspected(("", "wg0", key(2)), 8.0))))
    got = wire.exporter.receive()
    assert got == Inspections((row, Inspected(("", "wg0", key(2)), 8.0)))
    assert got.rows[0].port_owner is PortOwner.OTHER


def test_more_peers_than_the_reader_looks_at_are_no_message(wire):
    wire.exporter.send(Inspect((("", "wg0", key(1)),) * (MOST_INSPECTED + 1)))
    with pytest.raises(ConnectionEndedError, match="malformed"):
        wire.reader.receive()


def test_what_did_not_change_does_not_cross_and_is_the_same_object(wire):
    first = wire.carry(whole())
    again = whole()._replace(conf=first.conf, wall=8.0)
    # The reader gives the same objects while nothing changes, as its sources do.
    again = again._replace(
        devices=tuple(one._replace(peers=wire.packer._peers[one.netns, one.name]) for one in again.devices)
    )
    again = again._replace(conf=wire.packer._conf, host_names=wire.packer._host_names)
    got = wire.carry(again)
    assert wire.message.conf is None
    assert wire.message.udp_ports is None
    assert wire.message.host_names is None
    assert got.host_names is first.host_names
    assert [part.columns for part in wire.message.devices] == [None, None]
    assert got == again
    assert got.conf is first.conf
    assert got.udp_ports is first.udp_ports
    assert all(now.peers is then.peers for now, then in zip(got.devices, first.devices, strict=True))
    assert all(got.links[key].addresses is first.links[key].addresses for key in got.links)


def test_of_peers_that_moved_only_the_columns_that_changed_cross(wire):
    rows = Peers.of([peer(1), peer(2)])
    first = wire.carry(snapshot(device()._replace(peers=rows)))
    moved = Peers.of([peer(1, rx_bytes=9, last_handshake_ns=7), peer(2)], rows)
    got = wire.carry(snapshot(device()._replace(peers=moved)))
    columns = wire.message.devices[0].columns
    assert (columns.rx_bytes, columns.last_handshake_ns) == (moved.rx_bytes, moved.last_handshake_ns)
    assert columns.public_key is columns.endpoint is columns.allowed_ips is columns.tx_bytes is None
    assert got.devices[0].peers == moved
    assert got.devices[0].peers.public_key is first.devices[0].peers.public_key
    # A device that was gone in between begins anew.
    wire.carry(snapshot())
    assert wire.carry(snapshot(device()._replace(peers=moved))).devices[0].peers == moved


def test_of_packets_too_only_the_column_that_changed_crosses_and_none_where_nobody_counts_any_more(wire):
    def carry(packets):
        return wire.carry(snapshot(device(peer(1), peer(2), packets=packets))).devices[0].packets

    first = Packets(7, (1, 2), (3, 4))
    got = carry(first)
    assert got == first
    assert carry(first) is got
    assert (wire.message.devices[0].packets.rx_packets, wire.message.devices[0].packets.tx_packets) == (None, None)
    moved = Packets(7, first.rx_packets, (3, 5))
    assert carry(moved) == moved
    assert wire.message.devices[0].packets.rx_packets is None
    assert carry(Packets(8, *moved.columns())) == Packets(8, *moved.columns()), "counted by another reader"
    assert carry(None) is None
    assert carry(moved) == moved


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda part: setattr(part.packets, "tx_packets", None), "a column of packets is as before"),
        (lambda part: setattr(part.packets, "rx_packets", (1,)), "packets and its peers differ in length"),
        (lambda part: setattr(part, "columns", None), "the peers of a device are as before"),
        (lambda part: setattr(part.columns, "rx_bytes", None), "a column of peers is as before"),
        (lambda part: setattr(part.columns, "rx_bytes", (1,)), "differ in length"),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(change, said):
    message = Packer().pack(snapshot(device(peer(1), peer(2), packets=Packets(1, (1, 2), (3, 4)))), USAGE)
    change(message.devices[0])
    with pytest.raises(UnpackError, match=said):
        Unpacker().unpack(message)


@pytest.mark.parametrize("field", ["conf", "udp_ports"])
def test_nothing_is_as_before_in_the_first_message(field):
    message = Packer().pack(snapshot(), USAGE)
    setattr(message, field, None)
    with pytest.raises(UnpackError, match="no before"):
        Unpacker().unpack(message)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_else_than_end_the_connection(data):
    for incoming in (ToReader, FromReader):
        ours, theirs = socket.socketpair()
        with contextlib.closing(Connection(ours, incoming)) as connection, theirs:
            theirs.send(struct.pack("!I", len(data)) + data)
            with contextlib.suppress(ConnectionEndedError):
                assert isinstance(connection.receive(), (Read, Ask, Inspect, Inspections, Unwell, Pass))


def test_there_is_no_field_for_a_secret():
    names = {name for kind in (Read, Ask, Inspect, Inspections, Unwell, Pass) for name in kind.__struct_fields__}
    assert not {name for name in names if "private" in name or "preshared" in name or "path" in name}
