"""What the byte counters say of a peer that answers no probe."""

from __future__ import annotations

import pytest

from wg_exporter.prober.mtu.alive import ALIVE, ALIVE_RARELY_ASKED, OFTEN_ASKED, Received


def read(*times: float, grew: tuple[float, ...] = ()) -> Received:
    """A counter that was read at these times, and had grown at some of them."""
    received, rx = Received(), 100
    for now in times:
        rx += 32 * (now in grew)
        assert received.read(rx, now) == (now in grew)
    return received


def test_without_a_reading_nothing_is_known():
    assert Received().alive(0.0, 1000.0) is None


@pytest.mark.parametrize(("silent_since", "first"), [(0.0, 0.0), (0.0, 100.0), (100.0, 0.0)])
def test_a_peer_is_not_alive_once_the_counter_stood_still_for_25_seconds_of_its_silence(silent_since, first):
    begin = max(silent_since, first)
    received = read(first, begin + ALIVE - 0.1)
    assert received.alive(silent_since, begin + ALIVE - 0.1) is None
    received.read(100, begin + ALIVE)
    assert received.alive(silent_since, begin + ALIVE) is False


def test_a_counter_that_is_read_no_more_says_nothing():
    assert read(0.0, 10.0).alive(0.0, 1000.0) is None


def test_a_peer_that_answers_small_probes_is_not_called_gone():
    assert read(0.0, 100.0).alive(None, 100.0) is None


def test_what_was_received_says_alive_for_as_long_as_the_next_answer_may_take():
    often, rarely = read(0.0, 5.0, 100.0, grew=(5.0,)), read(0.0, OFTEN_ASKED, 200.0, grew=(OFTEN_ASKED,))
    assert often.alive(0.0, 5.0 + ALIVE - 0.1) is True
    assert often.alive(0.0, 5.0 + ALIVE) is False
    assert rarely.alive(0.0, OFTEN_ASKED + ALIVE_RARELY_ASKED - 0.1) is True
    assert rarely.alive(0.0, OFTEN_ASKED + ALIVE_RARELY_ASKED) is False


@pytest.mark.parametrize("grown", [148, 92, 240, 296])
def test_a_peer_that_only_begins_handshakes_is_not_alive(grown):
    """It hears nothing from us: it starts one every 5 seconds, and what we send is lost."""
    received, rx = Received(), 100
    for now in range(0, 60, 5):
        assert received.read(rx, float(now)) == (now > 0)
        rx += grown
    assert received.alive(0.0, 60.0) is False


@pytest.mark.parametrize("grown", [32, 128, 148 + 32, 96 + 92, 1452, 3 * 148 * 92])
def test_a_peer_that_sends_more_than_handshakes_is_alive(grown):
    received = Received()
    received.read(100, 0.0)
    received.read(100 + grown, 5.0)
    assert received.alive(0.0, 10.0) is True
