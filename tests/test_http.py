"""Requests of HTTP/1.1 from bytes that come in any pieces, and from bytes that are no request."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wg_exporter.web.http import LONGEST_HEAD, MOST_FIELDS, BadRequestError, Exchange, date

GET = b"GET /metrics?a=1&b=%C3%BC HTTP/1.1\r\nHost: gw1\r\nAccept: text/plain\r\nAccept: */*\r\n\r\n"


def fed(*pieces: bytes) -> Exchange:
    exchange = Exchange()
    for piece in pieces:
        exchange.receive(piece)
    return exchange


@given(st.integers(0, 253_402_300_799))
def test_a_time_is_written_as_in_mail_and_all_headers(seconds):
    assert date(seconds) == formatdate(seconds, usegmt=True)


@pytest.mark.parametrize("size", [1, 2, 7, len(GET)])
def test_a_request_is_the_same_in_whatever_pieces_it_comes(size):
    exchange = Exchange()
    for start in range(0, len(GET), size):
        assert exchange.next() is None
        exchange.receive(GET[start : start + size])
        assert exchange.begun
    request = exchange.next()
    assert (request.method, request.path, dict(request.query)) == ("GET", "/metrics", {"a": "1", "b": "ü"})
    assert (request.header("accept"), request.header("HOST"), request.header("cookie")) == ("text/plain,*/*", "gw1", "")
    assert not request.local


def test_a_parameter_without_a_value_is_one_all_the_same():
    """Who would mean a peer by an empty variable must not be understood to mean none."""
    request = fed(b"GET /q?a=&b HTTP/1.1\r\nHost: x\r\n\r\n").next()
    assert dict(request.query) == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/metrics?", "/metrics"),
        ("/a%2Fb", "/a/b"),
        ("/a/../b", "/a/../b"),
        ("//metrics", "//metrics"),
        ("http://other/metrics?x", "/metrics"),
        ("http://other", "/"),
        ("/%ff", "/%ff"),
        ("http://[", "http://["),
        ("*", "*"),
    ],
)
def test_the_path_is_that_of_the_target(target, path):
    request = fed(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).next()
    assert request.path == path


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA B: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded: x\r\n\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * LONGEST_HEAD, 431),
        (b"A" * (LONGEST_HEAD + 1), 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * LONGEST_HEAD + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * MOST_FIELDS + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\n" * MOST_FIELDS, 431),
        (b"GET / HTTP/1.1\nHost: x\nA: b\n" + b" c\n" * MOST_FIELDS + b"\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (LONGEST_HEAD - 100) + b"\r\n\r\n" + GET * 50, None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", 400),
    ],
)
def test_what_can_not_be_answered_has_a_status(data, status):
    exchange = fed(data)
    if status is None:
        assert exchange.next() is not None
        return
    with pytest.raises(BadRequestError) as error:
        exchange.next()
    assert error.value.status == status
    assert exchange.head(status, {"Content-Type": "text/plain"}, 3, close=True).startswith(b"HTTP/1.1 %d " % status)


def test_as_many_header_fields_as_anybody_sends_are_taken_and_those_of_the_next_request_are_not_counted():
    data = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * (MOST_FIELDS - 1) + b"\r\n"
    exchange = fed(data * 3)
    for _ in range(3):
        assert len(exchange.next().headers) == MOST_FIELDS
        exchange.head(200, {}, 0)
        assert exchange.end()
    assert exchange.next() is None


def test_requests_that_come_together_are_answered_one_by_one():
    exchange = fed(GET + GET[:20])
    for rest in (GET[20:], b""):
        assert exchange.next().path == "/metrics"
        assert b"\r\nContent-Length: 2\r\n" in exchange.head(200, {}, 2)
        exchange.body(b"ok")
        assert exchange.end()
        assert exchange.begun == bool(rest)
        exchange.receive(rest) if rest else None
    exchange.receive(b"")
    with pytest.raises(EOFError):
        exchange.next()


def test_who_asked_to_close_is_not_asked_again():
    exchange = fed(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    exchange.next()
    assert b"\r\nConnection: close\r\n" in exchange.head(200, {}, 0)
    assert not exchange.end()


PIECES = st.sampled_from([
    b"GET ", b"HEAD ", b"POST ", b"/metrics", b"?a=b&c", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Expect: 100-continue\r\n", b"\n", b"\r", b" ", b":", b"\x00", b"\xff", b"Upgrade: h2c\r\n", b"3\r\nabc\r\n",
])  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=40), st.just(GET)), max_size=12), st.booleans())
@example([GET, GET, b""], True)
def test_whatever_comes_is_a_request_or_has_a_status_or_waits(pieces, ended):
    exchange = Exchange()
    for piece in [*pieces, *([b""] if ended else [])]:
        exchange.receive(piece)
        for _ in range(20):
            try:
                request = exchange.next()
            except BadRequestError as error:
                exchange.head(error.status, {}, 0, close=True)
                return
            except EOFError:
                return
            if request is None:
                break
            exchange.head(200, {"Content-Type": "text/plain"}, 2)
            if request.method != "HEAD":
                exchange.body(b"ok")
            if not exchange.end():
                return
