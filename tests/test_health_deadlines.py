"""A peer is judged when something was seen of it or its deadline has come, and nothing is missed by that."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.histories import LIMITS, RandomHost
from tests.rows import WALL, peer
from wg_exporter.health import Health
from wg_exporter.health.evidence import Evidence, Place
from wg_exporter.health.rules import RULES, decide
from wg_exporter.health.states import Reason, State
from wg_exporter.model import Verdict
from wg_exporter.names.identity import PeerMeta


class Diligent(Health):
    """Judges every peer at every look, whatever its deadline is."""

    def update(self, *look):
        for one in self._devices.values():
            one.judge_all()
        return super().update(*look)


def test_whoever_is_judged_by_deadlines_is_what_it_is_when_judged_at_every_look():
    reached = set()
    for seed in range(60):
        host = RandomHost(random.Random(seed))
        by_deadlines, at_every_look = Health(), Diligent()
        for _ in range(600):
            look = host.happen()
            if not host.there and host.random.random() < 0.1:  # a reload
                for health in (by_deadlines, at_every_look):
                    health.reconsider(lambda _, row, host=host: host.meta_of(row), lambda _: True)
            told, expected = by_deadlines.update(*look), at_every_look.update(*look)
            where = f"history {seed}, second {host.second}"
            assert told == expected, where
            assert [*by_deadlines.devices()] == [*at_every_look.devices()], where
            assert by_deadlines.gone() == at_every_look.gone(), where
            assert by_deadlines.suspicious == at_every_look.suspicious, where
            reached.update((change.after, change.reason) for change in told)
    assert reached >= {(rule.state, rule.reason) for rule in RULES if rule.reason}, "all that can be wrong was wrong"
    assert {state for state, _ in reached} == set(State)
