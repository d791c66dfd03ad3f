"""A host in a few numbers, and how a peer's health becomes series."""

from __future__ import annotations

import pytest

from tests.rows import key
from wg_exporter import catalogue as c
from wg_exporter.exposition.fields import HEALTH_FIELDS
from wg_exporter.health.states import NOT_JUDGED, PeerHealth, Reason, State
from wg_exporter.health.summary import Summary, summary
from wg_exporter.names.identity import PeerMeta
from wg_exporter.quiet import Quiet, QuietNow


def host(*peers, name="wg0"):
    """A device whose peers are given by name, state, whether they are expected up, and when they changed."""
    metas = [PeerMeta(peer, True, expected) for peer, _state, expected, _changed in peers]
    rows = [PeerHealth(state, changed_at=changed) for _peer, state, _expected, changed in peers]
    return ("", name), [key(n) for n in range(len(peers))], metas, rows


def test_peers_are_counted_by_what_somebody_has_to_do_about_them():
    found = summary(
        [
            host(
                ("a", State.UP, True, 1.0),
                ("b", State.DOWN, True, 2.0),
                ("c", None, True, 0.0),
                ("d", None, False, 0.0),
                ("e", State.IDLE, False, 0.0),
            ),
            host(
                ("f", State.DEGRADED, False, 0.0),
                ("g", State.NEVER, False, 0.0),
                ("h", State.DOWN, True, 0.0),
                ("i", None, True, 0.0),
                name="wg1",
            ),
        ],
        50,
    )
    assert (found.expected, found.down, found.degraded, found.open) == (5, 2, 1, 2)
    assert [(peer.interface, peer.name, peer.public_key) for peer in found.unhealthy] == [
        ("wg0", "b", key(1)),
        ("wg1", "h", key(2)),
        ("wg1", "f", key(0)),
    ]


def test_those_that_are_down_come_first_and_of_them_those_that_changed_last():
    device = host(
        ("long", State.DOWN, True, 10.0),
        ("new", State.DOWN, True, 30.0),
        ("slow", State.DEGRADED, True, 40.0),
        ("mid", State.DOWN, True, 20.0),
        ("lossy", State.DEGRADED, True, 50.0),
    )
    assert [peer.name for peer in summary([device], 9).unhealthy] == ["new", "mid", "long", "lossy", "slow"]
    assert [peer.name for peer in summary([device], 4).unhealthy] == ["new", "mid", "long", "lossy"]
    assert [peer.name for peer in summary([device], 2).unhealthy] == ["new", "mid"]
    assert summary([device], 2)[:3] == (5, 3, 2)


def test_those_that_are_quiet_are_counted_as_such_and_come_after_the_others():
    device = host(
        ("new", State.DOWN, True, 30.0),
        ("old", State.DOWN, True, 20.0),
        ("slow", State.DEGRADED, False, 40.0),
        ("fine", State.UP, True, 0.0),
    )
    quiet = [Quiet("", "wg0", key(n), "", 0.0, 60.0, "") for n in (0, 2, 3)]
    found = summary([device], 9, QuietNow(quiet))
    assert (found.expected, found.down, found.degraded) == (3, 2, 1)
    assert (found.quiet, found.quiet_down, found.quiet_degraded) == (2, 1, 1)
    assert [(peer.name, peer.quiet) for peer in found.unhealthy] == [
        ("old", None),
        ("new", quiet[0]),
        ("slow", quiet[1]),
    ]
    whole = summary([device], 9, QuietNow([Quiet("", "wg0", "", "", 0.0, 60.0, "")]))
    assert (whole.quiet, whole.quiet_down, whole.quiet_degraded) == (3, 2, 1)


def test_of_an_empty_host_there_is_nothing_to_say():
    assert summary([], 50) == Summary() == (0, 0, 0, 0, (), 0, 0, 0, 0)


def _series(metric, row):
    """Labels and value of each series that this metric has of a peer."""
    (field,) = [field for field in HEALTH_FIELDS if field.metric is metric]
    return [(point.labels, value) for point, value in field.series(row)]


@pytest.mark.parametrize("state", State)
def test_exactly_one_state_is_one(state):
    values = {dict(labels)["state"]: value for labels, value in _series(c.PEER_STATE, PeerHealth(state))}
    assert values == {other: int(other is state) for other in State}


def test_without_a_state_there_is_no_series_of_it():
    assert _series(c.PEER_STATE, NOT_JUDGED) == []


def test_counts_are_those_of_the_row_and_a_change_that_never_was_has_no_time():
    rows = (PeerHealth(State.UP, None, 3, 62.5, 1.7e9), PeerHealth(State.UP))
    counts = (c.PEER_STATE_CHANGES, c.PEER_DOWN_SECONDS, c.PEER_LAST_CHANGE)
    assert [[_series(metric, row) for metric in counts] for row in rows] == [
        [[((), 3)], [((), 62.5)], [((), 1.7e9)]],
        [[((), 0)], [((), 0.0)], []],
    ]


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        (PeerHealth(State.DOWN, Reason.ONE_WAY), (("state", "down"), ("reason", "one_way"))),
        (PeerHealth(State.UP), ()),
        (NOT_JUDGED, ()),
        (PeerHealth(None, Reason.ONE_WAY), ()),
    ],
)
def test_a_reason_is_told_with_its_state_or_not_at_all(row, labels):
    assert _series(c.PEER_REASON, row) == ([(labels, 1)] if labels else [])
