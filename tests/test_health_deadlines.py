"""A peer is judged when something was seen of it or its deadline has come, and nothing is missed by that."""

from __future__ import annotations

import random
from math import inf, nextafter

from hypothesis import given
from hypothesis import strategies as st

from tests.histories import LIMITS, RandomHost
from tests.judging import WG0, Host
from tests.rows import WALL, peer
from tests.tunnels import Judge, Tunnel, lively
from wg_exporter.config.health import HealthLimits
from wg_exporter.health import rules
from wg_exporter.health.evidence import Evidence
from wg_exporter.health.place import Place
from wg_exporter.health.quality import Quality
from wg_exporter.health.rules import RULES, decide
from wg_exporter.health.rules.rule import Rule
from wg_exporter.health.states import Obstacle, Reason, State
from wg_exporter.names.identity import PeerMeta
from wg_exporter.probed import SendError, Verdict
from wg_exporter.sighted import Sighting

NOW = 1000.0
MOMENT = st.integers(0, 1000).map(float)
MAYBE = st.none() | MOMENT


class Diligent(Judge):
    """Judges every peer at every look, whatever its deadline is."""

    def look(self, *look):
        for one in self._devices.values():
            one.judge_all()
        return super().look(*look)


def test_whoever_is_judged_by_deadlines_is_what_it_is_when_judged_at_every_look():
    reached = set()
    for seed in range(40):
        host = RandomHost(random.Random(seed))
        by_deadlines, at_every_look = Judge(), Diligent()
        for _ in range(500):
            look = host.happen()
            if not host.there and host.random.random() < 0.1:  # a reload
                for health in (by_deadlines, at_every_look):
                    health.reconsider(lambda _, row, host=host: host.meta_of(row), lambda _: True)()
            told, expected = by_deadlines.look(*look), at_every_look.look(*look)
            where = f"history {seed}, second {host.second}"
            assert told == expected, where
            assert [*by_deadlines.devices()] == [*at_every_look.devices()], where
            assert by_deadlines.gone() == at_every_look.gone(), where
            assert by_deadlines.suspicious == at_every_look.suspicious, where
            reached.update((change.after, change.reason) for change in told)
    assert {state for state, _ in reached} == set(State)
    assert {reason for _, reason in reached} == {None, *Reason} - {Reason.SLOW, Reason.MISSING}, (
        "what is slow takes hours to learn, and who is missing is judged elsewhere"
    )


@st.composite
def evidence(draw):
    """Any peer of which nothing after NOW is known."""
    place = Place()
    place.gone_since, place.down_since, place.opaque = draw(MAYBE), draw(MAYBE), draw(st.booleans())
    place.hung_since = draw(MAYBE)
    keepalive = draw(st.sampled_from((0, 5, 25)))
    meta = PeerMeta("", False, draw(st.booleans()))
    seen = Evidence(place, peer(1, persistent_keepalive=keepalive), meta, draw(MOMENT), WALL)
    seen.expected_since, seen.since, seen.risen = draw(MOMENT), draw(MOMENT), draw(MOMENT)
    seen.state = draw(st.none() | st.sampled_from(State))
    seen.reason = draw(st.sampled_from(Reason)) if seen.state in {State.DOWN, State.DEGRADED} else None
    seen.judged, seen.heard = draw(st.booleans()), draw(MAYBE)
    seen.called_since, seen.data_since, seen.echo_since = draw(MAYBE), draw(MAYBE), draw(MAYBE)
    seen.heard_data, seen.shaken = draw(MAYBE), draw(MAYBE)
    seen.data_asked, seen.left_at, seen.lost_at = draw(MOMENT), draw(MOMENT), draw(MOMENT)
    seen.called_at = draw(MOMENT)
    seen.calls = tuple(sorted(draw(st.lists(MOMENT, max_size=5))))
    seen.woken = tuple(sorted(draw(st.lists(MOMENT, max_size=4))))
    for counter in ("initiations", "inbound_initiations", "data", "probes", "attempts"):
        setattr(seen, counter, draw(st.integers(0, 7)))
    if draw(st.booleans()):
        seen.quality = Quality()
        seen.quality.lossy, seen.quality.slow = draw(st.booleans()), draw(st.booleans())
        seen.verdict = draw(st.none() | st.sampled_from(Verdict))
        seen.silent_since = draw(MAYBE)
        seen.target_silent_since = draw(st.sampled_from((None, seen.silent_since)))
        seen.refused = draw(st.none() | st.sampled_from(SendError))
    if draw(st.booleans()):
        seen.wire.taken = tuple(sorted(draw(st.lists(MOMENT, max_size=8))))
        seen.wire.unsent_at = draw(MAYBE)
        took = draw(st.sampled_from(((), seen.wire.taken[-1:])))
        seen.wire.row = Sighting(draw(MOMENT), draw(st.sampled_from((5.0, 20.0))), taken_at=took)
    if draw(st.booleans()):
        seen.obstacle = Obstacle(draw(st.sampled_from((Reason.NOT_ROUTED, Reason.NOT_ALLOWED))), "no way")
        seen.obstructed_since = draw(MOMENT)
    return seen


@given(evidence(), st.sampled_from(LIMITS), st.floats(0, 1))
def test_until_its_deadline_the_same_rule_decides(seen, limits, part):
    rule, due = decide(seen, NOW, limits)
    assert due > NOW
    last = nextafter(min(due, NOW + 10_000), -inf)
    for now in (NOW + part * (last - NOW), last):
        assert decide(seen, now, limits)[0] is rule


@given(evidence(), st.sampled_from(LIMITS))
def test_at_its_deadline_another_rule_decides(seen, limits):
    """Else the peers of a large host would be judged for nothing."""
    rule, due = decide(seen, NOW, limits)
    if due < inf:
        after, _ = decide(seen, due, limits)
        assert after is not rule or rule.state is None


@given(evidence(), st.sampled_from(LIMITS), st.floats(0, 300))
def test_a_peer_that_is_heard_goes_on_under_a_rule_that_is_renewed_and_not_for_less_long(seen, limits, later):
    """Of whoever is heard thus and not probed nothing is judged."""
    seen.called_since = seen.data_since = seen.echo_since = None
    seen.quality = seen.silent_since = seen.target_silent_since = None
    rule, due = decide(seen, NOW, limits)
    if rule.renewed and NOW + later < due:
        seen.hear(NOW + later)
        after, end = decide(seen, NOW + later, limits)
        assert after is rule
        assert end >= due


def test_only_rules_by_which_a_peer_is_well_are_renewed():
    assert {rule.state for rule in RULES if rule.renewed} == {State.UP}


def test_a_rule_with_a_time_of_its_own_needs_nothing_but_its_span(monkeypatch):
    minute = Rule(State.DEGRADED, Reason.SLOW, "", "", lambda seen, _limits: (seen.risen, seen.risen + 60))
    tables = {given: (minute, *matter) for given, matter in rules._MATTER.items()}
    monkeypatch.setattr(rules, "_MATTER", tables)
    tunnel = lively()
    tunnel.go(60, tunnel.call_in_vain)
    assert tunnel.state is State.DOWN
    tunnel.shake()
    assert tunnel.go(5).state is State.UP, "what it was when it was judged"
    up = tunnel.now
    assert tunnel.go(5).state is State.DEGRADED
    assert tunnel.go(50).state is State.DEGRADED
    assert tunnel.go(5).state is State.UP
    assert [change.after for change in tunnel.changes][-3:] == [State.UP, State.DEGRADED, State.UP]
    assert tunnel.judged.changed_at == WALL + up + 60


# --- what changes for all peers at once -------------------------------------------------------------------------------


def test_a_shorter_down_after_holds_from_the_next_look_on():
    tunnel = Tunnel(keepalive=0, age=10, limits=HealthLimits(down_after=600.0)).go(300)
    tunnel.link = tunnel.link._replace(ifindex=9)
    tunnel.row = tunnel.row._replace(last_handshake_ns=0, rx_bytes=0, tx_bytes=0)
    tunnel.go(100)
    assert tunnel.state is State.IDLE
    tunnel.limits = HealthLimits()
    tunnel.go(5)
    assert (tunnel.state, tunnel.reason) == (State.DOWN, Reason.NEVER_HEARD)


def test_a_peer_of_a_device_that_is_gone_is_down_once_a_reload_says_that_it_should_be_up():
    host = Host(wg0=[1, 11])
    host.lose(WG0)
    host.look(times=10)
    assert host.states() == {"wg0": [State.DOWN]}
    host.health.reconsider(lambda *_: PeerMeta("", False, True), lambda _: True)()
    host.look()
    assert host.states() == {"wg0": [State.DOWN, State.DOWN]}
