"""What a packet socket received: scapy's handshake messages and errors as they are meant, anything else as nothing."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib import wireguard as scapy_wireguard

from tests import wires
from tests.wires import OURS, PEER, PEER6, PORT, ROUTER, THEIR_PORT, THEIRS, US, US6
from wg_exporter.prober.watcher.decode import Kind, decode, mac1_key, made_for, message_of

MESSAGES = {Kind.INITIATION: wires.initiation(), Kind.RESPONSE: wires.response(), Kind.COOKIE: wires.cookie()}
both = pytest.mark.parametrize(("peer", "us"), [(PEER, US), (PEER6, US6)])


def packed(address):
    return ip_address(address).packed


@pytest.mark.parametrize("kind", list(MESSAGES))
@both
def test_each_handshake_message_is_found_as_scapy_reads_it(kind, peer, us):
    data = MESSAGES[kind]
    found = decode(wires.udp(data, peer, us))
    read = scapy_wireguard.Wireguard(data)
    assert (found.source, found.target) == (packed(peer), packed(us))
    assert (found.source_port, found.target_port) == (THEIR_PORT, PORT)
    assert (found.message.kind, found.message.data) == (read.message_type, data)
    assert found.message.sender == getattr(read.payload, "sender_index", None)
    assert found.message.receiver == getattr(read.payload, "receiver_index", None)


@pytest.mark.parametrize("kind", list(MESSAGES))
@pytest.mark.parametrize("change", [-1, 1])
def test_a_message_of_another_length_is_none(kind, change):
    data = (MESSAGES[kind] + bytes(1))[: len(MESSAGES[kind]) + change]
    assert message_of(data) is None


@pytest.mark.parametrize("number", [0, 4, 5, 0x101, 0x1000001])
def test_a_message_of_another_type_is_none_and_so_is_one_whose_reserved_bytes_are_used(number):
    assert message_of(number.to_bytes(4, "little") + MESSAGES[Kind.INITIATION][4:]) is None


def test_mac1_tells_for_whose_public_key_a_message_was_made():
    for made in (wires.initiation(OURS), wires.response(OURS)):
        assert made_for(message_of(made), mac1_key(OURS))
        assert not made_for(message_of(made), mac1_key(THEIRS))
    spoilt = bytearray(wires.initiation(OURS))
    spoilt[20] ^= 1
    assert not made_for(message_of(bytes(spoilt)), mac1_key(OURS))


def test_mac1_is_the_same_with_a_cookie_in_mac2():
    assert made_for(message_of(wires.initiation(OURS, cookie=b"c" * 16)), mac1_key(OURS))


def test_a_cookie_reply_is_made_for_nobody_that_could_be_told():
    assert not made_for(message_of(wires.cookie()), mac1_key(OURS))


@pytest.mark.parametrize("key", ["", "x", "AAAA", "ä" * 44, OURS[:-1], OURS + "="])
def test_what_is_no_public_key_makes_no_mac1(key):
    assert mac1_key(key) is None


@pytest.mark.parametrize("code", [0, 1, 2, 3, 9, 10, 13])
def test_an_icmp_error_tells_who_refuses_what(code):
    sent = wires.leaving(wires.initiation())
    found = decode(wires.refused(sent, code=code))
    assert (found.by, found.type, found.code) == (packed(ROUTER), 3, code)
    assert (found.source, found.source_port, found.target, found.target_port) == (
        packed(US), PORT, packed(PEER), THEIR_PORT,
    )  # fmt: skip
    assert found.data == sent[28:]


@pytest.mark.parametrize(("kind", "code"), [(1, 0), (1, 1), (1, 3), (1, 4), (3, 0)])
def test_so_does_an_icmpv6_error(kind, code):
    sent = wires.leaving(wires.initiation(), target=PEER6)
    found = decode(wires.refused(sent, by="2001:db8:9::9", kind=kind, code=code))
    assert (found.type, found.code, found.target, found.data) == (kind, code, packed(PEER6), sent[48:])


@pytest.mark.parametrize(("kind", "code"), [(3, 4), (0, 0), (8, 0), (5, 1), (11, 1), (12, 0)])
def test_an_icmp_message_that_refuses_nothing_is_none(kind, code):
    assert decode(wires.refused(wires.leaving(wires.initiation()), kind=kind, code=code)) is None


@pytest.mark.parametrize(("kind", "code"), [(2, 0), (3, 1), (4, 0), (128, 0), (129, 0), (136, 0)])
def test_nor_is_such_an_icmpv6_message(kind, code):
    sent = wires.leaving(wires.initiation(), target=PEER6)
    assert decode(wires.refused(sent, by=PEER6, kind=kind, code=code)) is None


def test_an_error_that_quotes_only_the_ports_is_found_with_no_data():
    found = decode(wires.refused(wires.leaving(wires.initiation()), length=28))
    assert (found.source_port, found.target_port, found.data) == (PORT, THEIR_PORT, b"")


def test_an_error_that_quotes_less_is_none():
    assert decode(wires.refused(wires.leaving(wires.initiation()), length=27)) is None


def test_an_error_of_one_family_about_the_other_is_none():
    sent = wires.leaving(wires.initiation(), target=PEER6)
    assert decode(bytes(wires.IP(src=ROUTER, dst=US) / wires.ICMP(type=3, code=3) / sent)) is None


def test_a_fragment_is_none():
    whole = wires.arriving(wires.initiation())
    first, later = wires.IP(whole), wires.IP(whole)
    first.flags, later.frag = "MF", 3
    assert decode(bytes(first)) is None
    assert decode(bytes(later)) is None


def test_what_a_card_padded_behind_the_packet_is_no_part_of_it():
    assert decode(wires.arriving(wires.cookie()) + bytes(20)).message.kind is Kind.COOKIE


def test_data_is_not_understood():
    assert decode(wires.arriving(wires.data())) is None
    assert decode(wires.arriving(wires.data(148))) is None


PACKETS = [
    wires.arriving(wires.initiation()),
    wires.arriving(wires.response(), source=PEER6),
    wires.refused(wires.leaving(wires.initiation())),
    wires.refused(wires.leaving(wires.initiation(), target=PEER6), by=PEER6, kind=1),
]


@pytest.mark.parametrize("number", range(len(PACKETS)))
def test_nothing_that_is_cut_short_is_taken_for_more_than_it_is(number):
    whole = PACKETS[number]
    for length in range(len(whole)):
        found = decode(whole[:length])
        assert found is None, length


@given(st.sampled_from(PACKETS), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6))
def test_fuzz_a_packet_with_other_bytes_in_it_is_decoded_or_none(packet, changes):
    changed = bytearray(packet)
    for at, value in changes:
        changed[at % len(changed)] = value
    decode(bytes(changed))


@given(st.binary(max_size=400))
def test_fuzz_any_bytes_are_decoded_or_none(packet):
    decode(packet)
    message_of(packet)


@given(st.text(max_size=60))
def test_fuzz_any_text_is_a_key_or_none(text):
    key = mac1_key(text)
    assert key is None or len(key) == 32
