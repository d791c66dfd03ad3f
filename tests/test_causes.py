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
from wg_exporter.causes.facts import Drift, Echo, Facts, Filter, Opened
from wg_exporter.causes.rule import fill
from wg_exporter.health.states import Reason, State
from wg_exporter.inspected import Inspected, Path, PathKind, PortOwner
from wg_exporter.model import Backend
from wg_exporter.probed import SendError, Verdict
from wg_exporter.sighted import Caller, Callers, Refusal, Sender, Sighting

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


def caller(address="203.0.113.9", *, for_us=True):
    return Callers(("", "wg0"), (Caller(Sender(address, 4000, "eth0", 5), for_us, b"\1" * 148),))


NOWHERE = Path("192.0.2.7", PathKind.NONE)
CALLED = seen(initiations_received=5, received_at=(50.0, 55.0, 60.0, 65.0, 70.0))
TAKEN = CALLED._replace(responses_sent=5, taken_at=(50.0, 55.0, 60.0, 65.0, 70.0))
DROP_OUT = Filter("output", "udp dport 51820 drop", "inet filter output", "nft delete rule inet filter output handle 7")
DROP_IN = DROP_OUT._replace(hook="input", where="inet filter input", rule="udp dport 51821 drop")
DROP_INSIDE = DROP_OUT._replace(hook="inner_output", rule='oifname "wg0" drop')

BUILDS = [
    (Cause.INTERFACE_GONE, facts(reason=Reason.INTERFACE_GONE, host=None, before=None)),
    (Cause.INTERFACE_GONE, facts(reason=Reason.INTERFACE_GONE, sighting=seen(), host=None, endpoint=None)),
    (Cause.INTERFACE_DOWN, facts(reason=Reason.INTERFACE_DOWN, host=host(port_owner=PortOwner.NOBODY))),
    (Cause.INTERFACE_DOWN, diagnosed(reason=Reason.INTERFACE_DOWN)),
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
    (Cause.ROUTED_ELSEWHERE, works(host=host(to_target=OUT._replace(to="10.0.0.2")), reason=Reason.NOT_ROUTED)),
    (Cause.ROUTED_ELSEWHERE, session(host=host(to_target=NOWHERE._replace(to="10.0.0.2")))),
    (Cause.INNER_REVERSE_PATH, works(host=host(inner_rp_filter=1, inner_rp_drops=15))),
    (Cause.INNER_REVERSE_PATH, session(host=host(inner_rp_filter=1, inner_rp_drops=7))),
    (Cause.INNER_FILTERED, session(filters=(DROP_INSIDE._replace(grew=4),))),
    (Cause.INNER_FILTERED, works(reason=Reason.PROBES_BLOCKED, echo=Echo("10.0.0.2", 0, 0, SendError.NO_PERMISSION))),
    (Cause.INNER_FILTERED, works(echoes_sent=3, entered_packets=0, sent_bytes=0)),
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


def test_a_session_that_outlives_the_line_is_no_proof_that_handshakes_pass():
    known = facts(reason=Reason.DATA_UNANSWERED, shaken_seconds=40.0, heard_seconds=35.0, data_seconds=35.0)
    for initiations in (0, 1):
        found = decide(known._replace(initiations=initiations, sighting=seen(initiations_sent=1, seconds=15.0)))
        assert (found.cause, found.confidence) == (Cause.SILENT, Confidence.LIKELY)
        assert Cause.DATA_FILTERED not in found.also


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
    Path, _address, st.sampled_from(PathKind), _text, _text, st.just(SELF) | _text, _few, st.booleans()
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
        st.builds(Refusal, _address, st.booleans(), st.sampled_from([1, 3, 11]), st.integers(0, 16), _few, _few),
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
    st.sampled_from(["output", "input", "inner_output", "inner_input", "forward"]),
    *[_text] * 3,
    st.none() | _few,
    st.booleans(),
)
_opened = st.builds(
    Opened, st.sampled_from([PEER, OTHER]), st.floats(0, 1e9), st.floats(0, 1e9), _text, st.just(ENDPOINT) | _text
)
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
    echoes_sent=_number,
    others_received=_number,
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
    drift=st.none() | st.lists(st.builds(Drift, _text, _text), max_size=2).map(tuple),
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
