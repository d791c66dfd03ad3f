"""Six hundred random stories of a tunnel, each with a fault that is mended: what is said of it is true, and in time.

`WG_STORIES_FROM=600` lives through others.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.storms import BREAKS_AT, Fault, Told, Users, story, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.storms import Said, Story

STORIES = 600
FROM = int(os.environ.get("WG_STORIES_FROM", "0"))
DEAF = {Fault.AWAY, Fault.OUTPUT, Fault.DATA_AWAY}  # what the peer sends arrives
FOUND_SOON = {Fault.CUT, Fault.DEAD, Fault.TOWARDS, Fault.DATA, Fault.DATA_TOWARDS}
TRUE_OF = {
    "not_sent": {Fault.OUTPUT},
    "one_way": DEAF,
    "handshake_unanswered": {Fault.CUT, Fault.DEAD, Fault.TOWARDS, Fault.AWAY, Fault.OUTPUT},
    "data_unanswered": {fault for fault in Fault if fault not in {Fault.NOTHING, Fault.TARGET}},
    "target_silent": {*DEAF, Fault.TARGET},
}


class Lived:
    """A story, and what was said in it."""

    def __init__(self, one: Story) -> None:
        self.story = one
        found: Told = told(one)
        self.said, self.well_at = found.said, found.well_at

    def __str__(self) -> str:
        lines = [f"{row.at - BREAKS_AT:8.1f} s {row.state} {row.reason}: {row.evidence}" for row in self.said]
        return "\n".join(map(str, [self.story, f"mended after {self.story.lasts:.1f} s", *lines]))

    def while_broken(self) -> list[Said]:
        return [row for row in self.said if BREAKS_AT <= row.at < self.story.mended]

    def downs(self) -> Iterator[Said]:
        """When it was called down, and had not been so."""
        before = ""
        for row in self.said:
            if row.state == "down" and before != "down":
                yield row
            before = row.state


def those(lives: list[Lived]) -> str:
    """The first of them, for the message of a failed test."""
    return f"{len(lives)} of {STORIES}, as\n" + "\n".join(map(str, lives[:3]))


@pytest.fixture(scope="module")
def lived() -> list[Lived]:
    return [Lived(story(seed)) for seed in range(FROM, FROM + STORIES)]


@pytest.fixture(scope="module")
def long() -> list[Lived]:
    """Faults that last, on paths that lose nothing else, while the watcher is in time. Where it takes long from one end
    to the other, both begin handshakes at the same time again and again, which come to nothing.
    """
    drawn = (story(seed) for seed in range(FROM, FROM + STORIES))
    return [
        Lived(
            one._replace(
                lasts=max(one.lasts, 120.0),
                loss=0.0,
                latency=min(one.latency, 0.04),
                told_after=min(one.told_after, 1.0),
            )
        )
        for one in drawn
    ]


@pytest.fixture(scope="module")
def begun(long: list[Lived]) -> list[Lived]:
    """The same faults, that were there before the exporter starts."""
    return [
        Lived(one.story._replace(starts=BREAKS_AT + 60.0 + one.story.starts, lasts=400.0))
        for one in long
        if one.story.probed
    ]


def test_every_fault_is_drawn_often_and_most_faults_are_found(lived: list[Lived]) -> None:
    for fault in Fault:
        told_of = [one for one in lived if one.story.fault is fault]
        assert len(told_of) > 30
        found = [one for one in told_of if one.story.probed and one.story.lasts > 60 and one.while_broken()]
        assert found or fault is Fault.NOTHING, fault


def test_nobody_is_called_down_while_data_passes_both_ways(lived: list[Lived]) -> None:
    def wrong(one: Lived) -> bool:
        harmless = one.story.fault in {Fault.NOTHING, Fault.TARGET}
        return any(harmless or row.at < BREAKS_AT or row.at > one.well_at + 6 for row in one.downs())

    def proves_little(one: Lived) -> bool:
        """Nothing is sent, or nothing that is answered by more than an acknowledgement, of which many are lost."""
        return not one.story.probed and (
            one.story.users is Users.NOBODY or (one.story.users is Users.LOG and one.story.loss > 0.02)
        )

    assert not (found := [one for one in lived if not proves_little(one) and wrong(one)]), those(found)


def test_nobody_is_called_down_again_after_it_came_back(
    lived: list[Lived], long: list[Lived], begun: list[Lived]
) -> None:
    def wrong(one: Lived) -> bool:
        after = [row.state for row in one.said if row.at >= one.story.mended]
        back = next((at for at, state in enumerate(after) if state != "down"), len(after))
        return "down" in after[back:]

    assert not (found := [one for one in lived + long + begun if wrong(one)]), those(found)


def test_whoever_was_down_is_not_so_ten_seconds_after_data_passes_both_ways(lived: list[Lived]) -> None:
    def wrong(one: Lived) -> bool:
        then = [row.state for row in one.said if row.at < one.well_at + 10]
        return then[-1:] == ["down"] and one.well_at + 10 < one.story.mended + one.story.calm

    assert not (found := [one for one in lived if wrong(one)]), those(found)


def test_it_is_so_too_if_its_target_stays_silent(long: list[Lived]) -> None:
    """Then it may be handshakes alone that tell, by not coming any more: within 200 s."""
    drawn = [one.story for one in long if one.story.probed and one.story.fault in DEAF]
    lives = [Lived(one._replace(off=True, calm=400.0)) for one in drawn if one.users is not Users.NOBODY]
    assert len(lives) > 50
    late = [one for one in lives if [row.state for row in one.said if row.at < one.well_at + 210][-1:] == ["down"]]
    assert not late, those(late)


def is_late(one: Lived, since: float) -> bool:
    first = next((row.at for row in one.while_broken() if row.state == "down"), since + 999)
    return not since + 20 <= first <= since + 32


def test_a_probed_peer_of_which_no_data_comes_is_down_within_32_seconds_whatever_users_do(long: list[Lived]) -> None:
    probed = [one for one in long if one.story.probed and one.story.fault in FOUND_SOON]
    assert len(probed) > 100
    assert not (found := [one for one in probed if is_late(one, BREAKS_AT)]), those(found)


def test_it_is_so_too_if_it_was_broken_before_the_start(begun: list[Lived]) -> None:
    probed = [one for one in begun if one.story.fault in FOUND_SOON]
    assert len(probed) > 100
    assert not (found := [one for one in probed if is_late(one, one.story.starts)]), those(found)


@pytest.mark.parametrize("reason", list(TRUE_OF))
def test_no_reason_is_named_of_which_the_fault_is_another(long: list[Lived], begun: list[Lived], reason: str) -> None:
    named = [one for one in long + begun if any(row.reason == reason for row in one.while_broken())]
    assert len(named) > 10
    assert not (found := [one for one in named if one.story.fault not in TRUE_OF[reason]]), those(found)


def test_no_loss_is_found_after_an_outage_on_a_path_that_loses_nothing(long: list[Lived], begun: list[Lived]) -> None:
    def wrong(one: Lived) -> bool:
        return any(row.reason == "lossy" for row in one.said)

    assert not (found := [one for one in long + begun if wrong(one)]), those(found)


def test_whoever_is_down_stays_so_until_it_is_mended(long: list[Lived]) -> None:
    """But where it is heard, and users alone send what it does not get: that is not known then."""

    def wrong(one: Lived) -> bool:
        states = [row.state for row in one.while_broken()]
        unknown = one.story.fault in DEAF and not one.story.probed
        return not unknown and "down" in states and set(states[states.index("down") :]) != {"down"}

    assert not (found := [one for one in long if wrong(one)]), those(found)


def test_the_reason_of_an_outage_changes_once_at_most(long: list[Lived]) -> None:
    def changes(one: Lived) -> int:
        return len([row for row in one.while_broken() if row.state == "down"]) - 1

    assert not (found := [one for one in long if changes(one) > 1]), those(found)
