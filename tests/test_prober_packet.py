"""Probes as scapy reads them, answers as scapy makes them, and anything else that a stranger may send."""

from __future__ import annotations

import logging
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import inet as scapy_inet
from scapy.layers import inet6 as scapy_inet6

from wg_exporter.prober.wire import packet
from wg_exporter.prober.wire.packet import ICMP, ICMPV6, UDP, IcmpAnswer, IcmpKind

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)  # it would warn of missing routes
IP, SICMP, SUDP = scapy_inet.IP, scapy_inet.ICMP, scapy_inet.UDP
IPv6 = scapy_inet6.IPv6

US, PEER, ROUTER = "192.0.2.1", "192.0.2.2", "198.51.100.9"
US6, PEER6, ROUTER6 = "2001:db8::1", "2001:db8::2", "2001:db8:9::9"
TOKEN = 0x0123456789ABCDEF


def packed(address: str) -> bytes:
    return ip_address(address).packed


idents = st.integers(0, 0xFFFF)
tokens = st.integers(0, 2**64 - 1)
sizes = st.integers(packet.SMALLEST_V6, 1501)


def checksums_right(made: bytes) -> bool:
    """Whether scapy, having forgotten all checksums of an IPv4 packet, computes the same ones."""
    again = IP(made)
    del again[IP].chksum
    del again.getlayer(1).chksum
    return bytes(again) == bytes(made)


@given(sizes, idents, idents, tokens, idents)
def test_scapy_reads_an_ipv4_echo_as_it_was_meant(size, ident, sequence, token, tag):
    ttl = ident % 255 + 1
    made = packet.echo_v4(packed(PEER), size, ident, sequence, token, tag=tag, ttl=ttl, source=packed(US))
    seen = IP(bytes(made))
    assert (seen.version, seen.len, len(made), seen.ttl, seen.src, seen.dst) == (4, size, size, ttl, US, PEER)
    assert seen.flags == "DF"
    assert (seen[SICMP].type, seen[SICMP].code, seen[SICMP].id, seen[SICMP].seq) == (8, 0, ident, sequence)
    assert bytes(seen[SICMP].payload) == token.to_bytes(8, "big") + tag.to_bytes(2, "big") + bytes(size - 38)
    assert seen[SICMP].chksum == packet.checksum_v4(ident, sequence, token, tag)
    assert checksums_right(made)


@given(idents, idents, tokens, idents)
def test_an_echo_made_new_is_the_echo_that_would_have_been_made(ident, sequence, token, tag):
    again = packet.echo_v4(packed(PEER), 64, 1, 2, 3, tag=tag)
    packet.renew_v4(again, ident, sequence, token, tag)
    assert again == packet.echo_v4(packed(PEER), 64, ident, sequence, token, tag=tag)
    again = packet.echo_v6(64, 1, 2, 3, tag)
    packet.renew_v6(again, ident, sequence, token, tag)
    assert again == packet.echo_v6(64, ident, sequence, token, tag)


@given(sizes, idents, idents, tokens, idents)
def test_scapy_reads_an_ipv6_echo_as_it_was_meant(size, ident, sequence, token, tag):
    seen = scapy_inet6.ICMPv6EchoRequest(bytes(packet.echo_v6(size, ident, sequence, token, tag)))
    assert (seen.type, seen.code, seen.id, seen.seq, seen.cksum) == (128, 0, ident, sequence, 0)
    assert seen.data == token.to_bytes(8, "big") + tag.to_bytes(2, "big") + bytes(size - 58)
    assert len(bytes(IPv6() / seen)) == size


@given(sizes, idents, idents, tokens)
def test_scapy_reads_a_udp_datagram_as_it_was_meant(size, source, destination, token):
    made = packet.udp_v4(packed(PEER), size, source, destination, token, ttl=9, source=packed(US))
    seen = IP(bytes(made))
    assert (seen.len, len(made), seen.ttl, seen.flags, seen.dst) == (size, size, 9, "DF", PEER)
    assert (seen[SUDP].sport, seen[SUDP].dport, seen[SUDP].len) == (source, destination, size - 20)
    assert bytes(made[28:36]) == token.to_bytes(8, "big")
    assert checksums_right(made)


def test_a_udp_datagram_without_a_source_says_that_it_has_no_checksum():
    assert IP(bytes(packet.udp_v4(packed(PEER), 100, 1, 2, TOKEN)))[SUDP].chksum == 0


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_its_other_form():
    without = IP(bytes(packet.udp_v4(packed(PEER), 100, 1, 2, 0, source=packed(US))))[SUDP].chksum
    made = packet.udp_v4(packed(PEER), 100, 1, 2, without, source=packed(US))
    assert IP(bytes(made))[SUDP].chksum == 0xFFFF
    assert checksums_right(made)


def test_an_ipv6_payload_makes_a_packet_of_the_wanted_size():
    made = bytes(packet.udp_payload(1420, TOKEN))
    assert len(bytes(IPv6() / SUDP() / made)) == 1420
    assert made.startswith(TOKEN.to_bytes(8, "big"))


@pytest.mark.parametrize("size", [-1, 0, 35, 65536])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(ValueError, match="a probe has"):
        packet.echo_v4(packed(PEER), size, 1, 2, 3)
    with pytest.raises(ValueError, match="a probe has"):
        packet.udp_v4(packed(PEER), size, 1, 2, 3)
    with pytest.raises(ValueError, match="a probe has"):
        packet.echo_v6(size, 1, 2, 3)
    with pytest.raises(ValueError, match="a probe has"):
        packet.udp_payload(size, 3)


@given(idents, idents, tokens, st.integers(0, 1473))
def test_a_reply_made_by_scapy_is_read(ident, sequence, token, padding):
    body = token.to_bytes(8, "big") + bytes(padding)
    reply = bytes(IP(src=PEER, dst=US) / SICMP(type=0, id=ident, seq=sequence) / body)
    size = len(body) + 28
    expected = IcmpAnswer(IcmpKind.REPLY, packed(PEER), packed(PEER), ICMP, ident, sequence, token, size)
    assert packet.parse_v4(reply) == expected
    with_options = bytes(IP(src=PEER, dst=US, options=[scapy_inet.IPOption_NOP()] * 4) / IP(reply)[SICMP])
    assert packet.parse_v4(with_options) == expected._replace(size=size + 4)
    reply6 = bytes(scapy_inet6.ICMPv6EchoReply(id=ident, seq=sequence, data=body))
    assert packet.parse_v6(reply6, packed(PEER6)) == IcmpAnswer(
        IcmpKind.REPLY, packed(PEER6), packed(PEER6), ICMPV6, ident, sequence, token, size + 20
    )


def error_v4(kind: int, code: int, quote: bytes, **fields: object) -> bytes:
    return bytes(IP(src=ROUTER, dst=US) / SICMP(type=kind, code=code, **fields) / quote)


ERRORS_V4 = [
    (3, 4, {"nexthopmtu": 1400}, IcmpKind.TOO_BIG, 1400),
    (3, 4, {"nexthopmtu": 0}, IcmpKind.TOO_BIG, 0),
    (3, 4, {"nexthopmtu": 65535}, IcmpKind.TOO_BIG, 65535),
    (3, 3, {}, IcmpKind.UNREACHABLE, 0),
    (3, 13, {}, IcmpKind.UNREACHABLE, 0),
    (11, 0, {}, IcmpKind.TIME_EXCEEDED, 0),
]


@pytest.mark.parametrize(("kind", "code", "fields", "meaning", "mtu"), ERRORS_V4)
def test_an_ipv4_error_tells_about_the_probe_that_it_quotes(kind, code, fields, meaning, mtu):
    echo = bytes(packet.echo_v4(packed(PEER), 1420, 7, 8, TOKEN, source=packed(US)))
    made = IcmpAnswer(meaning, packed(ROUTER), packed(PEER), ICMP, 7, 8, TOKEN, 1420, code, mtu)
    expected = made._replace(checksum=packet.checksum_v4(7, 8, TOKEN))
    assert packet.parse_v4(error_v4(kind, code, echo, **fields)) == expected
    assert packet.parse_v4(error_v4(kind, code, echo[:36], **fields)) == expected
    assert packet.parse_v4(error_v4(kind, code, echo[:28], **fields)) == expected._replace(token=None)
    assert packet.parse_v4(error_v4(kind, code, echo[:27], **fields)) is None
    datagram = bytes(packet.udp_v4(packed(PEER), 1420, 7, 8, TOKEN))
    assert packet.parse_v4(error_v4(kind, code, datagram[:548], **fields)) == made._replace(protocol=UDP)


ERRORS_V6 = [
    (scapy_inet6.ICMPv6PacketTooBig(mtu=1280), IcmpKind.TOO_BIG, 0, 1280),
    (scapy_inet6.ICMPv6PacketTooBig(mtu=2**32 - 1), IcmpKind.TOO_BIG, 0, 2**32 - 1),
    (scapy_inet6.ICMPv6DestUnreach(code=4), IcmpKind.UNREACHABLE, 4, 0),
    (scapy_inet6.ICMPv6TimeExceeded(code=0), IcmpKind.TIME_EXCEEDED, 0, 0),
]


@pytest.mark.parametrize(("error", "meaning", "code", "mtu"), ERRORS_V6)
def test_an_ipv6_error_tells_about_the_probe_that_it_quotes(error, meaning, code, mtu):
    quote = bytes(
        IPv6(src=US6, dst=PEER6)
        / scapy_inet6.ICMPv6EchoRequest(id=7, seq=8, data=TOKEN.to_bytes(8, "big") + bytes(1364))
    )
    made = IcmpAnswer(meaning, packed(ROUTER6), packed(PEER6), ICMPV6, 7, 8, TOKEN, 1420, code, mtu)
    expected = made._replace(checksum=int.from_bytes(quote[42:44], "big"))
    head = bytes(error)
    assert packet.parse_v6(head + quote, packed(ROUTER6)) == expected
    assert packet.parse_v6(head + quote[:48], packed(ROUTER6)) == expected._replace(token=None)
    assert packet.parse_v6(head + quote[:47], packed(ROUTER6)) is None
    datagram = bytes(IPv6(src=US6, dst=PEER6) / SUDP(sport=7, dport=8) / bytes(packet.udp_payload(1420, TOKEN)))
    checksum = int.from_bytes(datagram[46:48], "big")
    assert packet.parse_v6(head + datagram, packed(ROUTER6)) == made._replace(protocol=UDP, checksum=checksum)


ECHO = bytes(packet.echo_v4(packed(PEER), 100, 7, 8, TOKEN, source=packed(US)))
ODD = {
    "a request": bytes(IP(src=PEER, dst=US) / SICMP(type=8, id=7, seq=8) / bytes(8)),
    "a reply with a code": bytes(IP(src=PEER, dst=US) / SICMP(type=0, code=1, id=7, seq=8) / bytes(8)),
    "a reply too short for a token": bytes(IP(src=PEER, dst=US) / SICMP(type=0, id=7, seq=8) / bytes(7)),
    "a wrong checksum": bytes(IP(src=PEER, dst=US) / SICMP(type=0, id=7, seq=8, chksum=1) / bytes(8)),
    "all zeros": bytes(IP(src=PEER, dst=US) / SICMP(type=0, id=0, seq=0, chksum=0) / bytes(8)),
    "a fragment": bytes(IP(src=PEER, dst=US, flags="MF") / SICMP(type=0, id=7, seq=8) / bytes(8)),
    "a length beyond the data": bytes(IP(src=PEER, dst=US, len=64) / SICMP(type=0, id=7, seq=8) / bytes(8)),
    "a length inside the header": bytes(IP(src=PEER, dst=US, len=19) / SICMP(type=0, id=7, seq=8) / bytes(8)),
    "another protocol": bytes(IP(src=PEER, dst=US) / SUDP(sport=7, dport=8) / bytes(8)),
    "a reassembly that failed": error_v4(11, 1, ECHO),
    "a redirect": error_v4(5, 1, ECHO),
    "a quoted reply": error_v4(3, 1, bytes(IP(src=US, dst=PEER) / SICMP(type=0, id=7, seq=8) / bytes(8))),
    "a quoted fragment": error_v4(3, 1, bytes(IP(src=US, dst=PEER, frag=9) / SICMP(type=8, id=7, seq=8) / bytes(8))),
    "a quoted other protocol": error_v4(3, 1, bytes(IP(src=US, dst=PEER, proto=6) / bytes(40))),
    "a quoted IPv6 packet": error_v4(3, 1, bytes(IPv6(src=US6, dst=PEER6) / bytes(40))),
    "a quoted length that holds no token": error_v4(3, 1, bytes(IP(src=US, dst=PEER, len=35, proto=1) / ECHO[20:])),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_nothing(what):
    assert packet.parse_v4(ODD[what]) is None


ECHO6 = bytes(IPv6(src=US6, dst=PEER6) / scapy_inet6.ICMPv6EchoRequest(id=7, seq=8, data=TOKEN.to_bytes(8, "big")))
UNREACHABLE6 = bytes(scapy_inet6.ICMPv6DestUnreach(code=1))
ODD6 = {
    "a request": ECHO6[40:],
    "a reply too short for a token": bytes(scapy_inet6.ICMPv6EchoReply(id=7, seq=8, data=bytes(7))),
    "a reply with a code": bytes(scapy_inet6.ICMPv6EchoReply(code=1, id=7, seq=8, data=bytes(8))),
    "a reassembly that failed": bytes(scapy_inet6.ICMPv6TimeExceeded(code=1)) + ECHO6,
    "a neighbour solicitation": bytes(scapy_inet6.ICMPv6ND_NS(tgt=PEER6)) + ECHO6,
    "a quoted IPv4 packet": UNREACHABLE6 + b"\x45" + ECHO6[1:],
    "a quoted reply": UNREACHABLE6 + ECHO6[:40] + b"\x81" + ECHO6[41:],
    "a quoted other protocol": UNREACHABLE6 + ECHO6[:6] + b"\x06" + ECHO6[7:],
    "a quoted length that holds no token": UNREACHABLE6 + ECHO6[:4] + b"\0\x0f" + ECHO6[6:],
}


@pytest.mark.parametrize("what", ODD6)
def test_what_is_odd_over_ipv6_is_nothing_either(what):
    assert packet.parse_v6(UNREACHABLE6 + ECHO6, packed(ROUTER6)) is not None
    assert packet.parse_v6(ODD6[what], packed(ROUTER6)) is None


@given(st.binary(max_size=200), st.binary(max_size=20))
def test_noise_is_nothing_and_never_an_exception(noise, sender):
    packet.parse_v6(noise, sender)
    if packet.parse_v4(noise) is not None:  # a right checksum by chance: then scapy must find the same packet
        assert IP(noise).haslayer(SICMP)


@given(st.data())
def test_a_damaged_answer_is_nothing_or_what_scapy_finds_in_it(data):
    """Bytes are changed and the packet is cut; whoever changes them may also mend the checksum."""
    kind, code, fields, *_ = data.draw(st.sampled_from(ERRORS_V4))
    message = bytearray(error_v4(kind, code, ECHO[: data.draw(st.integers(20, 100))], **fields))
    for _ in range(data.draw(st.integers(0, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(message[: data.draw(st.integers(0, len(message)))])
    if data.draw(st.booleans()) and len(damaged) > 28:
        start = (damaged[0] & 15) * 4
        damaged = damaged[: start + 2] + bytes(2) + damaged[start + 4 :]
        checksum = scapy_inet.checksum(damaged[start:])
        damaged = damaged[: start + 2] + checksum.to_bytes(2, "big") + damaged[start + 4 :]
    answer = packet.parse_v4(damaged)
    if answer is None:
        return
    seen = IP(damaged)
    assert answer.sender == packed(seen.src)
    if answer.kind is not IcmpKind.REPLY:
        quote = IP(bytes(seen[SICMP].payload))
        assert (answer.target, answer.size) == (packed(quote.dst), quote.len)
        if answer.protocol == ICMP:
            assert (answer.ident, answer.sequence, quote[SICMP].type) == (quote[SICMP].id, quote[SICMP].seq, 8)
    assert answer.mtu == (seen[SICMP].nexthopmtu if answer.kind is IcmpKind.TOO_BIG else 0)
