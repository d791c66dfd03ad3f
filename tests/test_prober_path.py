"""What is new of one probed peer, found out from its echoes and its machine. No sockets, no clock."""

from __future__ import annotations

import random

import pytest

from wg_exporter.config import ProbeSettings
from wg_exporter.probed import ProbePeer, Verdict
from wg_exporter.prober.echo.book import EchoBook, Reading
from wg_exporter.prober.mtu.machine import PathMtu
from wg_exporter.prober.mtu.probes import Passed, ProbeKind, Route
from wg_exporter.prober.path import Path, tunnel

PEER = ProbePeer(("", "wg0", "k"), 7, 1420, "10.0.0.2", False, "192.0.2.1", 0, "", False, 5.0)
WALL = 1_700_000_000.0  # what the wall clock shows when the monotonic one shows 0


@pytest.fixture
def path() -> Path:
    """A peer that answers nothing yet."""
    return Path(1, PEER, PathMtu(tunnel(PEER), 0.0))


def answer(path: Path, now: float) -> None:
    """Answer all that its machine wants now."""
    for send in path.machine.poll(now):
        if send.kind is ProbeKind.ROUTE:
            path.machine.handle(Route(send.probe, 1500, None, "1"), now)
        else:
            path.machine.handle(Passed(send.probe, 0.01), now)
    path.stale = True


def test_a_report_is_new_when_there_is_a_verdict_and_not_before(path):
    assert not path.renew_report(0.0, WALL)
    answer(path, 1.0)
    assert path.renew_report(1.1, WALL + 1.1)
    assert path.report is not None
    assert (path.report.verdict, path.report.checked) == (Verdict.OK, pytest.approx(WALL + 1.0))


def test_a_report_is_the_same_object_though_the_two_clocks_were_not_read_at_once(path):
    answer(path, 1.0)
    answer(path, 1.1)  # the outer probes, once the route is known
    path.renew_report(1.2, WALL + 1.2)
    before = path.report
    path.stale = True
    assert not path.renew_report(5.0, WALL + 5.3)
    assert path.report == before
    answer(path, 61.0)
    assert path.renew_report(61.1, WALL + 61.1)
    assert path.report.checked == pytest.approx(WALL + 61.0)


def test_a_report_that_holds_no_more_is_taken_back(path):
    answer(path, 1.0)
    path.renew_report(1.1, WALL + 1.1)
    path.machine.change(tunnel(PEER)._replace(mtu=1300), 2.0)
    path.stale = True
    assert path.renew_report(2.0, WALL + 2.0)
    assert path.report is None


def test_statistics_are_told_once_for_each_change(path):
    book = EchoBook(ProbeSettings(), random.Random(1).randbytes, lambda _: setattr(path, "echoed", True))
    path.track = book.put(path.target(), 0.0)
    assert path.new_stats() is None
    (probe,) = book.due(5.0)
    book.sent(probe.place, Reading(WALL + 5, 5.0))
    assert path.new_stats() is None
    book.answer(path.address, probe.place, probe.token, None, Reading(WALL + 5.1, 5.1))
    assert path.new_stats() == ("10.0.0.2", path.track.stats())
    assert path.new_stats() is None
