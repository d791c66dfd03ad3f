"""What the prober has told, by peer and by device: a dictionary that hands out what never changes afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rows import probed
from wg_exporter.remote.prober.probed import ProbedPeers

KEYS = [(netns, interface, key) for netns in ("", "blue") for interface in ("wg0", "wg1") for key in "abc"]
ROWS = [probed(f"10.0.0.{n}") for n in range(3)]

actions = st.tuples(st.sampled_from(["put", "put", "drop", "look"]), st.sampled_from(KEYS), st.sampled_from(ROWS))


def grouped(flat):
    found = {}
    for (netns, interface, key), row in flat.items():
        found.setdefault((netns, interface), {})[key] = row
    return found


def plain(devices):
    return {device: dict(peers) for device, peers in devices.items()}


@settings(deadline=None)
@given(st.lists(actions, max_size=40))
def test_it_is_a_dictionary_and_what_it_gave_stays_as_it_was(sequence):
    known, truth, given_out = ProbedPeers(), {}, []
    for what, key, row in sequence:
        if what == "put":
            known[key] = truth[key] = row
        elif what == "drop":
            assert known.pop(key, None) is truth.pop(key, None)
        else:
            given_out.append((known.by_device(), grouped(truth)))
        assert known.get(key) is truth.get(key)
        assert len(known) == len(truth)
    assert dict(known) == truth
    assert plain(known.by_device()) == grouped(truth)
    assert [plain(found) for found, _ in given_out] == [was for _, was in given_out]


def test_a_device_of_which_nothing_changed_is_the_very_object_of_last_time():
    known = ProbedPeers()
    known[KEYS[0]] = known[KEYS[3]] = ROWS[0]
    first = known.by_device()
    assert known.by_device() is first
    known[KEYS[0]] = ROWS[1]
    second = known.by_device()
    assert second["", "wg1"] is first["", "wg1"]
    assert second["", "wg0"] is not first["", "wg0"]


def test_nobody_can_change_what_was_given():
    known = ProbedPeers()
    known[KEYS[0]] = ROWS[0]
    with pytest.raises(TypeError):
        known.by_device()["", "wg0"]["a"] = ROWS[1]
    with pytest.raises(TypeError):
        known.by_device()["", "wg9"] = {}


def test_a_peer_that_is_not_there_is_a_key_error_and_makes_no_device():
    known = ProbedPeers()
    with pytest.raises(KeyError):
        del known[KEYS[0]]
    with pytest.raises(KeyError):
        known[KEYS[0]]
    assert known.by_device() == {}


def test_what_is_known_can_be_replaced_while_it_is_gone_through():
    known = ProbedPeers()
    for key in KEYS:
        known[key] = ROWS[0]
    known.by_device()
    for key in known:
        known[key] = ROWS[1]
    assert set(map(id, known.values())) == {id(ROWS[1])}
