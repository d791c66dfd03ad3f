"""The process that looks names up: it answers, whatever becomes of a lookup, and has no right."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import eventually
from wg_exporter.hostnames import MOST_ADDRESSES, LookupFailure
from wg_exporter.messages.channel import ConnectionEndedError
from wg_exporter.messages.packets import Packets
from wg_exporter.messages.resolver import MOST_AT_ONCE, Answer, FromResolver, Question, ToResolver
from wg_exporter.remote.resolver import OwnResolver
from wg_exporter.resolver import __main__ as resolver
from wg_exporter.resolver.__main__ import Lookups, _Found, look_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def found(*addresses: str) -> _Found:
    return _Found(tuple((address, 51820) for address in addresses), None)


def looked(host: str, _port: str) -> _Found:
    """What each host of these tests comes to."""
    match host:
        case "hangs":
            time.sleep(60)
        case "crashes":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raises":
            raise RuntimeError("a bug")
        case "silent":
            os._exit(0)
        case "many":
            return found(*(f"192.0.2.{n}" for n in range(MOST_ADDRESSES + 1)))
        case "none":
            return found()
    return found("192.0.2.1", "2001:db8::1")


class Asked:
    """The process, and the other end of its socket."""

    def __init__(self, look: Callable[[str, str], _Found] = looked) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            try:
                ours.close()
                Lookups(theirs, look).run()
            finally:
                os._exit(0)
        theirs.close()
        self.packets = Packets(ours, FromResolver)

    def ask(self, *hosts: str) -> None:
        for number, host in enumerate(hosts, 1):
            self.packets.send(Question(number, host, "51820"))

    def hear(self, within: float = 30.0) -> Answer:
        message, files = eventually(self.packets.receive, within=within, every=0.005)
        assert not files
        return message

    def ended(self) -> bool:
        """Whether the process has ended; it is waited for."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        except ChildProcessError:
            return True


@pytest.fixture
def asked() -> Iterator[Asked]:
    one = Asked()
    yield one
    one.packets.close()
    eventually(one.ended, within=30)


def test_a_name_is_looked_up_and_what_it_cost_is_told(asked):
    asked.ask("vpn")
    answer = asked.hear()
    assert (answer.number, answer.failure) == (1, None)
    assert answer.addresses == (("192.0.2.1", 51820), ("2001:db8::1", 51820))
    assert answer.usage.resident > 0


@pytest.mark.parametrize("host", ["crashes", "raises", "silent", "many", "none"])
def test_a_lookup_that_goes_wrong_is_an_answer_that_can_not_be_used_and_the_next_goes_well(asked, host):
    asked.ask(host)
    answer = asked.hear()
    assert (answer.addresses, answer.failure) == ((), LookupFailure.UNUSABLE)
    asked.ask("vpn")
    assert asked.hear().failure is None


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_lookup_that_hangs_is_late_is_killed_and_holds_up_no_other(monkeypatch):
    monkeypatch.setattr(resolver, "PATIENCE", 2.5)
    one = Asked()
    begun = time.monotonic()
    one.ask("hangs", "vpn")
    assert one.hear().number == 2
    late = one.hear()
    assert (late.number, late.failure) == (1, LookupFailure.LATE)
    assert time.monotonic() - begun >= 2.5
    assert children(one.pid) == []
    one.packets.close()
    eventually(one.ended, within=30)


def test_it_ends_with_its_socket_and_nothing_that_it_began_is_left(asked):
    asked.ask("hangs", "hangs")
    began = eventually(lambda: len(found := children(asked.pid)) == 2 and found, within=30)
    asked.packets.close()
    eventually(asked.ended, within=30)
    assert not any(Path(f"/proc/{child}").exists() for child in began)


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_when_it_is_killed_its_lookups_end_too_even_if_they_have_hardly_begun(monkeypatch, late):
    fork = os.fork

    def slow() -> int:
        if not (pid := fork()):
            time.sleep(late)
        return pid

    monkeypatch.setattr(os, "fork", slow)
    one = Asked()
    one.ask("hangs")
    (child,) = eventually(lambda: children(one.pid), within=30, every=0.01)
    os.kill(one.pid, signal.SIGKILL)
    eventually(one.ended, within=30)
    eventually(lambda: not Path(f"/proc/{child}/exe").exists(), within=30)
    one.packets.close()


def test_more_questions_than_were_agreed_upon_end_it(asked):
    asked.ask(*["hangs"] * (MOST_AT_ONCE + 1))
    eventually(asked.ended, within=30)


@given(st.binary(min_size=1, max_size=300))
def test_no_bytes_do_anything_else_than_end_the_connection(data):
    for incoming, kind in ((ToResolver, Question), (FromResolver, Answer)):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.closing(Packets(ours, incoming)) as packets, theirs:
            theirs.send(data)
            with contextlib.suppress(ConnectionEndedError):
                message, files = packets.receive()
                assert isinstance(message, kind)
                assert files == []


# --- what it asks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def libc(monkeypatch):
    """getaddrinfo(3), played: what it is asked, and what it answers."""

    class Played:
        asked: tuple[object, ...] = ()
        answer: object = None

        def __call__(self, *asked: object) -> object:
            self.asked = asked
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    played = Played()
    monkeypatch.setattr(socket, "getaddrinfo", played)
    return played


def test_it_asks_as_wg_does_and_keeps_the_order_of_the_answer(libc):
    libc.answer = [
        (socket.AF_INET6, 2, 17, "", ("2001:db8::1", 51820, 0, 0)),
        (socket.AF_INET, 2, 17, "", ("192.0.2.1", 51820)),
        (socket.AF_INET, 2, 17, "", ("192.0.2.1", 51820)),
    ]
    assert look_up("bücher.example", "51820").addresses == (("2001:db8::1", 51820), ("192.0.2.1", 51820))
    host, port, *hints = libc.asked
    assert (host, port) == ("bücher.example".encode(), b"51820"), "without IDNA"
    assert hints == [socket.AF_UNSPEC, socket.SOCK_DGRAM, socket.IPPROTO_UDP]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), LookupFailure.NOT_FOUND),
        (socket.gaierror(socket.EAI_NODATA, "x"), LookupFailure.NOT_FOUND),
        (socket.gaierror(socket.EAI_AGAIN, "x"), LookupFailure.NO_ANSWER),
        (socket.gaierror(socket.EAI_FAIL, "x"), LookupFailure.REFUSED),
        (socket.gaierror(socket.EAI_SERVICE, "x"), LookupFailure.NO_SERVICE),
        (socket.gaierror(socket.EAI_MEMORY, "x"), LookupFailure.UNUSABLE),
        (OSError(24, "x"), LookupFailure.NO_ANSWER),
        (UnicodeError(), LookupFailure.UNUSABLE),
    ],
)
def test_why_a_name_has_no_address_is_a_word_of_a_closed_set(libc, error, failure):
    libc.answer = error
    assert look_up("vpn", "51820") == _Found((), failure)


def test_as_a_child_of_its_own_it_has_no_right_and_ends_with_the_socket():
    own = OwnResolver()
    packets = Packets(own(), FromResolver)
    (process,) = own._before
    packets.send(Question(7, "127.1", "51820"))  # no server is asked for that
    message, _files = eventually(packets.receive, within=30)
    assert (message.number, message.addresses) == (7, (("127.0.0.1", 51820),))
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "Name:\twg-dns\n" in status
    if os.geteuid() == 0:
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"\n{name}:\t{0:016x}\n" in status or (name == "CapBnd" and os.geteuid())
    assert "\nNoNewPrivs:\t1\n" in status
    packets.close()
    assert process.wait(30) == 0


def test_a_second_one_is_started_when_it_is_asked_for_again():
    own = OwnResolver()
    first = Packets(own(), FromResolver)
    os.kill(own._before[0].pid, signal.SIGKILL)
    own._before[0].wait(30)
    with pytest.raises(ConnectionEndedError):
        eventually(first.receive, within=30)
    first.close()
    second = Packets(own(), FromResolver)
    second.send(Question(1, "127.1", "1"))
    assert eventually(second.receive, within=30)[0].failure is None
    second.close()
    assert own._before[0].wait(30) == 0
