"""Which cause is named for which facts: two ways to each, and controls for which none may be named."""

from __future__ import annotations

import string
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import key
from wg_exporter.causes.cause import Cause, Confidence
from wg_exporter.causes.decide import NO_PROOF, RULES, decide
from wg_exporter.causes.drifted import of_peer
from wg_exporter.causes.facts import Drift, Echo, Facts, Filter, Opened
from wg_exporter.causes.rule import fill
from wg_exporter.causes.seen import ECHO_BYTES
from wg_exporter.drift.kinds import Difference, Kind
from wg_exporter.drift.kinds import Drift as OfDevice
from wg_exporter.health.states import Reason, State
from wg_exporter.inspected import Inspected, Neighbour, Path, PathKind, PortOwner
from wg_exporter.model import Backend
from wg_exporter.probed import SendError, Verdict
from wg_exporter.prober.wire.engine import ECHO_SIZE_V4
from wg_exporter.sighted import Caller, Callers, Refusal, Sender, Sighting
from wg_exporter.wireguard import KEEPALIVE

PEER, OTHER, THIRD = key(1), key(2), key(3)
ENDPOINT = "192.0.2.7:51820"
SELF = "198.51.100.2"
DOWN, DEGRADED, UP, IDLE = State.DOWN, State.DEGRADED, State.UP, State.IDLE

OUT = Path("192.0.2.7", PathKind.SENT, "eth0", "198.51.100.1", SELF)
IN = Path("10.0.0.2", PathKind.SENT, "wg0", "", "10.0.0.1", tunnel=True)


def host(**changes):
    row = Inspected(
        ("", "wg0", PEER),
        100.0,
        "",
        ENDPOINT,
        OUT,
        IN,
        ("10.0.0.1/24",),
        PEER,
        PortOwner.DEVICE,
        outer_rp_filter=0,
        inner_rp_filter=0,
        outer_rp_drops=5,
        inner_rp_drops=5,
        udp_received=1000,
        conf_endpoint="vpn.example.com:51820",
    )
    return row._replace(**changes)


def seen(**changes):
    return Sighting(50.0, 30.0, open=False)._replace(**changes)


def facts(**changes):
    """A peer that is down, as far as everybody knows whatever its cause is; `host` is looked at twice."""
    row = Facts(
        ("", "wg0", PEER),
        "berlin",
        backend=Backend.KERNEL,
        opaque=False,
        listen_port=51821,
        fwmark=0,
        endpoint=ENDPOINT,
        keepalive=25,
        allowed_ips=("10.0.0.2/32",),
        target="10.0.0.2",
        expected=True,
        conf_endpoint="vpn.example.com:51820",
        state=DOWN,
        reason=Reason.HANDSHAKE_UNANSWERED,
        heard_seconds=300.0,
        shaken_seconds=300.0,
        initiations=6,
        inbound_initiations=0,
        seconds=30.0,
        sent_bytes=6 * 148,
        received_bytes=0,
        handshakes=0,
        entered_packets=30,
        others=3,
        others_received=5000,
        host=host(),
        before=host(at=70.0, udp_received=900),
        seen_before=seen(),
        dns_name="vpn.example.com",
        resolved=("192.0.2.7",),
        echo=Echo("10.0.0.2", 10, 0),
    )
    return row._replace(**changes)


def sent(**changes):
    """Initiations leave, and what `changes` says comes of it."""
    return seen(initiations_sent=6, sent_at=(50.0, 55.2, 60.4, 65.6, 70.8, 76.0), **changes)


def diagnosed(**changes):
    """As `diagnose` knows a peer: a handshake was provoked, and no exporter says how it is."""
    known = {"state": None, "reason": None, "initiations": None, "inbound_initiations": None, "provoked": True}
    known |= {"session": False, "answered": False, "filters": (), "echo": Echo("10.0.0.2", 4, 0)}
    return facts(**(known | changes))


def works(**changes):
    """Its session is fine, and what `changes` says is not."""
    known = {"reason": Reason.TARGET_SILENT, "state": DEGRADED, "initiations": 0, "shaken_seconds": 20.0}
    known |= {"heard_seconds": 5.0, "sighting": seen(), "received_bytes": 96, "sent_bytes": 400}
    return facts(**(known | changes))


def session(**changes):
    return diagnosed(**({"session": True, "received_bytes": 32, "sighting": seen(initiations_sent=1)} | changes))


def refusal(by, number, code, *, ipv6=False, times=5, proven=5):
    return sent(refusals=(Refusal(by, ipv6, number, code, times, proven),))


def alone(number, code, *, ipv6=False):
    """Nothing leaves, and it is this host itself that says why: nobody on the link answers."""
    return seen(refusals=(Refusal(host().to_endpoint.source, ipv6, number, code, 5, 0),))


def beside(neighbour, before=None):
    """Two looks at the host; the table of neighbours says so of the gateway, the first time `before`."""
    return {
        "host": host(to_endpoint=OUT._replace(neighbour=neighbour)),
        "before": host(at=70.0, udp_received=900, to_endpoint=OUT._replace(neighbour=before)),
    }


def caller(address="203.0.113.9", *, for_us=True):
    return Callers(("", "wg0"), (Caller(Sender(address, 4000, "eth0", 5), for_us, b"\1" * 148),))


NOWHERE = Path("192.0.2.7", PathKind.NONE)
CALLED = seen(initiations_received=5, received_at=(50.0, 55.0, 60.0, 65.0, 70.0))
TAKEN = CALLED._replace(responses_sent=5, taken_at=(50.0, 55.0, 60.0, 65.0, 70.0))
KNOWN, ASKED, SILENT = Neighbour.KNOWN, Neighbour.ASKED, Neighbour.SILENT
DROP_OUT = Filter("output", "udp dport 51820 drop", "inet filter output", "nft delete rule inet filter output handle 7")
DROP_IN = DROP_OUT._replace(hook="input", where="inet filter input", rule="udp dport 51821 drop")
DROP_INSIDE = DROP_OUT._replace(hook="inner_output", rule='oifname "wg0" drop')

BUILDS = [
    (Cause.INTERFACE_GONE, facts(reason=Reason.INTERFACE_GONE, host=None, before=None)),
    (Cause.INTERFACE_GONE, facts(reason=Reason.INTERFACE_GONE, sighting=seen(), host=None, endpoint=None)),
    (Cause.INTERFACE_DOWN, facts(reason=Reason.INTERFACE_DOWN, host=host(port_owner=PortOwner.NOBODY))),
    (Cause.INTERFACE_DOWN, diagnosed(reason=Reason.INTERFACE_DOWN)),
    (Cause.INTERFACE_DOWN, works(reason=Reason.NOT_ROUTED, interface_up=False, obstacle="no route")),
    (Cause.DAEMON_HANGS, facts(reason=Reason.UNREADABLE, backend=Backend.USERSPACE, host=None, sighting=None)),
    (Cause.DAEMON_HANGS, diagnosed(reason=Reason.UNREADABLE, backend=Backend.USERSPACE)),
    (Cause.PEER_MISSING, facts(reason=Reason.MISSING, host=None, endpoint=None)),
    (Cause.PEER_MISSING, diagnosed(reason=Reason.MISSING, host=None)),
    (Cause.NO_SOCKET, facts(host=host(port_owner=PortOwner.OTHER, port_holder="wg1"), sighting=seen())),
    (Cause.NO_SOCKET, facts(host=host(port_owner=PortOwner.NOBODY), backend=Backend.USERSPACE, sighting=seen())),
    (Cause.NO_SOCKET, facts(backend=Backend.USERSPACE, listen_port=0, sighting=None, host=host(port_owner=None))),
    (Cause.NO_ENDPOINT, facts(endpoint="", initiations=0, sighting=seen(), host=host(to_endpoint=None, endpoint=""))),
    (Cause.NO_ENDPOINT, facts(endpoint="", reason=Reason.NEVER_HEARD, heard_seconds=inf, host=None, initiations=0)),
    (Cause.NO_ROUTE, facts(host=host(to_endpoint=NOWHERE), sighting=seen(), sent_bytes=0)),
    (Cause.NO_ROUTE, diagnosed(host=host(to_endpoint=NOWHERE._replace(kind=PathKind.BLACKHOLE)), sighting=None)),
    (Cause.ROUTE_LOOP, facts(host=host(to_endpoint=IN._replace(to="192.0.2.7")), sighting=seen())),
    (Cause.ROUTE_LOOP, diagnosed(host=host(to_endpoint=IN._replace(to="192.0.2.7", table=51820)), fwmark=51820)),
    (Cause.OUTPUT_FILTERED, facts(sighting=seen())),
    (Cause.OUTPUT_FILTERED, diagnosed(backend=Backend.USERSPACE, sent_bytes=0, sighting=seen(), filters=None)),
    (Cause.OUTPUT_FILTERED, diagnosed(filters=(DROP_OUT._replace(grew=4),), sighting=seen())),
    (Cause.PORT_UNREACHABLE, facts(sighting=refusal("192.0.2.7", 3, 3))),
    (
        Cause.PORT_UNREACHABLE,
        facts(
            sighting=refusal("2001:db8::7", 1, 4, ipv6=True), endpoint="[2001:db8::7]:51820", resolved=("2001:db8::7",)
        ),
    ),
    (Cause.HOST_UNREACHABLE, facts(sighting=refusal("198.51.100.1", 3, 1))),
    (Cause.HOST_UNREACHABLE, facts(sighting=alone(3, 1), backend=Backend.USERSPACE)),
    (Cause.HOST_UNREACHABLE, facts(sighting=alone(3, 1), sent_bytes=1480)),
    (Cause.HOST_UNREACHABLE, diagnosed(sighting=refusal("2001:db8::1", 1, 0, ipv6=True, times=2, proven=0))),
    (Cause.HOST_UNREACHABLE, facts(sighting=alone(3, 1), **beside(SILENT, KNOWN))),
    (Cause.HOST_UNREACHABLE, facts(sighting=seen(), **beside(SILENT, ASKED))),
    (Cause.HOST_UNREACHABLE, diagnosed(sighting=seen(), backend=Backend.USERSPACE, filters=None, **beside(SILENT))),
    (Cause.PROHIBITED, facts(sighting=refusal("198.51.100.1", 3, 13))),
    (Cause.PROHIBITED, facts(sighting=refusal("2001:db8::1", 1, 1, ipv6=True))),
    (Cause.DNS_MOVED, facts(resolved=("203.0.113.80",), sighting=sent())),
    (Cause.DNS_MOVED, facts(resolved=("203.0.113.80", "2001:db8::1"), sighting=refusal("192.0.2.7", 3, 3))),
    (Cause.SILENT, facts(sighting=sent())),
    (Cause.SILENT, diagnosed(sighting=sent(), outer_ping=Echo("192.0.2.7", 3, 3), dns_name=None, resolved=None)),
    (Cause.NAT_FORGOT, facts(sighting=sent(), conf_endpoint="", keepalive=0, dns_name=None, resolved=None)),
    (Cause.NAT_FORGOT, diagnosed(sighting=sent(), conf_endpoint="", keepalive=0, heard_seconds=3600.0)),
    (Cause.PRESHARED_KEY, facts(sighting=sent(responses_received=6, answered=6), host=host(udp_received=907))),
    (Cause.PRESHARED_KEY, diagnosed(sighting=sent(responses_received=2, answered=2, initiations_received=1))),
    (Cause.INPUT_FILTERED, facts(sighting=sent(responses_received=6, answered=6), host=host(udp_received=902))),
    (Cause.INPUT_FILTERED, diagnosed(sighting=CALLED, filters=(DROP_IN._replace(grew=5),))),
    (
        Cause.OUTER_REVERSE_PATH,
        facts(sighting=sent(responses_received=6, answered=6), host=host(outer_rp_filter=1, outer_rp_drops=11)),
    ),
    (
        Cause.OUTER_REVERSE_PATH,
        diagnosed(sighting=sent(responses_received=3, answered=3), host=host(outer_rp_filter=1, outer_rp_drops=8)),
    ),
    (Cause.UNDER_LOAD, facts(sighting=sent(cookies_received=5))),
    (Cause.UNDER_LOAD, diagnosed(sighting=sent(cookies_received=1))),
    (Cause.ROAMED, diagnosed(sighting=sent(), opened=(Opened(PEER, 1000.0, 1000.1, "berlin", "203.0.113.9:4000"),))),
    (
        Cause.ROAMED,
        diagnosed(
            sighting=sent(), filters=(DROP_IN,), opened=(Opened(PEER, 1000.0, 1000.1, "berlin", "203.0.113.9:4000"),)
        ),
    ),
    (Cause.OLD_KEY, facts(sighting=sent(misdirected=5))),
    (Cause.OLD_KEY, diagnosed(sighting=sent(misdirected=1), filters=None)),
    (
        Cause.UNKNOWN_CALLER,
        diagnosed(sent_bytes=0, sighting=CALLED, opened=(Opened(OTHER, 1000.0, 1000.1, "", ENDPOINT),)),
    ),
    (Cause.UNKNOWN_CALLER, facts(sighting=CALLED, initiations=0, sent_bytes=0, reason=Reason.STALE_HANDSHAKE)),
    (
        Cause.CLOCK_BACK,
        diagnosed(sent_bytes=0, sighting=CALLED, opened=(Opened(PEER, 1000.0, 9000.0, "berlin", ENDPOINT),)),
    ),
    (
        Cause.CLOCK_BACK,
        diagnosed(
            sent_bytes=0,
            sighting=CALLED,
            opened=(Opened(PEER, 9000.0, 9000.0, "berlin", ENDPOINT), Opened(PEER, 8980.0, 9005.0, "berlin", ENDPOINT)),
        ),
    ),
    (Cause.RESPONSES_LOST, facts(sighting=TAKEN, inbound_initiations=5, initiations=0, reason=Reason.ONE_WAY)),
    (Cause.RESPONSES_LOST, diagnosed(sighting=TAKEN._replace(initiations_sent=3))),
    (Cause.RESPONSES_LOST, facts(sighting=None, inbound_initiations=5, reason=Reason.ONE_WAY)),
    (
        Cause.DATA_FILTERED,
        works(
            state=DOWN,
            reason=Reason.DATA_UNANSWERED,
            handshakes=2,
            received_bytes=184,
            sighting=seen(initiations_sent=2, responses_received=2, answered=2),
        ),
    ),
    (Cause.DATA_FILTERED, session(filters=(DROP_OUT._replace(data_only=True, grew=3),), received_bytes=92)),
    (
        Cause.DATA_FILTERED,
        works(state=DOWN, reason=Reason.ONE_WAY, handshakes=1, sighting=TAKEN, received_bytes=5000, data_seconds=2.0),
    ),
    (Cause.NOT_ALLOWED_HERE, works(host=host(owner=""))),
    (Cause.NOT_ALLOWED_HERE, works(reason=Reason.NOT_ALLOWED, host=None)),
    (Cause.OWNED_BY_ANOTHER, works(host=host(owner=OTHER), owner_name="paris")),
    (Cause.OWNED_BY_ANOTHER, session(host=host(owner=THIRD))),
    (Cause.OWNED_BY_ANOTHER, works(reason=Reason.NOT_ALLOWED, host=None, owner=OTHER)),
    (Cause.NOT_ALLOWED_HERE, works(reason=Reason.NOT_ALLOWED, host=None, owner="")),
    (Cause.ROUTED_ELSEWHERE, works(host=host(to_target=OUT._replace(to="10.0.0.2")), reason=Reason.NOT_ROUTED)),
    (Cause.ROUTED_ELSEWHERE, session(host=host(to_target=NOWHERE._replace(to="10.0.0.2")))),
    (Cause.INNER_REVERSE_PATH, works(host=host(inner_rp_filter=1, inner_rp_drops=15))),
    (Cause.INNER_REVERSE_PATH, session(host=host(inner_rp_filter=1, inner_rp_drops=7))),
    (Cause.INNER_FILTERED, session(filters=(DROP_INSIDE._replace(grew=4),))),
    (Cause.INNER_FILTERED, works(reason=Reason.PROBES_BLOCKED, echo=Echo("10.0.0.2", 0, 0, SendError.NO_PERMISSION))),
    (Cause.INNER_FILTERED, works(echoes_sent=3, entered_packets=0, sent_bytes=0)),
    (Cause.INNER_FILTERED, works(echoes_sent=20, left_packets=22, received_bytes=22 * 80, others_received=0)),
    (Cause.INNER_FILTERED, diagnosed(entered_packets=0, sent_bytes=0, sighting=seen(), session=None, filters=None)),
    (Cause.NO_ADDRESS, works(host=host(addresses=()))),
    (Cause.NO_ADDRESS, session(host=host(addresses=("fe80::1/64",)))),
    (Cause.NOT_FORWARDED, session(other_inner=(Echo("10.0.0.9", 3, 3),), target="10.0.0.2")),
    (Cause.NOT_FORWARDED, works(other_inner=(Echo("10.0.0.9", 3, 2), Echo("10.0.0.8", 3, 0)))),
    (Cause.NOT_ALLOWED_THERE, session(other_inner=(Echo("10.0.0.9", 3, 0),))),
    (Cause.NOT_ALLOWED_THERE, session(received_bytes=64)),
    (Cause.ECHOES_FILTERED, works(received_bytes=60_000)),
    (
        Cause.ECHOES_FILTERED,
        works(state=DEGRADED, reason=Reason.TARGET_SILENT, answered=True, knocked=True, echo=Echo("10.0.0.2", 9, 0)),
    ),
    (Cause.ECHOES_FILTERED, works(received_bytes=5_000, seconds=20.0, sighting=seen(responses_received=1))),
    (Cause.LOSSY, works(reason=Reason.LOSSY, loss=0.3, echo=Echo("10.0.0.2", 60, 42))),
    (Cause.LOSSY, session(loss=0.5, echo=Echo("10.0.0.2", 10, 5), answered=True)),
    (
        Cause.SLOW,
        works(reason=Reason.SLOW, loss=0.0, round_trip=0.3, usual_round_trip=0.01, echo=Echo("10.0.0.2", 60, 60)),
    ),
    (Cause.SLOW, works(reason=Reason.SLOW, echo=Echo("10.0.0.2", 60, 59))),
    (Cause.MTU, works(reason=Reason.MTU_BLACKHOLE, verdict=Verdict.BLACKHOLE, echo=Echo("10.0.0.2", 60, 60))),
    (Cause.MTU, session(verdict=Verdict.FRAGMENTED_LOCAL, answered=True, recommended_mtu=1380)),
    (Cause.FINE, facts(state=UP, reason=None, sighting=sent())),
    (Cause.FINE, session(answered=True, echo=Echo("10.0.0.2", 3, 3))),
    (Cause.IDLE, facts(state=IDLE, reason=None, initiations=0)),
    (Cause.IDLE, facts(state=IDLE, reason=None, initiations=None, host=None, echo=None, endpoint="")),
    (Cause.UNKNOWN, Facts(("", "wg0", PEER))),
    (Cause.UNKNOWN, Facts(("", "wg0", PEER), state=DOWN, reason=Reason.STALE_HANDSHAKE)),
]


@pytest.mark.parametrize(("cause", "known"), BUILDS, ids=[f"{cause}-{n}" for n, (cause, _) in enumerate(BUILDS)])
def test_each_cause_is_named_for_facts_of_two_kinds(cause, known):
    found = decide(known)
    assert found.cause is cause, found
    assert (cause is Cause.UNKNOWN) or found.evidence
    assert found.cause not in found.also
    assert found.cause not in [excluded for excluded, _ in found.excluded]


def test_every_cause_has_a_rule_and_is_built_twice():
    ruled = [rule.cause for rule in (*RULES, NO_PROOF)]
    assert sorted(ruled) == sorted(Cause)
    assert {cause for cause in Cause if sum(one is cause for one, _ in BUILDS) < 2} == set()


@pytest.mark.parametrize(
    "known",
    [
        facts(state=UP, reason=None, received_bytes=10**9, sighting=seen(initiations_sent=1, answered=1)),  # busy
        facts(state=UP, reason=None, host=host(to_endpoint=NOWHERE, owner=""), sighting=refusal("192.0.2.7", 3, 3)),
        facts(state=IDLE, reason=None, initiations=0, sighting=None, received_bytes=0, endpoint=""),
        facts(state=UP, reason=None, echo=Echo("10.0.0.2", 50, 0), received_bytes=64),  # its host drops echoes
        session(answered=True, echo=Echo("10.0.0.2", 4, 0)),  # the same, to `diagnose`: another probe is answered
        session(answered=True, outer_ping=Echo("192.0.2.7", 3, 0)),
    ],
)
def test_a_peer_that_works_is_fine_or_idle_whatever_else_is_known(known):
    assert not decide(known).cause.fault


# --- the next hop does not answer -------------------------------------------------------------------------------------

SIX = {"endpoint": "[2001:db8::7]:51820", "dns_name": None, "resolved": None}


def on_link(gateway, *, ipv6=False):
    """Nobody answers for the gateway or, without one, for the endpoint itself; this host says so too."""
    path = Path("2001:db8::7", PathKind.SENT, "eth0", gateway, "2001:db8::2") if ipv6 else OUT._replace(gateway=gateway)
    error = Refusal(path.source, ipv6, *((1, 3) if ipv6 else (3, 1)), 5, 0, own=True)
    changes = SIX if ipv6 else {}
    return facts(sighting=seen(refusals=(error,)), host=host(to_endpoint=path._replace(neighbour=SILENT)), **changes)


@pytest.mark.parametrize(
    ("known", "whom", "asked", "hop"),
    [
        (on_link("198.51.100.1"), "the gateway 198.51.100.1 to 192.0.2.7", "ARP", "198.51.100.1"),
        (on_link(""), "192.0.2.7 itself, which is on that link", "ARP", "192.0.2.7"),
        (on_link("2001:db8:1::1", ipv6=True), "the gateway 2001:db8:1::1 to 2001:db8::7", "NDP", "2001:db8:1::1"),
        (on_link("fe80::1", ipv6=True), "the gateway fe80::1 to 2001:db8::7", "NDP", "fe80::1"),
        (on_link("", ipv6=True), "2001:db8::7 itself, which is on that link", "NDP", "2001:db8::7"),
    ],
)
def test_where_nobody_on_the_link_answers_it_is_said_for_whom_and_how_to_see_it(known, whom, asked, hop):
    found = decide(known)
    assert (found.cause, found.confidence) == (Cause.HOST_UNREACHABLE, Confidence.CERTAIN)
    assert found.evidence[-1] == f"nobody on eth0 answers for {whom} ({asked}; `ip neigh`: FAILED)"
    assert "this host itself" in found.evidence[0]
    assert f"`ip neigh show to {hop} dev eth0`" in found.fix[0]
    assert ("gateway" in found.fix[0]) is ("gateway" in whom)
    assert "`ip link show dev eth0`" in found.fix[1]
    assert not any("mtr" in line for line in found.fix), "nothing gets as far as the first router"


def test_what_the_table_of_neighbours_says_is_enough_and_what_this_host_says_alone_is_likely_too():
    for known in (
        facts(sighting=seen(), **beside(SILENT)),
        facts(sighting=None, **beside(SILENT)),
        facts(sighting=alone(3, 1)),
    ):
        found = decide(known)
        assert (found.cause, found.confidence) == (Cause.HOST_UNREACHABLE, Confidence.LIKELY)
        assert Cause.SILENT in dict(found.excluded)
    assert decide(facts(sighting=alone(3, 1), **beside(ASKED))).confidence is Confidence.CERTAIN


def test_while_the_next_hop_is_asked_for_no_filter_is_blamed():
    assert decide(facts(sighting=seen())).cause is Cause.OUTPUT_FILTERED
    assert decide(facts(sighting=seen(), **beside(KNOWN))).cause is Cause.OUTPUT_FILTERED
    assert decide(facts(sighting=seen(), **beside(ASKED))).cause is not Cause.OUTPUT_FILTERED


def test_this_host_that_says_it_of_a_neighbour_that_answers_has_a_filter_that_rejects():
    known = facts(sighting=alone(3, 1), **beside(KNOWN, KNOWN))
    found = decide(known)
    assert (found.cause, found.confidence) == (Cause.OUTPUT_FILTERED, Confidence.LIKELY)
    assert Cause.HOST_UNREACHABLE not in found.also


def test_this_host_is_known_by_any_of_its_addresses():
    """WireGuard sends from the one that the peer called, which need not be that of the route."""
    error = Refusal("203.0.113.77", False, 3, 1, 5, 0, own=True)
    found = decide(facts(sighting=seen(refusals=(error,))))
    assert (found.cause, found.evidence[0].split(" answered")[0]) == (
        Cause.HOST_UNREACHABLE,
        "203.0.113.77 (this host itself)",
    )


def test_where_a_router_says_it_the_way_beyond_is_to_be_looked_at():
    found = decide(facts(sighting=refusal("198.51.100.1", 3, 1), **beside(KNOWN)))
    assert found.fix == ("Look at the far host and its line; `mtr 192.0.2.7` shows how far packets get.",)


def test_without_a_watcher_silence_is_no_more_than_possible_and_says_what_was_not_looked_at():
    found = decide(facts(sighting=None))
    assert (found.cause, found.confidence) == (Cause.SILENT, Confidence.POSSIBLE)
    assert "Not looked at: what passes on the wire" in found.uncertain
    assert Cause.NO_ROUTE in dict(found.excluded)


def test_silence_tells_what_was_excluded_and_what_would_decide():
    found = decide(facts(sighting=sent(), outer_ping=Echo("192.0.2.7", 3, 3)))
    assert found.confidence is Confidence.LIKELY
    excluded = dict(found.excluded)
    assert excluded[Cause.DNS_MOVED] == "vpn.example.com still resolves to 192.0.2.7"
    assert excluded[Cause.OUTPUT_FILTERED] == "handshake messages were seen leaving this host"
    assert any("answers pings" in line for line in found.evidence)
    assert "tcpdump udp port 51820" in found.uncertain


@pytest.mark.parametrize(
    "more",
    [
        {"left_packets": 60},  # users have more than answers
        {"left_packets": 4},
        {"left_packets": None},
        {"received_bytes": 22 * 32},  # keepalives, which the kernel counts too
        {"others_received": 9000},  # they may be of others
        {"host": host(inner_rp_drops=25, inner_rp_filter=1)},
        {"echoes_sent": 9},
        {"received_bytes": 22 * 148, "inbound_initiations": 22},  # its calls, which the kernel counts too
    ],
)
def test_packets_out_of_the_tunnel_are_answers_only_where_they_are_as_many_as_the_echoes(more):
    known = {"echoes_sent": 20, "left_packets": 22, "received_bytes": 22 * 80, "others_received": 0}
    found = decide(works(**(known | more)))
    assert Cause.INNER_FILTERED not in (found.cause, *found.also)


def test_an_answer_is_as_large_as_the_echoes_that_are_sent():
    assert ECHO_BYTES == ECHO_SIZE_V4 + KEEPALIVE


def test_large_probes_that_are_answered_and_dropped_here_are_no_data_of_users():
    known = works(echoes_sent=9, left_packets=13, received_bytes=9 * 128 + 4 * 1500, others_received=0)
    assert decide(known).confidence is Confidence.POSSIBLE
    assert decide(known._replace(left_packets=90)).cause is Cause.ECHOES_FILTERED


def test_what_answers_to_echoes_may_amount_to_is_no_data_of_users():
    known = works(echoes_sent=40, received_bytes=40 * 128, left_packets=40, others_received=3000)
    assert decide(known).confidence is Confidence.POSSIBLE
    assert decide(known._replace(received_bytes=60_000)).cause is Cause.ECHOES_FILTERED


@pytest.mark.parametrize("sighting", [sent(), refusal("198.51.100.1", 3, 1), refusal("192.0.2.7", 3, 3)])
def test_where_somebody_calls_from_elsewhere_the_peer_may_have_moved_if_it_is_the_only_one(sighting):
    alone = facts(sighting=sighting, callers=caller(), others=0)
    found = decide(alone)
    assert found.confidence is Confidence.POSSIBLE
    assert {Cause.ROAMED, Cause.UNKNOWN_CALLER} & {found.cause, *found.also} or sighting.refusals
    assert "wg-exporter diagnose" in found.uncertain
    assert decide(alone._replace(others=7)).confidence is not Confidence.POSSIBLE
    assert decide(alone._replace(callers=caller(for_us=False))).confidence is not Confidence.POSSIBLE


def test_a_peer_that_was_found_elsewhere_is_not_called_unreachable_for_its_old_address():
    opened = (Opened(PEER, 1000.0, 1000.1, "berlin", "203.0.113.9:4000"),)
    found = decide(diagnosed(sighting=refusal("198.51.100.1", 3, 1), opened=opened))
    assert found.cause is Cause.ROAMED
    assert "203.0.113.9:4000" in dict(found.excluded)[Cause.HOST_UNREACHABLE]


@pytest.mark.parametrize(
    ("heard", "named"),
    [
        (29.0, (Cause.SILENT, Confidence.POSSIBLE)),
        (30.0, (Cause.NAT_FORGOT, Confidence.LIKELY)),
        (inf, (Cause.SILENT, Confidence.LIKELY)),
    ],
)
def test_a_peer_without_a_fixed_endpoint_is_not_called_silent_before_a_nat_may_have_forgotten_it(heard, named):
    known = facts(sighting=sent(), conf_endpoint="", dns_name=None, resolved=None, heard_seconds=heard)
    found = decide(known)
    assert (found.cause, found.confidence) == named
    fixed = decide(known._replace(conf_endpoint="192.0.2.7:51820"))
    assert (fixed.cause, fixed.confidence) == (Cause.SILENT, Confidence.LIKELY)


def test_a_session_that_outlives_the_line_is_no_proof_that_handshakes_pass():
    known = facts(reason=Reason.DATA_UNANSWERED, shaken_seconds=40.0, heard_seconds=35.0, data_seconds=35.0)
    for initiations in (0, 1):
        found = decide(known._replace(initiations=initiations, sighting=seen(initiations_sent=1, seconds=15.0)))
        assert (found.cause, found.confidence) == (Cause.SILENT, Confidence.LIKELY)
        assert Cause.DATA_FILTERED not in found.also


@pytest.mark.parametrize(
    ("looked", "began", "filtered"),
    [
        (80.0, 50.0, True),  # the second look, and what the watcher had seen by then, are of one time
        (68.0, 50.0, False),  # it had seen 12 s more than the look: two of these calls may have come later
        (80.0, 38.0, False),  # and at the first look it had been asked 12 s before
    ],
)
def test_messages_that_may_have_come_before_or_after_the_looks_are_not_missing_at_the_sockets(looked, began, filtered):
    calls = CALLED._replace(began=began, seconds=80.0 - began)
    known = facts(
        sighting=calls, seen_then=calls, seen_before=seen(began=began, seconds=0.0), reason=Reason.STALE_HANDSHAKE,
        initiations=0, sent_bytes=0, host=host(at=looked, udp_received=903), before=host(at=50.0, udp_received=900),
    )  # fmt: skip
    assert (decide(known).cause is Cause.INPUT_FILTERED) is filtered


@pytest.mark.parametrize("backend", [Backend.KERNEL, Backend.USERSPACE])
def test_a_window_between_two_handshakes_is_no_proof_that_nothing_leaves(backend):
    """A path that drops data: handshakes pass every 15 s and more, and the kernel counts data all the while."""
    known = facts(backend=backend, reason=Reason.DATA_UNANSWERED, initiations=0, shaken_seconds=14.0, sent_bytes=900)
    for seconds in (13.0, 21.0):
        found = decide(known._replace(seconds=seconds, sighting=seen(seconds=seconds)))
        assert Cause.OUTPUT_FILTERED not in (found.cause, *found.also)


@pytest.mark.parametrize(
    ("out_from", "out_to", "named"), [(55.0, 58.0, False), (62.0, inf, True), (73.0, inf, False), (-inf, 61.0, True)]
)
def test_that_nothing_leaves_is_said_only_of_the_time_in_which_that_was_looked_at(out_from, out_to, named):
    """On a busy host what leaves is looked at in turns."""
    found = decide(facts(sighting=seen(out_from=out_from, out_to=out_to)))
    assert (found.cause is Cause.OUTPUT_FILTERED) is named
    assert named or Cause.OUTPUT_FILTERED not in found.also


@pytest.mark.parametrize(
    ("changes", "likely"),
    [
        ({"seconds": 10.0}, False),  # whoever hears nothing need not have called yet
        ({"seconds": 13.0}, True),
        ({"seconds": 13.0, "initiations_received": 1}, False),
        ({"seconds": 30.0, "initiations_received": 1}, False),
        ({"seconds": 13.0, "missed": True}, False),
        ({"seconds": 5.0}, False),
    ],
)
def test_a_peer_that_may_hear_nothing_is_not_said_to_drop_echoes(changes, likely):
    """Its data comes in all the while."""
    known = works(received_bytes=60_000, silent_seconds=10.0 + changes["seconds"], sighting=seen(**changes))
    found = decide(known)
    assert (found.cause is Cause.ECHOES_FILTERED and found.confidence is Confidence.LIKELY) is likely
    assert likely or found.confidence is Confidence.POSSIBLE
    assert decide(known._replace(sighting=None)).confidence is Confidence.POSSIBLE


def test_who_is_ignored_is_told_apart_only_by_the_private_key():
    found = decide(facts(sighting=CALLED, initiations=0, sent_bytes=0, reason=Reason.STALE_HANDSHAKE))
    assert (found.cause, found.confidence) == (Cause.UNKNOWN_CALLER, Confidence.POSSIBLE)
    assert found.also == (Cause.CLOCK_BACK,)
    assert "wg-exporter diagnose" in found.uncertain


def test_responses_and_a_filter_that_could_not_be_read_are_both_named():
    for received in (None, 1000):  # others have as much traffic
        found = decide(facts(sighting=sent(responses_received=4, answered=4), host=host(udp_received=received)))
        assert (found.cause, found.confidence) == (Cause.PRESHARED_KEY, Confidence.POSSIBLE)
        assert Cause.INPUT_FILTERED in found.also
        assert "reads the firewall" in found.uncertain


@pytest.mark.parametrize(
    ("came", "got", "cause", "confidence"),
    [
        (4, 4, Cause.PRESHARED_KEY, Confidence.LIKELY),
        (4, 3, Cause.PRESHARED_KEY, Confidence.LIKELY),  # one came between the two looks
        (3, 2, Cause.PRESHARED_KEY, Confidence.LIKELY),
        (2, 1, Cause.PRESHARED_KEY, Confidence.POSSIBLE),
        (4, 2, Cause.INPUT_FILTERED, Confidence.LIKELY),
        (4, 0, Cause.INPUT_FILTERED, Confidence.LIKELY),
        (4, 11, Cause.PRESHARED_KEY, Confidence.POSSIBLE),  # who knows whose these are
    ],
)
def test_responses_are_accounted_for_by_what_the_sockets_got(came, got, cause, confidence):
    found = decide(facts(sighting=sent(responses_received=came, answered=came), host=host(udp_received=900 + got)))
    assert (found.cause, found.confidence) == (cause, confidence)


@pytest.mark.parametrize(("missing", "confidence"), [(1, Confidence.LIKELY), (3, Confidence.POSSIBLE)])
def test_responses_that_may_have_come_outside_of_the_looks_are_neither_missing_nor_taken(missing, confidence):
    """The watcher had seen 15 s more than the look at the host: half of the responses may have come in these."""
    known = facts(
        sighting=sent(responses_received=6, answered=6), before=host(at=50.0, udp_received=900),
        host=host(at=65.0, udp_received=906 - missing),
    )  # fmt: skip
    found = decide(known)
    assert (found.cause, found.confidence) == (Cause.PRESHARED_KEY, confidence)
    assert (Cause.INPUT_FILTERED in found.also) is (missing > 1)


def test_a_peer_whose_answers_and_calls_arrive_and_are_all_ignored_is_filtered_here():
    found = decide(facts(sighting=sent(responses_received=4, answered=4, initiations_received=4)))
    assert (found.cause, found.confidence) == (Cause.INPUT_FILTERED, Confidence.LIKELY)


def test_the_endpoint_of_an_error_that_anybody_may_have_sent_is_only_likely():
    assert decide(facts(sighting=refusal("192.0.2.7", 3, 3, proven=0))).confidence is Confidence.LIKELY
    assert decide(facts(sighting=refusal("192.0.2.7", 3, 3))).confidence is Confidence.CERTAIN


def test_fixes_have_the_real_names_in_them_quoted_for_a_shell():
    known = facts(sighting=sent(), conf_path="/etc/it's", entry="ip netns exec blue ")
    fix = " ".join(decide(known).fix)
    assert "`ip netns exec blue wg show wg0 public-key`" in fix
    text = fill(("{peer} {endpoint} {address} {port} {listen_port} {conf} {device} {key}",), known)[0]
    assert text == f"berlin {ENDPOINT} 192.0.2.7 51820 51821 '/etc/it'\"'\"'s' eth0 {PEER}"
    for odd in ("", "two words", "-rf", "a\u202eb", "$(reboot)"):
        assert fill(("{peer}",), known._replace(name=odd)) == (PEER,), "the key goes for a name that needs quoting"


def test_braces_in_a_firewall_rule_stay_as_they_are():
    rule = DROP_OUT._replace(grew=1, remove="nft delete rule ip {t} c handle 7", rule="udp dport { 1, 2 } drop")
    found = decide(diagnosed(filters=(rule,), sighting=seen()))
    assert found.fix == ("`nft delete rule ip {t} c handle 7`",)
    assert "udp dport { 1, 2 } drop" in found.evidence[0]


# --- filters that nobody could read -----------------------------------------------------------------------------------

LEGACY = ("the rules of iptables-legacy (table filter), which `iptables-legacy-save` prints",)


def test_rules_that_could_not_be_read_are_never_taken_for_none():
    psk = diagnosed(sighting=sent(responses_received=4, answered=4), host=host(udp_received=None))
    assert decide(psk).confidence is Confidence.CERTAIN
    assert "no nftables rule here drops them" in decide(psk).evidence
    found = decide(psk._replace(unread_filters=LEGACY))
    assert (found.cause, found.confidence) == (Cause.PRESHARED_KEY, Confidence.POSSIBLE)
    assert not any("no nftables rule" in line for line in found.evidence)
    assert Cause.INPUT_FILTERED in found.also
    assert f"Not looked at: {LEGACY[0]}." in found.uncertain

    inside = session(entered_packets=3)
    assert "no nftables rule" in dict(decide(inside).excluded)[Cause.INNER_FILTERED]
    assert Cause.INNER_FILTERED not in dict(decide(inside._replace(unread_filters=LEGACY)).excluded)


def test_what_is_dropped_by_no_rule_that_was_read_is_likely_dropped_by_one_that_was_not():
    known = diagnosed(sighting=seen(), sent_bytes=1480)
    assert decide(known).confidence is Confidence.POSSIBLE
    found = decide(known._replace(unread_filters=LEGACY))
    assert (found.cause, found.confidence) == (Cause.OUTPUT_FILTERED, Confidence.LIKELY)
    assert "iptables-legacy-save" in found.fix[0]
    assert LEGACY[0] in found.uncertain


def test_what_this_host_forwards_is_not_among_what_is_excluded():
    why = dict(decide(session(entered_packets=3)).excluded)[Cause.INNER_FILTERED]
    assert why == "this host's own packets went into wg0, and no nftables rule drops them or the answers"


# --- the device differs from its file ---------------------------------------------------------------------------------

FILE = "/etc/wireguard/wg0.conf"
SHOWN = "`wg-exporter drift wg0` shows all that differs from the file, with the commands that load it."


def differs(kind, public_key, file, device, name=""):
    return OfDevice(FILE, ((kind, 1),), (Difference(kind, public_key, file, device, name),))


PSK = {"responses_received": 2, "answered": 2, "initiations_received": 1}
DIFFERING = [
    (
        (Kind.ALLOWED_IPS, PEER, "10.0.0.2/32", "10.9.9.9/32"),
        works(host=host(owner="")),
        f"allowed IPs: 10.0.0.2/32 in {FILE}, 10.9.9.9/32 on wg0",
    ),
    (
        (Kind.ENDPOINT, PEER, "192.0.2.8:51820", ENDPOINT),
        facts(sighting=sent()),
        f"endpoint: 192.0.2.8:51820 in {FILE}, {ENDPOINT} on wg0",
    ),
    (
        (Kind.PRIVATE_KEY, "", "set", "another"),
        facts(sighting=sent(misdirected=5)),
        f"private key: set in {FILE}, another on wg0",
    ),
    (
        (Kind.PRESHARED_KEY, PEER, "", "set"),
        diagnosed(sighting=sent(**PSK)),
        f"preshared key: none in {FILE}, set on wg0",
    ),
    (
        (Kind.ADDRESS, "", "10.0.0.1/24", ""),
        works(host=host(addresses=())),
        f"address: 10.0.0.1/24 in {FILE}, none on wg0",
    ),
    ((Kind.PEER_EXTRA, PEER, "", "10.0.0.2/32"), facts(sighting=sent()), f"wg0 has it, and {FILE} does not"),
    (
        (Kind.PEER_MISSING, PEER, "", "", "berlin"),
        facts(reason=Reason.MISSING),
        f"{FILE} has it as berlin, and wg0 does not",
    ),
]


@pytest.mark.parametrize(("difference", "known", "told"), DIFFERING, ids=[row[0][0] for row in DIFFERING])
def test_what_differs_from_the_file_is_evidence_where_it_may_be_why(difference, known, told):
    before = decide(known)
    found = decide(known._replace(drift=of_peer(differs(*difference), known.key)))
    (line,) = found.evidence[len(before.evidence) :]
    assert line.startswith("wg0 differs from its file: ")
    assert told in line
    assert found.fix == (SHOWN, *before.fix)
    assert (found.cause, found.confidence, found.also) == (before.cause, before.confidence, before.also)


def test_what_differs_elsewhere_or_explains_nothing_is_not_told():
    known = works(host=host(owner=""))
    for row in (
        (Kind.ALLOWED_IPS, OTHER, "10.0.0.2/32", "10.9.9.9/32"),
        (Kind.KEEPALIVE, PEER, "25", "off"),
        (Kind.PEER_MISSING, OTHER, "", ""),
        (Kind.LISTEN_PORT, "", "51820", "51821"),
    ):
        assert decide(known._replace(drift=of_peer(differs(*row), known.key))) == decide(known)
    missing = facts(reason=Reason.MISSING)
    another = of_peer(differs(Kind.PEER_MISSING, OTHER, "", ""), missing.key)
    assert decide(missing._replace(drift=another)) == decide(missing)
    up = facts(state=UP, reason=None)
    elsewhere = of_peer(differs(Kind.ENDPOINT, PEER, "192.0.2.8:1", ENDPOINT), up.key)
    assert decide(up._replace(drift=elsewhere)) == decide(up)


def test_a_caller_whose_key_is_in_the_file_is_one_that_was_not_loaded():
    opened = (Opened(OTHER, 1000.0, 1000.1, "", ENDPOINT),)
    known = diagnosed(sent_bytes=0, sighting=CALLED, opened=opened)
    found = decide(known._replace(drift=of_peer(differs(Kind.PEER_MISSING, OTHER, "", "", "berlin"), known.key)))
    assert (found.cause, found.confidence) == (Cause.UNKNOWN_CALLER, Confidence.CERTAIN)
    assert found.evidence[-1] == f"of that key: {FILE} has it as berlin, and wg0 does not"
    assert found.fix == (SHOWN,)


def test_a_peers_own_differences_are_not_crowded_out_and_values_are_short():
    missing = tuple(Difference(Kind.PEER_MISSING, key(n), "", "") for n in range(10, 1000))
    own = Difference(Kind.ALLOWED_IPS, PEER, ", ".join(["10.0.0.0/8"] * 400), "")
    rows = of_peer(OfDevice(FILE, (), (*missing, own)), ("", "wg0", PEER))
    assert rows[0].kind == "allowed_ips"
    assert len(rows) == 64
    assert len(rows[0].line) < 300


@pytest.mark.parametrize("rule", [*RULES, NO_PROOF], ids=lambda rule: rule.cause)
def test_every_rule_explains_itself_and_its_fix_can_be_filled_without_facts(rule):
    assert rule.meaning.endswith(".")
    assert rule.told_by.endswith(".")
    assert all("{" not in line for line in fill(rule.fix, None) if "reresolve" not in line)
    assert all(line.count("`") % 2 == 0 for line in rule.fix)


# --- properties -------------------------------------------------------------------------------------------------------

_text = st.text(string.printable, max_size=12)
_number = st.none() | st.integers(0, 5) | st.integers(0, 10**12)
_seconds = st.none() | st.floats(0, 1e6) | st.just(inf)
_few = st.integers(0, 4)
_address = st.sampled_from(["192.0.2.7", "2001:db8::7", "203.0.113.9", SELF])
_echo = st.none() | st.builds(Echo, _address, _few, _few, st.none() | st.sampled_from(SendError))
_path = st.none() | st.builds(
    Path,
    _address,
    st.sampled_from(PathKind),
    _text,
    _text,
    st.just(SELF) | _text,
    _few,
    st.booleans(),
    st.none() | st.sampled_from(Neighbour),
)
_sighting = st.none() | st.builds(
    Sighting,
    st.just(50.0),
    st.floats(0, 60),
    st.booleans(),
    *[_few] * 8,
    st.just(()),
    st.just(()),
    st.lists(st.floats(0, 100), max_size=4).map(tuple),
    st.just(()),
    st.lists(
        st.builds(
            Refusal, _address, st.booleans(), st.sampled_from([1, 3, 11]), st.integers(0, 16), _few, _few, st.booleans()
        ),
        max_size=3,
    ).map(tuple),
    st.just(b""),
    st.booleans(),
)
_inspected = st.none() | st.builds(
    Inspected,
    st.just(("", "wg0", PEER)),
    st.just(1.0),
    st.none() | st.just(""),
    st.just(ENDPOINT) | st.just(""),
    _path,
    _path,
    st.none() | st.lists(st.sampled_from(["10.0.0.1/24", "fd00::1/64"]), max_size=2).map(tuple),
    st.none() | st.sampled_from([PEER, OTHER, ""]),
    st.none() | st.sampled_from(PortOwner),
    _text,
    *[st.none() | st.integers(0, 2)] * 2,
    *[_number] * 3,
    st.none() | st.just("") | st.just("vpn.example.com:1"),
    st.lists(_text, max_size=2).map(tuple),
)
_filter = st.builds(
    Filter,
    st.sampled_from(["output", "input", "inner_output", "inner_input"]),
    *[_text] * 3,
    st.none() | _few,
    st.booleans(),
)
_opened = st.builds(
    Opened, st.sampled_from([PEER, OTHER]), st.floats(0, 1e9), st.floats(0, 1e9), _text, st.just(ENDPOINT) | _text
)
_drift = st.builds(Drift, _text | st.sampled_from(Kind), _text, st.sampled_from(["", PEER, OTHER]))
_callers = st.none() | st.booleans().map(lambda for_us: caller(for_us=for_us))
_facts = st.builds(
    Facts,
    st.just(("", "wg0", PEER)),
    name=_text,
    backend=st.none() | st.sampled_from(Backend),
    opaque=st.none() | st.booleans(),
    listen_port=_number,
    fwmark=_number,
    endpoint=st.none() | st.just("") | st.just(ENDPOINT) | _text,
    keepalive=_number,
    target=st.none() | st.just("") | _address,
    conf_endpoint=st.none() | st.just("") | _text,
    state=st.none() | st.sampled_from(State),
    reason=st.none() | st.sampled_from(Reason),
    heard_seconds=_seconds,
    shaken_seconds=_seconds,
    initiations=_number,
    inbound_initiations=_number,
    seconds=st.none() | st.floats(0, 600),
    sent_bytes=_number,
    received_bytes=_number,
    handshakes=_number,
    entered_packets=_number,
    left_packets=_number,
    others_received=_number,
    others=_number,
    owner=st.none() | st.sampled_from(["", PEER, OTHER]),
    echoes_sent=_number,
    sighting=_sighting,
    callers=_callers,
    host=_inspected,
    before=_inspected,
    dns_name=st.none() | _text,
    resolved=st.none() | st.lists(_address, max_size=5).map(tuple),
    dns_problem=_text,
    echo=_echo,
    loss=st.none() | st.floats(0, 1),
    round_trip=st.none() | st.floats(0, 10),
    usual_round_trip=st.none() | st.floats(0, 10),
    verdict=st.none() | st.sampled_from(Verdict),
    recommended_mtu=_number,
    provoked=st.none() | st.booleans(),
    provoke_refused=st.none() | st.sampled_from(SendError),
    session=st.none() | st.booleans(),
    answered=st.none() | st.booleans(),
    outer_ping=_echo,
    other_inner=st.none() | st.lists(_echo.filter(bool), max_size=2).map(tuple),
    opened=st.none() | st.lists(_opened, max_size=3).map(tuple),
    filters=st.none() | st.lists(_filter, max_size=3).map(tuple),
    unread_filters=st.lists(_text, max_size=1).map(tuple),
    drift=st.none()
    | st.lists(
        st.builds(Drift, _text | st.sampled_from(Kind), _text, st.sampled_from(["", PEER, OTHER])), max_size=2
    ).map(tuple),
    not_looked=st.lists(_text, max_size=2).map(tuple),
)


@given(_facts)
def test_any_facts_have_one_finding_and_always_the_same(known):
    found = decide(known)
    assert found == decide(known)
    assert isinstance(found.cause, Cause)
    assert len({found.cause, *found.also}) == 1 + len(found.also)
    assert not {found.cause, *found.also} & {cause for cause, _ in found.excluded}
    assert all(isinstance(line, str) and line for line in (*found.evidence, *found.fix))


@given(_facts)
def test_no_fault_is_ever_named_for_a_peer_that_is_up_or_idle_and_asked_for_nothing(known):
    assert decide(known._replace(state=State.UP)).cause is Cause.FINE
    assert decide(known._replace(state=State.IDLE, provoked=None)).cause in {Cause.FINE, Cause.IDLE}


@given(_facts)
def test_nothing_is_said_of_what_nobody_knows(known):
    """A fault needs something that was seen: with the peer's name alone nothing is named."""
    assert decide(Facts(known.key, known.name)).cause is Cause.UNKNOWN
