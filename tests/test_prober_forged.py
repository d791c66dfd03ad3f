"""Forged ICMP errors: a peer that lies about the path, from inside its tunnel or not, makes nobody's MTU wrong.

In the labs the forger has more than it could have: it gets every probe that leaves for the endpoint, at once.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually
from tests.lab.paths import Path
from tests.lab.probing import Aim, Probing
from tests.probers import peer
from tests.test_prober_engine import open_in
from wg_exporter.cli.netlab import run
from wg_exporter.config import ProbeSettings
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.mtu.probes import Layer, ProbeKind, Refused, Send, TooBig
from wg_exporter.prober.path import Path as ProbedPath
from wg_exporter.prober.path import tunnel
from wg_exporter.prober.transport import Transport
from wg_exporter.prober.wire import packet
from wg_exporter.prober.wire.in_flight import MOST, InFlight, Outgoing
from wg_exporter.prober.wire.packet import ICMP, ICMPV6, UDP, IcmpAnswer, IcmpKind
from wg_exporter.prober.wire.repeats import KEPT, Arrived, Repeats

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab
    from wg_exporter.cli.netlab import Namespace

PEER, OTHER, ROUTER, PEER6 = (
    ip_address(address).packed for address in ("192.0.2.2", "192.0.2.3", "192.0.2.9", "2001:db8::2")
)
TAG = 0x1234


def in_flight(seed: int = 1) -> InFlight[str]:
    return InFlight(3.0, random.Random(seed).randbytes, TAG)


def sent(book: InFlight[str], number: int = 1, *, owner: str = "a", size: int = 1480, udp: bool = False) -> Outgoing:
    kind = ProbeKind.INNER_UDP if udp else ProbeKind.OUTER_ECHO
    outgoing = book.start(owner, Send(number, kind, size), PEER, 0x0F0F, 100.0)
    assert outgoing is not None
    return outgoing


def too_big(outgoing: Outgoing, mtu: int = 1400, *, token: bool = False) -> IcmpAnswer:
    """As a router says it that quotes 8 bytes, or more."""
    made = packet.checksum_v4(outgoing.ident, outgoing.sequence, outgoing.token, TAG)
    return IcmpAnswer(
        IcmpKind.TOO_BIG, ROUTER, PEER, ICMP, outgoing.ident, outgoing.sequence, outgoing.token if token else None,
        outgoing.send.size, 4, mtu, checksum=made,
    )  # fmt: skip


def test_an_error_with_the_token_belongs_to_its_probe_and_with_another_one_to_none():
    book = in_flight()
    outgoing = sent(book)
    answer = too_big(outgoing, token=True)
    assert book.of(answer) is outgoing
    assert book.of(answer._replace(token=outgoing.token ^ 1)) is None
    assert book.of(answer._replace(target=OTHER)) is None


@pytest.mark.parametrize("field", ["ident", "sequence", "checksum", "size"])
def test_a_quote_too_short_for_the_token_has_to_match_in_all_that_it_has(field):
    book = in_flight()
    outgoing = sent(book)
    answer = too_big(outgoing)
    assert book.of(answer) is outgoing
    assert book.of(answer._replace(**{field: getattr(answer, field) ^ 1})) is None


def test_over_ipv6_and_of_datagrams_nobody_knows_the_checksum():
    book = in_flight()
    outgoing = book.start("a", Send(1, ProbeKind.OUTER_ECHO, 1480), PEER6, 7, 100.0)
    answer = too_big(outgoing)._replace(target=PEER6, protocol=ICMPV6, checksum=1)
    assert book.of(answer) is outgoing
    datagram = sent(book, udp=True)
    refusal = IcmpAnswer(IcmpKind.UNREACHABLE, PEER, PEER, UDP, 50_000, datagram.port, None, 1480, 3)
    assert book.of(refusal) is datagram
    assert book.of(refusal._replace(sequence=datagram.port + 1)) is None


def test_numbers_are_drawn_and_not_counted():
    book = in_flight()
    probes = [sent(book, number) for number in range(1000)]
    steps = {(later.sequence - sooner.sequence) % 65536 for sooner, later in pairwise(probes)}
    assert len(steps) > 980
    ports = [sent(book, number, udp=True).port for number in range(1000)]
    assert len(set(ports)) == 1000  # none twice while it is in flight
    assert sum(later == sooner + 1 for sooner, later in pairwise(ports)) < 10


def test_a_packet_is_forgotten_after_the_timeout_and_never_more_than_the_most_are_kept():
    book = in_flight()
    old = sent(book)
    answer = too_big(old, token=True)
    started = [book.start("a", Send(n, ProbeKind.OUTER_ECHO, 100), OTHER, n, 101.0) for n in range(MOST)]
    assert [one is None for one in started] == [False] * (MOST - 1) + [True]
    assert book.of(answer) is old
    assert book.start("a", Send(1, ProbeKind.OUTER_ECHO, 100), OTHER, 1, 103.0) is not None
    assert book.of(answer) is None
    assert len(book) == MOST


def arrived(outgoing: Outgoing, answer: IcmpAnswer, when: float = 100.0) -> Arrived:
    return Arrived(outgoing, answer, when)


def test_an_error_with_a_token_is_believed_at_once_and_one_without_it_when_another_says_the_same():
    book, repeats = in_flight(), Repeats()
    one, two, three = (sent(book, number) for number in (1, 2, 3))
    full = arrived(one, too_big(one, token=True))
    assert repeats.take(full) == (full,)
    first, second = arrived(one, too_big(one)), arrived(two, too_big(two))
    assert repeats.take(first) == ()
    assert repeats.take(first) == ()  # the same packet, quoted twice
    assert repeats.take(second) == (first, second)
    third = arrived(three, too_big(three))
    assert repeats.take(third) == (third,)


def test_another_size_another_peer_or_a_long_time_between_confirm_nothing():
    book, repeats = in_flight(), Repeats()
    one, two, other = sent(book, 1), sent(book, 2), sent(book, 3, owner="b")
    assert repeats.take(arrived(one, too_big(one, 1400))) == ()
    assert repeats.take(arrived(two, too_big(two, 600))) == ()
    assert repeats.take(arrived(one, too_big(one, 1400))) == ()
    assert repeats.take(arrived(other, too_big(other, 1400))) == ()
    assert repeats.take(arrived(two, too_big(two, 1400), 100.0 + KEPT)) == ()
    assert len(repeats) == 1


def test_a_refusal_confirms_no_refusal_of_another_size():
    book, repeats = in_flight(), Repeats()
    big, small, again = (sent(book, number, size=size, udp=True) for number, size in ((1, 1420), (2, 548), (3, 1420)))
    refusals = [
        arrived(one, IcmpAnswer(IcmpKind.UNREACHABLE, PEER, PEER, UDP, 5, one.port, None, one.send.size, 3))
        for one in (big, small, again)
    ]
    assert repeats.take(refusals[0]) == ()
    assert repeats.take(refusals[1]) == ()
    assert repeats.take(refusals[2]) == (refusals[0], refusals[2])


def test_whoever_claims_a_thousand_sizes_takes_no_memory():
    book, repeats = in_flight(), Repeats()
    outgoing = sent(book)
    for mtu in range(600, 1400):
        assert repeats.take(arrived(outgoing, too_big(outgoing, mtu))) == ()
    assert len(repeats) == 1


class Forger:
    """Says of every large probe to the endpoint that it was too big, from a namespace, `quoted` bytes of it.

    With `guess` it has only seen the probe, and claims to have seen those numbered before and after it too.
    """

    CLAIM = 560

    def __init__(self, namespace: Namespace, to: str, quoted: int = 128, *, guess: bool = False) -> None:
        self._to = to
        self._quoted = quoted
        self._guess = guess
        self.count = 0
        self._socket = open_in(namespace.name, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def see(self, direction: str, _netns: str, layer: Layer, probe: bytes, _when: float) -> None:
        """What the prober shows whoever keeps captures."""
        if direction == "sent" and layer is Layer.OUTER and len(probe) > self.CLAIM:
            for ahead in range(-40, 40) if self._guess else (0,):
                self._claim(probe, ahead)

    def _claim(self, probe: bytes, ahead: int) -> None:
        quote = bytearray(probe[: self._quoted])
        quote[12:16] = ip_address("192.0.2.1").packed
        number = (int.from_bytes(quote[26:28], "big") + ahead) % 65536
        quote[22:24] = ((int.from_bytes(quote[22:24], "big") - ahead) % 0xFFFF).to_bytes(2, "big")
        quote[26:28] = number.to_bytes(2, "big")
        error = struct.pack("!BBHHH", 3, 4, 0, 0, self.CLAIM) + quote
        error = error[:2] + (-int.from_bytes(error, "big") % 0xFFFF).to_bytes(2, "big") + error[4:]
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(error), 0, 0, 64, ICMP, 0)
        header += bytes(4) + ip_address(self._to).packed
        self._socket.sendto(header + error, (self._to, 0))
        self.count += 1


@pytest.mark.parametrize("quoted", [28, 128])
def test_a_peer_that_answers_its_own_probes_from_inside_its_tunnel_changes_nothing(lab: Lab, quoted) -> None:
    """Its endpoint is mute, so that only errors tell of the path."""
    path = Path(lab, inner=("ipv4",)).filter_icmp("outer")
    forger = Forger(path.b, path.near_target(), quoted)
    with Probing(Aim(path), tap=forger.see) as probing:
        report = probing.settled()
        assert (report.verdict, report.path_outer, report.recommended) == (Verdict.OK, None, 1420)
        probing.search()
        report = probing.settled()
    assert forger.count > 10
    assert (report.verdict, report.path_outer, report.recommended) == (Verdict.OK, None, 1420)


@pytest.mark.parametrize("quoted", [28, 128])
def test_the_same_errors_from_a_router_on_the_way_are_believed(lab: Lab, quoted) -> None:
    """Without the token they have to repeat, which they do."""
    path = Path(lab, inner=("ipv4",)).filter_icmp("outer")
    forger = Forger(path.r, "192.0.2.1", quoted)
    with Probing(Aim(path), tap=forger.see) as probing:
        probing.settled()
        probing.search()
        report = probing.settled()
    assert (report.verdict, report.path_outer) == (Verdict.FRAGMENTED_PATH, Forger.CLAIM)


@pytest.mark.parametrize("mute", [False, True])
def test_a_path_mtu_that_a_peer_has_taught_this_host_is_never_recommended(lab: Lab, mute) -> None:
    """The kernel believes any error about an echo reply, out of a tunnel too (net/ipv4/icmp.c), and then fragments."""
    path = Path(lab, inner=("ipv4",))
    twin = path.twin()
    if mute:
        twin.filter_icmp("outer")
    assert path.passes(path.target(), 100)
    assert twin.passes(twin.target(), 100, device=twin.near.name)
    forger = Forger(path.b, path.near_target())
    reply = packet.echo_v4(ip_address(twin.endpoint).packed, 1480, 7, 7, 7)
    reply[20] = 0
    with Probing(Aim(twin)) as probing:
        assert probing.settled().verdict is Verdict.OK
        forger.see("sent", "", Layer.OUTER, bytes(reply), 0.0)
        eventually(lambda: f"mtu {Forger.CLAIM}" in path.route(twin.endpoint), within=30)
        probing.search()
        report = probing.settled()
        assert (report.verdict, report.path_outer) == (Verdict.FRAGMENTED_LOCAL, None if mute else 1500)
        assert report.recommended == (None if mute else 1420)
        run(["ip", "-n", path.a.name, "route", "flush", "cache"])  # as advised
        probing.search()
        assert probing.settled().verdict is Verdict.OK


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_peer_that_sees_its_own_probes_cannot_tell_how_those_to_another_peer_look(lab: Lab, where) -> None:
    """It claims that all numbers around its own were too big on the way to its neighbour's endpoint."""
    path = Path(lab, inner=("ipv4",)).filter_icmp("outer")
    twin = path.twin()
    twin.filter_icmp("outer")
    inside = where == "inside"
    forger = Forger(path.b if inside else path.r, path.near_target() if inside else "192.0.2.1", 28, guess=True)
    other = ip_address(twin.endpoint).packed

    def see(direction: str, netns: str, layer: Layer, probe: bytes, when: float) -> None:
        if probe[16:20] != other:  # it sees only its own, and says of each that it went to the other
            forger.see(direction, netns, layer, probe[:16] + other + probe[20:], when)

    with Probing(Aim(path), Aim(twin), tap=see) as probing:
        probing.settled()
        probing.search()
        report = probing.settled(1)
    assert forger.count > 1000
    assert (report.verdict, report.path_outer) == (Verdict.OK, None)


def test_in_a_tunnel_within_a_tunnel_routers_are_believed_although_they_speak_out_of_one(lab: Lab) -> None:
    """The second tunnel's packets travel inside the first one, so that is where errors about them come from."""
    path = Path(lab, everything=True)
    twin = path.twin().set_mtu(1340)
    run(["ip", "-n", twin.b.name, "route", "add", path.near_target(), "via", "198.18.0.1"])  # not into its own device
    run(["ip", "-n", path.a.name, "route", "add", twin.endpoint, "dev", path.near.name])
    run(["ip", "-n", path.s.name, "route", "add", path.near_target(), "via", path.endpoint])
    path.b.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])
    for namespace, device in ((path.s, "to-d"), (twin.b, "to-s")):
        namespace.ip("link", "set", device, "mtu", "1300")
    eventually(lambda: path.passes(twin.endpoint, 100), within=30)  # the first tunnel has shaken
    with Probing(Aim(twin, twin.target("ipv6"))) as probing:
        report = probing.settled()
    assert (report.verdict, report.path_outer, report.shrinks_at) == (Verdict.FRAGMENTED_PATH, 1300, "203.0.113.1")


@contextlib.contextmanager
def listening() -> Iterator[tuple[Transport, ProbedPath, list]]:
    """A transport, one peer's path whose device has number 7, and what was told of it."""
    row = peer(ifindex=7)
    told = []
    transport = Transport(
        ProbeSettings(), {}, echoed=told.append, arrived=lambda *one: told.append(one), poll=lambda now: now + 1
    )
    with contextlib.closing(transport):
        yield transport, ProbedPath("a", row, PathMtu(tunnel(row), 0.0)), told


def test_a_datagram_that_anybody_behind_the_tunnel_refuses_got_through_it():
    """A router's "host unreachable" or "prohibited" counts as much as the target's "port unreachable"."""
    with listening() as (transport, path, told):
        outgoing = transport._in_flight.start(path, Send(1, ProbeKind.INNER_UDP, 1420), path.address, 0, 100.0)
        refusal = IcmpAnswer(
            IcmpKind.UNREACHABLE, ROUTER, path.address, UDP, 9, outgoing.port, outgoing.token, 1420, 13
        )
        for here in (0, 1):  # not known, or loopback: a firewall of this host
            transport._answer(refusal._replace(ifindex=here), 100.5)
        assert told == []
        for kind in (IcmpKind.UNREACHABLE, IcmpKind.TIME_EXCEEDED):
            transport._answer(refusal._replace(kind=kind, ifindex=7), 100.5)
        transport._answer(refusal._replace(sender=path.address), 100.5)
    assert told == [(path, Refused(1))] * 3


def test_an_error_without_the_token_about_a_probe_inside_has_to_come_out_of_its_own_device():
    with listening() as (transport, path, told):
        book = transport._in_flight
        probes = [book.start(path, Send(n, ProbeKind.INNER_ECHO, 1420), path.address, 9, 100.0) for n in range(3)]
        for ifindex, expected in ((1, 0), (7, 2)):
            for outgoing in probes[:2]:
                made = packet.checksum_v4(9, outgoing.sequence, outgoing.token, transport.engine.sockets.tag)
                error = too_big(outgoing)._replace(target=path.address, checksum=made, ifindex=ifindex)
                transport._answer(error, 100.5)
            assert len(told) == expected
        error = too_big(probes[2], token=True)._replace(target=path.address, ifindex=1)
        transport._answer(error, 100.5)
    assert [answer for _, answer in told] == [TooBig(n, "192.0.2.9", 1400, Layer.INNER) for n in range(3)]
