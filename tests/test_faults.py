"""What each tunnel of the story in faults.py is called, and after how many seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults import BEFORE, FAULTS, WELL, Fault, Story, told
from tests.lab.exporting import lab_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

DOWN = [fault for fault in FAULTS if fault.state == "down"]
DEGRADED = [fault for fault in FAULTS if fault.state == "degraded"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("faults")
    with lab_or_skip(directory / "lab") as lab:
        yield told(lab, directory)


@pytest.mark.parametrize("fault", DOWN, ids=lambda fault: fault.peer)
def test_a_tunnel_that_is_broken_is_down_in_time_and_for_the_right_reason(story: Story, fault: Fault) -> None:
    rows = story.while_broken(fault.peer)
    down = next(row for row in rows if row.state == "down")
    assert down.reason in {fault.reason, *fault.also}
    assert rows[-1].reason in {fault.reason, *(fault.also if fault.peer == "cut" else ())}
    assert fault.earliest <= down.at <= fault.latest
    # Whoever goes on sending is heard while its target is silent, and nothing else is said on the way down.
    before = [(row.state, row.reason) for row in rows[: rows.index(down)]]
    assert before in ([("up", "")], [("up", ""), ("degraded", "target_silent")])
    assert {row.state for row in rows[rows.index(down) :]} == {"down"}


@pytest.mark.parametrize("peer", [fault.peer for fault in DOWN])
def test_a_tunnel_that_is_mended_is_up_again_and_stays_so(story: Story, peer: str) -> None:
    assert [row.state for row in story.afterwards(peer) if row.state != "down"] == ["up"]


def test_a_tunnel_that_was_broken_before_the_start_is_down_from_the_first_and_stays_so(story: Story) -> None:
    assert {row.state for row in story.seen[BEFORE]} == {"down"}
    assert story.seen[BEFORE][-1].reason == "data_unanswered"


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if fault.state == "degraded"], ids=lambda fault: fault.peer
)
def test_what_is_no_fault_of_the_tunnel_is_degraded_and_never_down(story: Story, fault: Fault) -> None:
    _, first, *later = story.while_broken(fault.peer)
    assert (first.state, first.reason) == ("degraded", fault.reason)
    assert fault.earliest <= first.at <= fault.latest
    assert later == []


@pytest.mark.parametrize("peer", WELL)
def test_whoever_is_well_stays_up(story: Story, peer: str) -> None:
    assert {(row.state, row.reason) for row in story.seen[peer]} == {("up", "")}


def test_each_of_them_has_a_line_in_the_log_with_what_was_seen(story: Story) -> None:
    downs = {}
    for line in story.log.splitlines():
        if "peer changed" in line and ("after=down" in line or "after=degraded" in line):
            downs[line.split("peer=")[1].split()[0]] = line
    assert "unanswered for" in downs["mute"]
    assert "starts handshakes again and again" in downs["deaf"]
    assert "starts handshakes again and again" in downs["loud"] or "seen leaving this host" in downs["loud"]
    assert "no_permission" in downs["walled"]
    assert "neither its daemon nor any probe answers" in downs["stuck"]
