"""The capture of `wg-exporter mtu --pcap`: what is kept, judged by scapy, and on which files it is not let loose."""

from __future__ import annotations

import os
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, IPerror, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Raw
from scapy.utils import PcapNgReader

from tests.lab import eventually
from tests.promtool import run as tool
from wg_exporter.cli.frames import MOST_FRAGMENTED, Fragments, token_of
from wg_exporter.cli.mtu.capture import Capture, capture_filter
from wg_exporter.cli.pcap import CaptureError
from wg_exporter.prober.wire.in_flight import FIRST_PORT
from wg_exporter.prober.wire.sockets import attach_filter, open_here

TOKEN = 0x0123456789ABCDEF
DATA = Raw(TOKEN.to_bytes(8, "big") + bytes(24))
A, B, ROUTER = "192.0.2.1", "192.0.2.2", "198.51.100.9"
A6, B6 = "2001:db8::1", "2001:db8::2"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="not root: packet sockets need CAP_NET_RAW")


def ours(token):
    return token == TOKEN


# --- which packets are ours -----------------------------------------------------------------------------------------

ECHO = IP(src=A, dst=B) / ICMP() / DATA
DATAGRAM = IP(src=A, dst=B) / UDP(sport=4, dport=FIRST_PORT) / DATA
ECHO6 = IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(data=DATA.load)


@pytest.mark.parametrize(
    "packet",
    [
        ECHO,
        IP(src=B, dst=A) / ICMP(type=0) / DATA,
        IP(src=A, dst=B, options=b"\x01" * 4) / ICMP() / DATA,
        IP(src=ROUTER, dst=A) / ICMP(type=3, code=4, nexthopmtu=1400) / ECHO,
        IP(src=ROUTER, dst=A) / ICMP(type=11) / ECHO,
        DATAGRAM,
        IP(src=B, dst=A) / ICMP(type=3, code=3) / DATAGRAM,
        ECHO6,
        IPv6(src=B6, dst=A6) / ICMPv6PacketTooBig(mtu=1400) / ECHO6,
    ],
    ids=lambda packet: packet.summary(),
)
def test_probes_replies_and_errors_that_quote_them_carry_the_token(packet):
    assert token_of(bytes(packet)) == TOKEN
    assert Fragments().belong(bytes(packet), ours)
    assert not Fragments().belong(bytes(packet), lambda token: token == TOKEN + 1)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(60),
        bytes(ECHO)[:30],
        bytes(IP(src=A, dst=B) / ICMP(type=13) / DATA),
        bytes(IP(src=ROUTER, dst=A) / ICMP(type=3, code=4) / bytes(ECHO)[:28]),
        bytes(IP(src=A, dst=B, proto=6) / DATA),
        bytes(IPv6(src=A6, dst=B6, nh=59) / DATA),
    ],
)
def test_what_carries_no_token_is_not_ours(packet):
    assert not Fragments().belong(packet, lambda _token: True)


@given(st.binary(max_size=200))
def test_no_bytes_from_outside_raise(packet):
    Fragments().belong(packet, ours)


@pytest.mark.parametrize(
    "pieces",
    [
        fragment(IP(src=B, dst=A, id=7) / ICMP(type=0) / Raw(DATA.load + bytes(900)), 400),
        fragment6(
            IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(id=7) / ICMPv6EchoRequest(data=DATA.load + bytes(1900)), 700
        ),
    ],
    ids=["ipv4", "ipv6"],
)
def test_later_fragments_belong_to_the_first_and_those_of_others_do_not(pieces):
    assert len(pieces) > 2
    fragments = Fragments()
    assert not fragments.belong(bytes(pieces[1]), ours)
    assert all(fragments.belong(bytes(piece), ours) for piece in pieces)
    foreign = bytearray(bytes(pieces[1]))
    foreign[19 if foreign[0] >> 4 == 4 else 39] ^= 1  # another destination
    assert not fragments.belong(bytes(foreign), ours)


def test_a_flood_of_first_fragments_grows_no_memory():
    fragments = Fragments()
    for number in range(3 * MOST_FRAGMENTED):
        packet = bytearray(bytes(IP(src=B, dst=A, flags="MF") / ICMP(type=0) / DATA))
        packet[4:6] = number.to_bytes(2, "big")
        assert fragments.belong(bytes(packet), ours)
    assert len(fragments._known) == MOST_FRAGMENTED


# --- the file -------------------------------------------------------------------------------------------------------


@pytest.fixture
def echoes(tmp_path):
    """A capture on loopback while two echoes go over it, ours and a stranger's; and when that was."""
    path = tmp_path / "probes.pcapng"
    capture = Capture(path, open_here)
    capture.probes("", {"tunnel0"})
    before = time.time()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        for token in (TOKEN, TOKEN + 1):
            packet = ICMP(id=77) / Raw(token.to_bytes(8, "big") + bytes(1000))
            sock.sendto(bytes(packet), ("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(bytes(8) + DATA.load, ("127.0.0.1", 9))

    def both() -> bool:
        capture.drain(ours)
        return capture.packets >= 2

    eventually(both, within=30)
    capture.drain(ours)
    capture.close()
    return path, capture, before, time.time()


@needs_root
def test_scapy_reads_back_our_probe_and_its_answer_with_time_and_interface(echoes):
    path, capture, before, after = echoes
    with PcapNgReader(str(path)) as reader:
        packets = list(reader)
    assert [packet[ICMP].type for packet in packets] == [8, 0]
    assert capture.packets == 2
    assert capture.dropped == 0
    for packet in packets:
        assert packet.sniffed_on == "lo (outer)"
        assert before <= float(packet.time) <= after
        assert packet[IP].src == "127.0.0.1"
        assert packet[IP].len == 1036
        assert packet[Raw].load[:8] == DATA.load[:8]
    assert packets[0].time <= packets[1].time


@needs_root
def test_tcpdump_reads_it(echoes):
    request, reply = tool("tcpdump", "-n", "-r", echoes[0], package="tcpdump").stdout.splitlines()
    assert "IP 127.0.0.1 > 127.0.0.1: ICMP echo request, id 77, " in request
    assert "IP 127.0.0.1 > 127.0.0.1: ICMP echo reply, id 77, " in reply
    assert echoes[0].read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"  # pcapng


@needs_root
def test_the_file_is_for_its_owner_alone_and_an_older_capture_is_replaced(tmp_path):
    path = tmp_path / "probes.pcapng"
    Capture(path, open_here).close()
    size = path.stat().st_size
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(bytes(10_000))
    Capture(path, open_here).close()
    assert path.stat().st_size == size


@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "socket"])
def test_what_is_no_regular_file_is_left_alone_with_one_line(kind, tmp_path):
    path = tmp_path / kind
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        path.symlink_to("/dev/null")
    with pytest.raises(CaptureError, match=rf"^{path}: cannot write a capture there: not a regular file$"):
        Capture(path, open_here)


def test_a_directory_that_does_not_exist_is_told_as_such(tmp_path):
    with pytest.raises(CaptureError, match="No such file or directory"):
        Capture(tmp_path / "nowhere" / "x", open_here)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_full_disk_is_one_line(tmp_path):
    capture = Capture(tmp_path / "x", open_here)
    capture._writer.f.close()
    capture._writer.f = open("/dev/full", "wb")  # noqa: PTH123, SIM115
    capture._writer.f.write(b"x")
    with pytest.raises(CaptureError, match="No space left on device"):
        capture.close()


def test_without_permission_the_missing_capability_is_named(tmp_path):
    def denied(*_arguments):
        raise PermissionError(1, "Operation not permitted")

    capture = Capture(tmp_path / "x", denied)
    with pytest.raises(CaptureError, match="CAP_NET_RAW"):
        capture.probes("", set())
    capture.close()


# --- the filter in the kernel ---------------------------------------------------------------------------------------


def passes(packet):
    """Whether the kernel hands a packet that was received, not sent, to a socket with this filter: 1 byte at least."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        attach_filter(other, capture_filter())
        other.settimeout(0)
        one.send(bytes(packet))
        try:
            return other.recv(65536) == bytes(packet)
        except BlockingIOError:
            return False


@pytest.mark.parametrize("packet", [ECHO, ECHO6, IPv6() / IPv6ExtHdrFragment(nh=58) / DATA, IP(frag=9, proto=1) / DATA])
def test_the_kernel_keeps_icmp_and_its_fragments(packet):
    assert passes(packet)


@pytest.mark.parametrize(
    "packet", [IP(proto=6) / DATA, IPv6(nh=6) / DATA, IP() / UDP(dport=51820) / DATA, IPv6() / UDP(dport=53) / DATA]
)
def test_the_kernel_drops_all_other_traffic(packet):
    assert not passes(packet)


@needs_root
def test_of_udp_only_what_is_sent_to_the_ports_of_probes_is_kept(tmp_path):
    capture = Capture(tmp_path / "x", open_here)
    capture.probes("", set())
    sock, _ = capture._sockets[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for port in (FIRST_PORT, 9, FIRST_PORT + 1):
            udp.sendto(bytes(DATA), ("127.0.0.1", port))
    sock.settimeout(30)
    seen = []
    while (FIRST_PORT + 1, 4) not in seen:
        data, address = sock.recvfrom(2048)
        if IP(data).proto == 17:
            seen.append((IP(data)[UDP].dport, address[2]))
    capture.close()
    assert seen == [(FIRST_PORT, 4), (FIRST_PORT + 1, 4)]  # as they left; what is received is no probe of ours


def test_the_quoted_probe_is_found_where_scapy_finds_it():
    error = IP(bytes(IP(src=ROUTER, dst=A) / ICMP(type=3, code=4) / ECHO))
    assert int.from_bytes(bytes(error[IPerror].payload.payload)[:8], "big") == token_of(bytes(error))
