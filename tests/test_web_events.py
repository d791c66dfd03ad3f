"""`/api/v1/events` over HTTP: what is answered, and that who follows keeps nobody from being answered."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time

import pytest

from tests.certificates import certificate
from tests.rows import WALL, key
from tests.serving import App, eventually, running
from wg_exporter.events import Kind, event
from wg_exporter.web import events as following
from wg_exporter.web.policy import OPEN, Policy, made
from wg_exporter.web.server import Limits
from wg_exporter.web.unix import UnixSocket

FOLLOW = b"GET /api/v1/events?follow=true HTTP/1.1\r\nHost: x\r\n\r\n"
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def roamed(n):
    return event(Kind.ROAMING, WALL + n, ("", "wg0"), public_key=key(n), before="192.0.2.1:5", after="192.0.2.9:6")


def numbers(body):
    return [json.loads(line)["number"] for line in body.split(b"\n") if line.strip()]


class Follower:
    """Follows over a socket, and takes chunks apart."""

    def __init__(self, sock, request=FOLLOW):
        self.sock = sock
        sock.sendall(request)
        self.file = sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            self.headers[name.lower()] = value

    def part(self):
        """The next chunk; None at the end."""
        size = int(self.file.readline(), 16)
        data = self.file.read(size + 2)[:-2]
        return data if size else None

    def close(self):
        self.file.close()
        self.sock.close()


@pytest.fixture
def server():
    with running() as found:
        yield found


@pytest.fixture
def follow(server):
    made_ = []

    def begin(request=FOLLOW, sock=None):
        made_.append(Follower(sock or server.connect(), request))
        return made_[-1]

    yield begin
    for one in made_:
        one.close()


# --- once -------------------------------------------------------------------------------------------------------------


def test_the_events_are_lines_of_json_the_oldest_first_and_none_is_no_error(server):
    answer = server.get("/api/v1/events")
    assert (answer.status, answer.body) == (200, b"")
    server.happen(roamed(1), roamed(2))
    answer = server.get("/api/v1/events")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.headers["Cache-Control"] == "no-store"
    first, second = map(json.loads, answer.body.splitlines())
    assert (first["number"], first["kind"], first["interface"], second["time"]) == (1, "roaming", "wg0", WALL + 2)
    assert first["text"] == f"{key(1)[:8]} on wg0: roamed to 192.0.2.9:6 (was 192.0.2.1:5)"


def test_they_can_be_asked_for_by_time_by_number_and_the_last_of_them(server):
    server.happen(*(roamed(n) for n in range(9)))
    for query, found in (
        (f"since={WALL + 7}", [8, 9]),
        ("after=6", [7, 8, 9]),
        ("last=1", [9]),
        (f"after=3&since={WALL}&last=2", [8, 9]),
        ("follow=false&after=8", [9]),
    ):
        assert numbers(server.get(f"/api/v1/events?{query}").body) == found, query


def test_what_makes_no_sense_is_400_with_one_line(server):
    for query in ("since=yesterday", "after=x", "last=-1", "follow=1"):
        answer = server.get(f"/api/v1/events?{query}")
        assert (answer.status, answer.body.count(b"\n")) == (400, 1)
    assert server.get("/api/v1/events", "POST").status == 405


def test_head_of_what_would_be_followed_ends(server):
    assert server.get("/api/v1/events?follow=true", "HEAD").status == 200


def test_who_asks_for_them_in_ever_other_ways_keeps_one_thread_busy_and_no_more(server, follow):
    under_way, most = [], []
    answer = server.app.events

    def slow(*args, **more):
        under_way.append(None)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()
        return answer(*args, **more)

    server.app.events = slow
    crowd = [threading.Thread(target=server.get, args=(f"/api/v1/events?since={n}",)) for n in range(8)]
    for one in crowd:
        one.start()
    for _ in range(4):
        follow()
    for one in crowd:
        one.join()
    eventually(lambda: len(most) == 12)
    assert max(most) == 1


def test_a_list_of_targets_that_takes_long_does_not_keep_events_waiting(server, follow):
    server.app.list_gate.clear()
    listing = threading.Thread(target=server.get, args=("/sd?port=9100",))
    listing.start()
    try:
        assert server.app.begun.wait(5)
        server.happen(roamed(1))
        assert numbers(server.get("/api/v1/events").body) == [1]
        assert numbers(follow().part()) == [1]
        assert listing.is_alive()
    finally:
        server.app.list_gate.set()
        listing.join()


# --- as it happens ----------------------------------------------------------------------------------------------------


def test_who_follows_gets_what_there_is_and_each_event_when_it_happens(server, follow, monkeypatch):
    monkeypatch.setattr(following, "BEAT", 600.0)
    server.happen(roamed(1))
    one = follow()
    assert (one.status, one.headers["transfer-encoding"], one.headers["connection"]) == (200, "chunked", "close")
    assert numbers(one.part()) == [1]
    for n in (2, 3):
        server.happen(roamed(n))
        assert numbers(one.part()) == [n]


def test_who_wants_none_of_before_gets_only_what_comes(server, follow):
    server.happen(roamed(1), roamed(2))
    one = follow(b"GET /api/v1/events?follow=true&last=0 HTTP/1.1\r\nHost: x\r\n\r\n")
    other = follow(b"GET /api/v1/events?follow=true&after=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert numbers(other.part()) == [2]
    server.happen(roamed(3), roamed(4))
    assert numbers(one.part()) == numbers(other.part()) == [3, 4]


def test_over_http_1_0_the_lines_come_without_chunks_until_the_connection_ends():
    with running() as server, server.connect() as sock:
        server.happen(roamed(1))
        one = Follower(sock, b"GET /api/v1/events?follow=true HTTP/1.0\r\n\r\n")
        assert "transfer-encoding" not in one.headers
        assert json.loads(one.file.readline())["number"] == 1
        server.happen(roamed(2))
        assert json.loads(one.file.readline())["number"] == 2


def test_while_nothing_happens_an_empty_line_says_that_the_exporter_lives(server, follow, monkeypatch):
    monkeypatch.setattr(following, "BEAT", 0.1)
    one = follow()
    assert [one.part(), one.part()] == [b"\n", b"\n"]
    server.happen(roamed(1))
    while (part := one.part()) == b"\n":
        pass
    assert numbers(part) == [1]


def test_who_follows_is_told_of_the_end_in_time_when_the_exporter_stops():
    with running() as server:
        one = Follower(server.connect())
        begun = time.monotonic()
    assert one.part() is None
    assert one.file.read() == b""
    assert time.monotonic() - begun < 25
    one.close()


def test_over_tls_it_is_the_same(tmp_path):
    certificate(tmp_path, "one")
    paths = {"cert": str(tmp_path / "one.crt"), "key": str(tmp_path / "one.key")}
    policy = made("tls_server_config: {cert_file: c, key_file: k}\n", "web.yml", paths)
    context = ssl.create_default_context(cafile=paths["cert"])
    with running(policy=policy) as server:
        one = Follower(context.wrap_socket(server.connect(), server_hostname="127.0.0.1"))
        server.happen(roamed(1))
        assert numbers(one.part()) == [1]
        server.happen(roamed(2))
        assert numbers(one.part()) == [2]
        one.close()


def test_when_it_changes_who_may_ask_those_who_follow_have_to_ask_again(server, follow):
    one = follow()
    server.use(Policy(OPEN))
    with contextlib.suppress(ConnectionResetError):
        assert one.file.read() == b""
    assert follow().status == 200


def test_who_begins_to_follow_when_he_has_to_connect_anew_does_not_stay(tmp_path):
    """He had asked in the clear before TLS was wanted, and would be told in the clear for as long as he likes."""
    certificate(tmp_path, "one")
    paths = {"cert": str(tmp_path / "one.crt"), "key": str(tmp_path / "one.key")}
    with running(limits=Limits(answers=1)) as server, server.connect() as busy, server.connect() as sock:
        server.app.gate.clear()
        busy.sendall(SCRAPE)
        eventually(lambda: len(server.server._clients._busy) == 1)
        sock.sendall(FOLLOW)
        eventually(lambda: len(server.server._clients._queued) == 1)
        server.happen(roamed(1))
        server.use(made("tls_server_config: {cert_file: c, key_file: k}\n", "web.yml", paths))
        server.app.gate.set()
        one = Follower(sock, b"")
        assert (one.status, one.part()) == (200, None)
        assert one.file.read() == b""


# --- and keeps nobody from being answered -----------------------------------------------------------------------------


def test_followers_hold_none_of_the_places_in_which_scrapes_are_answered():
    with running(limits=Limits(answers=2, followers=8)) as server:
        held = [Follower(server.connect()) for _ in range(8)]
        for _ in range(20):
            assert server.get("/metrics").status == 200
        server.happen(roamed(1))
        assert [numbers(one.part()) for one in held] == [[1]] * 8
        for one in held:
            one.close()


def test_only_a_few_may_follow_and_those_at_the_unix_socket_have_places_of_their_own(tmp_path):
    unix = UnixSocket(str(tmp_path / "s"))
    with running(limits=Limits(followers=3), unix=unix) as server:
        held = [Follower(server.connect()) for _ in range(3)]
        refused = server.get("/api/v1/events?follow=true")
        assert (refused.status, refused.body.count(b"\n")) == (429, 1)
        assert server.get("/api/v1/events").status == 200
        own = []
        for _ in range(3):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(30)
            sock.connect(str(tmp_path / "s"))
            own.append(Follower(sock))
        assert [one.status for one in own] == [200] * 3
        for one in (*held, *own):
            one.close()


def test_a_follower_that_has_gone_gives_its_place_back_to_whoever_wants_it():
    with running(limits=Limits(followers=1)) as server:
        Follower(server.connect()).close()

        def again():
            with server.connect() as sock:
                return Follower(sock).status == 200

        eventually(again)


def test_where_there_is_no_room_a_follower_goes_before_a_newcomer_is_refused():
    with running(limits=Limits(connections=16)) as server:
        held = [Follower(server.connect()) for _ in range(2)]
        server.app.gate.clear()
        busy = []
        for _ in range(14):
            busy.append(server.connect())
            busy[-1].sendall(SCRAPE)
        eventually(lambda: len(server.server._clients) == 16)
        time.sleep(0.7)  # nobody is new any more
        newcomer = server.connect()
        newcomer.sendall(SCRAPE)
        server.app.gate.set()
        assert newcomer.recv(12) == b"HTTP/1.1 200"
        with contextlib.suppress(ConnectionResetError):
            assert held[0].file.read() == b""
        for sock in (*busy, newcomer):
            sock.close()
        for one in held:
            one.close()


def test_a_follower_that_does_not_read_is_cut_off_and_the_others_go_on(caplog):
    caplog.set_level("INFO")
    with running(limits=Limits(write=1)) as server:
        stuck = Follower(server.connect(2048))
        other = Follower(server.connect())
        seen: list[int] = []
        made, ended = 0, threading.Event()

        def read():
            while not ended.is_set() or seen[-1] < made:
                seen.extend(numbers(other.part()))

        def cut_off():
            return "too slow" in [line.fields.get("reason") for line in caplog.records]

        reading = threading.Thread(target=read)
        reading.start()
        text = "x" * 900
        end = time.monotonic() + 60
        while not cut_off():
            assert time.monotonic() < end
            rows = [event(Kind.DRIFT, WALL, ("", f"wg{m}"), after=text[:300], evidence=text) for m in range(100)]
            server.happen(*rows)
            made += len(rows)
            assert server.get("/metrics").status == 200
        made += 1
        ended.set()
        server.happen(roamed(1))
        reading.join(30)
        assert seen[-1] == made
        stuck.close()
        other.close()


def test_a_crowd_that_follows_and_leaves_keeps_no_scrape_out():
    with running(App(), limits=Limits(connections=40, followers=16)) as server:
        for _ in range(30):
            crowd = []
            for _ in range(20):
                with contextlib.suppress(OSError):
                    crowd.append(server.connect())
                    crowd[-1].sendall(FOLLOW)
            server.happen(roamed(1))
            assert server.get("/metrics").status == 200
            for sock in crowd:
                sock.close()


def test_pipelined_requests_behind_one_that_follows_are_not_answered(server):
    with server.connect() as sock:
        sock.sendall(FOLLOW + SCRAPE)
        server.happen(roamed(1))
        data = b""
        while b"roamed" not in data:
            data += sock.recv(4096)
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                data += sock.recv(4096)
        assert data.count(b"HTTP/1.1") == 1
