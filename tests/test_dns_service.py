"""The thread between the passes of the reader and the resolver, which the test plays."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab import eventually
from tests.rows import WALL, conf_file, declared, device, key, peer
from wg_exporter.hostnames import HostName, LookupFailure
from wg_exporter.linux.errors import SourceError
from wg_exporter.messages.packets import Packets
from wg_exporter.messages.resolver import Answer, Question, ToResolver
from wg_exporter.model import Usage
from wg_exporter.reader.dns import service
from wg_exporter.reader.dns.reresolve import EVERY, SILENT
from wg_exporter.reader.dns.service import HostNames
from wg_exporter.sources import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "vpn.example.org:51820"
CONF = (conf_file("wg0", declared(1, endpoint=NAME), declared(2, endpoint="192.0.2.2:51820")),)


class Played:
    """The service, and each resolver that it asks for; the time is the test's."""

    def __init__(self, *, writes: bool = False) -> None:
        self.now = 1000.0
        self.resolvers: list[Packets[ToResolver]] = []
        self.raw: list[socket.socket] = []
        self.set: list[tuple[str, ...]] = []
        self.refuses = ""
        self.no_resolver: OSError | None = None
        clock = Clock(lambda: WALL + self.now, lambda: self.now, lambda: 0.0)
        self.names = HostNames(self._connect, clock, self._set if writes else None)
        self.devices = [device(peer(1, rx_bytes=1), peer(2))]

    def _connect(self) -> socket.socket:
        if self.no_resolver:
            raise self.no_resolver
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.raw.append(theirs)
        self.resolvers.append(Packets(theirs, ToResolver))
        return ours

    def _set(self, interface, backend, public_key, endpoint) -> None:
        if self.refuses:
            raise SourceError(self.refuses)
        self.set.append((interface, str(backend), public_key, endpoint))

    def look(self, conf=CONF) -> None:
        self.names.look(self.devices, conf)

    def asked(self) -> Question:
        """The next question, to the latest resolver."""
        eventually(lambda: self.resolvers, within=30, every=0.002)
        return eventually(self.resolvers[-1].receive, within=30, every=0.002)[0]

    def answer(self, *addresses: tuple[str, int], failure: LookupFailure | None = None, cpu: float = 0.5) -> HostName:
        """Answer the next question. Returns what is known then."""
        before, number = self.names.rows, self.asked().number
        self.resolvers[-1].send(Answer(number, addresses, failure, Usage(cpu, 1.0, 2.0, 3.0)))
        return eventually(lambda: self.names.rows is not before and self.names.rows, within=30, every=0.002)[0]


@pytest.fixture
def played() -> Iterator[Played]:
    one = Played()
    yield one
    stop(one)


@pytest.fixture
def writing() -> Iterator[Played]:
    one = Played(writes=True)
    yield one
    stop(one)


def stop(one: Played) -> None:
    one.names.stop()
    for resolver in one.resolvers:
        resolver.close()
    eventually(lambda: "host names" not in [thread.name for thread in threading.enumerate()], within=30)


def test_a_host_without_names_asks_for_no_resolver_and_has_no_thread(played):
    played.look(conf=(conf_file("wg0", declared(1, endpoint="192.0.2.1:51820"), declared(2)),))
    played.look(conf=(conf_file("wg7", declared(1, endpoint=NAME)),))  # an interface that is not there
    assert "host names" not in [thread.name for thread in threading.enumerate()]
    assert not played.resolvers
    assert played.names.rows == ()


def test_a_name_is_asked_for_and_what_it_resolves_to_is_known(played):
    played.look()
    found = played.answer(("192.0.2.9", 51820), ("2001:db8::9", 51820))
    assert found == HostName(NAME, ("192.0.2.9:51820", "[2001:db8::9]:51820"), WALL + 1000)
    assert played.names.usage == Usage(0.5, 1.0, 2.0, 3.0)
    assert played.names.reresolved is None


def test_the_question_is_the_host_and_the_port_of_the_file(played):
    played.look()
    asked = played.asked()
    assert (asked.host, asked.port) == ("vpn.example.org", "51820")


@pytest.mark.parametrize(
    "addresses",
    [
        (("vpn.example.org", 51820),),
        (("192.0.2.9", 65536),),
        (("192.0.2.9", -1),),
        (("192.0.2.9\n", 1),),
        (("", 1),),
        (),
    ],
)
def test_what_is_no_address_is_no_answer(played, addresses):
    played.look()
    assert played.answer(*addresses).failure is LookupFailure.UNUSABLE


def test_a_failure_is_known_by_its_word(played):
    played.look()
    assert played.answer(failure=LookupFailure.NOT_FOUND) == HostName(
        NAME, (), 0.0, LookupFailure.NOT_FOUND, failed_since=WALL + 1000
    )


def test_a_pass_never_waits_while_the_resolver_hangs(played):
    played.look()
    played.asked()
    begun = time.monotonic()
    for _ in range(1000):
        played.look()
        assert played.names.rows == ()
    assert time.monotonic() - begun < 5
    played.now += 30
    played.look()
    found = eventually(lambda: played.names.rows, within=30)
    assert found[0].failure is LookupFailure.LATE


def test_a_resolver_that_ends_is_asked_for_again_after_a_pause(played, monkeypatch):
    monkeypatch.setattr(service, "FIRST_PAUSE", 1.0)
    played.look()
    played.asked()
    played.resolvers[0].close()
    eventually(lambda: played.names.rows and played.names.rows[0].failure is LookupFailure.UNUSABLE, within=30)
    played.now += 61
    played.look()
    eventually(lambda: len(played.resolvers) == 2, within=30)
    assert played.answer(("192.0.2.9", 51820)).failure is None


def test_the_processor_time_of_resolvers_never_goes_back(played):
    played.look()
    played.answer(("192.0.2.9", 51820), cpu=2.0)
    for cpu, total in ((3.0, 3.0), (0.5, 3.5), (1.0, 4.0)):  # the second by another process on the same socket
        played.now += 500
        played.look()
        played.answer(("192.0.2.9", 51820), cpu=cpu)
        assert played.names.usage == Usage(total, 1.0, 2.0, 3.0)
    played.resolvers[0].close()
    eventually(lambda: played.names.usage == Usage(4.0), within=30)
    played.now += 500
    played.look()
    eventually(lambda: len(played.resolvers) == 2, within=30)
    played.answer(("192.0.2.9", 51820), cpu=0.25)
    assert played.names.usage == Usage(4.25, 1.0, 2.0, 3.0)


def test_one_that_can_not_be_started_is_no_answer_and_is_tried_again(played):
    played.no_resolver = OSError(11, "no more processes")
    played.look()
    eventually(lambda: played.names.rows and played.names.rows[0].failure is LookupFailure.UNUSABLE, within=30)
    played.no_resolver = None
    played.now += 61
    played.look()
    assert played.answer(("192.0.2.9", 51820)).failure is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_no_bytes_from_the_resolver_do_anything_but_end_the_connection(packets):
    played = Played(writes=True)
    try:
        played.look()
        played.asked()
        with contextlib.suppress(OSError):
            for data in packets:
                played.raw[0].setblocking(True)
                played.raw[0].send(data)
        played.now += 120
        played.look()
        eventually(lambda: len(played.resolvers) == 2 or played.names.rows, within=30)
        assert played.set == []
    finally:
        stop(played)


# --- what is set ------------------------------------------------------------------------------------------------------


def fall_silent(played: Played) -> None:
    """Let a minute go by in which nothing comes from it."""
    played.look()
    played.answer(("198.51.100.7", 51820))
    played.now += EVERY
    played.look()


def go_down(played: Played) -> None:
    """It falls silent; then it is said to be down."""
    fall_silent(played)
    played.names.unwell(frozenset({("wg0", key(1), True)}))


def test_the_endpoint_of_a_peer_that_is_down_is_set_logged_and_counted(writing, caplog):
    caplog.set_level("INFO")
    go_down(writing)
    writing.answer(("198.51.100.7", 51820))
    writing.now += SILENT
    writing.look()
    eventually(lambda: writing.set, within=30)
    assert writing.set == [("wg0", "kernel", key(1), "198.51.100.7:51820")]
    assert eventually(lambda: writing.names.reresolved, within=30) == (("wg0", key(1), 1),)
    (line,) = [record.fields for record in caplog.records if "endpoint set" in record.getMessage()]
    assert (line["before"], line["after"]) == ("192.0.0.1:51820", "198.51.100.7:51820")
    assert line["host_name"] == NAME


def test_one_that_can_not_be_set_is_told_and_not_counted(writing, caplog):
    writing.refuses = "its daemon refuses it"
    go_down(writing)
    writing.answer(("198.51.100.7", 51820))
    writing.now += SILENT
    writing.look()
    eventually(lambda: any("endpoint not set" in record.getMessage() for record in caplog.records), within=30)
    assert writing.names.reresolved == ()


def test_one_that_is_only_degraded_or_unknown_to_the_files_is_not_set(writing):
    fall_silent(writing)
    writing.names.unwell(frozenset({("wg0", key(1), False), ("wg0", key(2), True), ("wg9", key(9), True)}))
    writing.answer(("198.51.100.7", 51820))
    for _ in range(20):
        writing.now += 10
        writing.look()
        time.sleep(0.01)
    assert writing.set == []


def test_without_leave_nothing_is_ever_set(played):
    go_down(played)
    played.answer(("198.51.100.7", 51820))
    for _ in range(20):
        played.now += 10
        played.look()
        time.sleep(0.01)
    assert played.set == []
