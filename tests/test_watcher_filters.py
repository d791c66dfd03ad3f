"""What the kernel hands over: each packet that counts, and no message of data whatever it looks like."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IPOption_NOP

from tests import wires
from tests.wires import PEER, PEER6, PORT, THEIR_PORT, WAYS, filtered
from wg_exporter.prober.watcher.decode import Datagram, Quote, decode
from wg_exporter.prober.watcher.filters import MOST_PORTS, PACKET_HOST, PACKET_OUTGOING, watch

PROGRAM = watch({PORT})
MANY = watch(range(1000, 1000 + MOST_PORTS))
HANDSHAKES = {"initiation": wires.initiation(), "response": wires.response(), "cookie": wires.cookie()}
each = pytest.mark.parametrize("name", list(HANDSHAKES))
families = pytest.mark.parametrize("peer", [PEER, PEER6])


@each
@families
def test_handshake_messages_pass_both_ways(name, peer):
    assert filtered(PROGRAM, wires.arriving(HANDSHAKES[name], source=peer), PACKET_HOST)
    assert filtered(PROGRAM, wires.leaving(HANDSHAKES[name], target=peer), PACKET_OUTGOING)


@families
@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("size", [32, 64, 92, 96, 148, 1452])
def test_no_data_passes_though_it_is_as_long_as_a_handshake_message(peer, way, size):
    made = wires.arriving if way == "arriving" else wires.leaving
    assert not filtered(PROGRAM, made(wires.data(size), peer), WAYS[way])


@each
def test_a_message_of_another_length_does_not_pass(name):
    for data in (HANDSHAKES[name][:-1], HANDSHAKES[name] + b"x"):
        assert not filtered(PROGRAM, wires.arriving(data))


@each
def test_what_is_between_other_ports_does_not_pass(name):
    assert not filtered(PROGRAM, wires.udp(HANDSHAKES[name], ports=(THEIR_PORT, PORT + 1)))
    assert not filtered(PROGRAM, wires.udp(HANDSHAKES[name], ports=(PORT - 1, THEIR_PORT)), PACKET_OUTGOING)


@pytest.mark.parametrize("kind", [1, 2, 3, 5, 6])
def test_what_is_for_other_hosts_does_not_pass(kind):
    assert not filtered(PROGRAM, wires.arriving(wires.initiation()), kind)


@pytest.mark.parametrize("port", [1000, 1000 + MOST_PORTS // 2, 999 + MOST_PORTS])
def test_each_of_many_ports_passes(port):
    assert filtered(MANY, wires.udp(wires.initiation(), ports=(THEIR_PORT, port)))
    assert filtered(MANY, wires.udp(wires.initiation(), ports=(port, THEIR_PORT)), PACKET_OUTGOING)
    assert filtered(MANY, wires.refused(wires.udp(wires.initiation(), ports=(port, THEIR_PORT))))
    assert not filtered(MANY, wires.udp(wires.initiation(), ports=(THEIR_PORT, 999)))


def test_more_ports_than_fit_are_told_apart_later():
    program = watch(range(2000, 2001 + MOST_PORTS))
    assert len(program) // 8 < 100
    assert filtered(program, wires.udp(wires.initiation(), ports=(1, 2)))
    assert filtered(program, wires.refused(wires.udp(wires.initiation(), ports=(1, 2))))
    assert not filtered(program, wires.udp(wires.data(), ports=(1, 2)))


@pytest.mark.parametrize("kind", [3, 11])
def test_errors_about_our_datagrams_pass_as_they_arrive(kind):
    error = wires.refused(wires.leaving(wires.initiation()), kind=kind)
    assert filtered(PROGRAM, error)
    assert not filtered(PROGRAM, error, PACKET_OUTGOING)


@pytest.mark.parametrize("kind", [1, 3])
def test_so_do_those_over_ipv6(kind):
    error = wires.refused(wires.leaving(wires.initiation(), target=PEER6), by=PEER6, kind=kind)
    assert filtered(PROGRAM, error)
    assert not filtered(PROGRAM, error, PACKET_OUTGOING)


def test_errors_about_others_do_not_pass():
    assert not filtered(PROGRAM, wires.refused(wires.udp(wires.initiation(), ports=(53, THEIR_PORT))))
    assert not filtered(PROGRAM, wires.refused(wires.leaving(wires.initiation()), kind=8))
    echo = bytes(wires.IP(src=wires.US, dst=PEER) / wires.ICMP())
    assert not filtered(PROGRAM, wires.refused(echo))


def test_a_quoted_header_with_options_is_looked_behind():
    header = wires.IP(src=wires.US, dst=PEER, options=[IPOption_NOP()])
    assert filtered(PROGRAM, wires.refused(bytes(header / wires.UDP(sport=PORT, dport=9) / bytes(20))))


def test_every_jump_stays_within_the_program():
    for program in (PROGRAM, MANY, watch(())):
        steps = list(struct.iter_unpack("=HBBI", program))
        for at, (code, then, otherwise, _) in enumerate(steps):
            assert code != 0x15 or at + 1 + max(then, otherwise) < len(steps)


ANY = st.binary(min_size=1, max_size=200)
FORMED = st.builds(
    lambda payload, ports, peer, outgoing: (wires.leaving if outgoing else wires.arriving)(payload, peer, ports),
    st.sampled_from([*HANDSHAKES.values(), wires.data(), b"", b"\1\0\0\0"]) | ANY,
    st.integers(1, 65535),
    st.sampled_from([PEER, PEER6]),
    st.booleans(),
)


@given(FORMED | ANY, st.sampled_from([PACKET_HOST, PACKET_OUTGOING]))
def test_fuzz_what_is_understood_and_of_our_port_passes_and_data_never(packet, kind):
    passes, found = filtered(PROGRAM, packet, kind), decode(packet)
    if isinstance(found, Datagram) and PORT in (found.source_port, found.target_port):
        assert passes
    if isinstance(found, Quote) and found.source_port == PORT and kind == PACKET_HOST:
        assert passes
    start = 48 if packet[0] >> 4 == 6 else 28
    if passes and packet[6 if start == 48 else 9] == 17 and packet[0] in (0x45, 0x60):
        assert packet[start] in (1, 2, 3)
