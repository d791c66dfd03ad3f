"""When a packet socket is open, and what nonsense it is asked for; the sockets are the test's own."""

from __future__ import annotations

import errno
import socket
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wires import OURS, PORT, THEIRS
from wg_exporter.prober.watcher import watcher as module
from wg_exporter.prober.watcher.watcher import Host, Watcher
from wg_exporter.sighted import WatchPeer

BERLIN = WatchPeer(("", "wg0", THEIRS), "", f"192.0.2.2:{PORT}", PORT, OURS)


class Rig:
    """A watcher whose sockets are known by their namespace; in those of `barred` none can be had, for that reason."""

    def __init__(self, monkeypatch):
        self.open, self.barred, self.ports = {}, {}, {}
        self.leaving = []
        rig = self

        class Socket:
            choosy = True

            def __init__(self, netns, ports, _open_socket):
                if netns in rig.barred:
                    raise OSError(rig.barred[netns], "no")
                assert netns not in rig.open
                self.netns = netns
                rig.open[netns], rig.ports[netns] = self, set(ports)

            def listen_to(self, ports):
                rig.ports[self.netns] = set(ports)

            def look_at_leaving(self, *, look):
                rig.leaving.append(look)
                return True

            def read(self, _most):
                return iter(())

            def lost(self):
                return 0

            def close(self):
                del rig.open[self.netns]

        monkeypatch.setattr(module, "WatchSocket", Socket)
        self.watcher = Watcher(Host(socket.socket, None, lambda _netns: 0))

    def watch(self, number, now, seconds=30.0, **changes):
        self.watcher.watch({number: (BERLIN._replace(**changes), seconds)}, now)

    def told(self, now):
        """Which windows are told of, and whether they are open."""
        return {number: row.open for number, row in self.watcher.changes(100, now).rows.items()}


@pytest.fixture
def rig(monkeypatch):
    return Rig(monkeypatch)


def test_a_socket_is_open_from_the_first_window_in_a_namespace_to_the_end_of_the_last(rig):
    assert rig.watcher.poll(0.0) == inf
    rig.watch(1, 0.0)
    rig.watch(2, 10.0)
    rig.watch(3, 10.0, 5.0, underlay="blue")
    assert set(rig.open) == {"", "blue"}
    assert rig.told(10.0) == {1: True, 2: True, 3: True}
    rig.watcher.poll(15.0)
    assert set(rig.open) == {""}
    rig.watcher.poll(30.0)
    assert {number for number, is_open in rig.told(30.0).items() if not is_open} == {1, 3}
    rig.watcher.poll(40.0)
    assert (rig.open, rig.watcher.open, rig.told(40.0)) == ({}, False, {2: False})


def test_who_waits_for_an_answer_sees_what_leaves_from_the_first_moment_on(rig):
    rig.watcher.watch({1: (BERLIN, 30.0)}, 0.0, all_along=True)
    assert rig.leaving == [True]
    for second in range(20):
        rig.watcher.poll(float(second))
    assert rig.leaving == [True]
    rig.watch(2, 20.0, underlay="blue")
    assert rig.leaving == [True]  # the exporter's own: not before it knows how much leaves


def test_the_filter_follows_the_ports_of_those_that_are_watched(rig):
    rig.watch(1, 0.0)
    rig.watch(2, 0.0, 5.0, port=7)
    assert rig.ports[""] == {PORT, 7}
    rig.watcher.poll(6.0)
    assert rig.ports[""] == {PORT}


def test_a_peer_whose_socket_is_elsewhere_now_is_watched_there(rig):
    rig.watch(1, 0.0)
    rig.watch(1, 1.0, underlay="blue")
    assert set(rig.open) == {"blue"}


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.EPERM, "CAP_NET_RAW is missing"), (errno.EAFNOSUPPORT, "RestrictAddressFamilies"), (errno.EMFILE, "no")],
)
def test_where_no_socket_can_be_had_nothing_is_told_but_the_reason(rig, number, why):
    rig.barred = {"blue": number}
    rig.watch(1, 0.0, underlay="blue")
    rig.watcher.poll(1.0)
    assert rig.watcher.problem.startswith("no packet socket in blue: ")
    assert why in rig.watcher.problem
    assert (rig.told(1.0), rig.watcher.open) == ({}, False)
    rig.barred = {}
    rig.watch(1, 2.0, underlay="blue")
    assert (rig.watcher.problem, set(rig.open)) == ("", {"blue"})


def test_a_namespace_that_is_gone_ends_its_windows(rig):
    rig.watch(1, 0.0, underlay="blue")
    rig.watcher.forget("blue", 3.0)
    rig.watcher.forget("red", 3.0)
    assert (rig.open, rig.told(3.0)) == ({}, {1: False})


def test_no_window_is_longer_than_the_longest(rig):
    rig.watch(1, 0.0, 1e300)
    rig.watch(2, 0.0, inf)
    rig.watcher.poll(module.LONGEST)
    assert rig.open == {}


@pytest.mark.parametrize("seconds", [0.0, -1.0, -inf, nan])
def test_a_window_of_no_time_is_none(rig, seconds):
    rig.watch(1, 0.0, seconds)
    assert rig.open == {}


@pytest.mark.parametrize("port", [0, -1, 65_536, 1 << 40])
def test_a_port_that_there_is_not_is_not_watched(rig, port):
    rig.watch(1, 0.0, port=port)
    assert rig.open == {}


def test_there_are_not_more_windows_than_a_bound(rig, monkeypatch):
    monkeypatch.setattr(module, "MOST_PEERS", 3)
    for number in range(9):
        rig.watch(number, 0.0)
    assert len(rig.told(0.0)) == 3


def test_closing_ends_all(rig):
    rig.watch(1, 0.0)
    rig.watch(2, 0.0, underlay="blue")
    rig.watcher.close()
    assert rig.open == {}


ROWS = st.builds(
    WatchPeer,
    st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=50)),
    st.sampled_from(["", "blue"]),
    st.text(max_size=30) | st.just("[2001:db8::2]:51820") | st.just("192.0.2.2:99999999999"),
    st.integers(-(1 << 70), 1 << 70) | st.integers(1, 65_535),
    st.text(max_size=50),
)


@given(st.lists(st.tuples(st.integers(0, 5), ROWS, st.floats(), st.floats(0, 50)), max_size=12))
def test_fuzz_whatever_is_asked_for_every_window_ends(asked):
    with pytest.MonkeyPatch.context() as patch:
        rig, now = Rig(patch), 0.0
        for number, row, seconds, after in asked:
            now += after
            rig.watcher.watch({number: (row, seconds)}, now)
            rig.watcher.poll(now)
            rig.watcher.changes(3, now)
        rig.watcher.poll(now + module.LONGEST + 1)
        assert rig.open == {}
