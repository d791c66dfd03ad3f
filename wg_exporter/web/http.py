"""Requests and responses of HTTP/1.1, by h11: from bytes to a request, from a response to the bytes before its body.

Nothing here answers with what a client sent, and a request with a body is refused before a byte of it is read: no
request of ours has one.
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LONGEST_HEAD = 16 * 1024  # bytes of a request before its body; what Prometheus sends has 400
MOST_FIELDS = 100  # header fields; what 16 KiB can hold takes h11 5 ms, a hundred times as long as a usual request
MOST_PARAMETERS = 32

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_END_OF_HEAD = re.compile(rb"\n\r?\n")


class Request(NamedTuple):
    """What a client wants. `path` is without its query and with percent signs resolved. Names of headers are in lower
    case. `local`: it came over the Unix socket of our own user. `address` is the client's.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Sequence[tuple[bytes, bytes]]
    local: bool = False
    address: str = ""

    def header(self, name: str) -> str:
        """The values of a header, joined by commas (RFC 9110, 5.3); empty if there is none."""
        wanted = name.lower().encode()
        return ",".join(value.decode("latin-1") for key, value in self.headers if key == wanted)


class BadRequestError(Exception):
    """A request that can't be answered as it was meant. `status` is what it is answered with; the connection ends."""

    def __init__(self, status: int) -> None:
        super().__init__(HTTPStatus(status).phrase)
        self.status = status


class Exchange:
    """The state of one connection: `receive` bytes, ask for the `next` request, and write the response to it."""

    def __init__(self, *, local: bool = False, address: str = "") -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._local = local
        self._address = address
        self._begun = False  # some of a request is here
        self.bare = False
        """Whether the last request wants no body, whatever it is answered with (HEAD)."""

    def receive(self, data: bytes) -> None:
        """Take what the client sent; empty: it will send nothing more."""
        self._begun = self._begun or bool(data.strip(b"\r\n"))
        try:
            self._http.receive_data(data)
        except RuntimeError:  # something after the end
            self._begun = False

    @property
    def begun(self) -> bool:
        """Whether some of a request has arrived that is not whole yet."""
        return self._begun

    def next(self) -> Request | None:
        """The next request, None while it is not whole.

        Raises BadRequestError, and EOFError where the client has sent all that it wanted to.
        """
        there, self.bare = self._unread(), False
        if self._http.their_state is h11.IDLE and self._fields() > MOST_FIELDS:
            raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        try:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._begun, self.bare = False, event.method == b"HEAD"
                if there - self._unread() > LONGEST_HEAD:  # h11 looks at those alone that are not whole
                    raise BadRequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return self._request(event)
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # h11 leaves it in a cycle, with all that called us
            raise BadRequestError(error.error_status_hint) from None
        if isinstance(event, h11.ConnectionClosed):
            raise EOFError  # noqa: TRY004 - it is no wrong type
        return None

    def head(self, status: int, headers: Mapping[str, str], length: int | None, *, close: bool = False) -> bytes:
        """The bytes of a response before its body of `length` bytes. None = it comes in parts: in chunks or, over
        HTTP/1.0, until the connection ends.
        """
        fields = [(name, value) for name, value in headers.items()]
        fields += [] if length is None else [("Content-Length", str(length))]
        fields += [("Date", date(time.time())), ("Server", "wg-exporter")]
        if close:
            fields.append(("Connection", "close"))
        response = h11.Response(status_code=status, headers=fields, reason=HTTPStatus(status).phrase)
        return self._http.send(response) or b""

    def body(self, chunk: bytes) -> None:
        """Some of the body is sent."""
        self._http.send_with_data_passthrough(h11.Data(data=chunk))

    def part(self, data: bytes) -> bytes:
        """A part of a body of which the length was not known, as it is sent."""
        return self._http.send(h11.Data(data=data)) or b""

    def last(self) -> bytes:
        """What is sent after the last part."""
        return self._http.send(h11.EndOfMessage()) or b""

    def end(self) -> bool:
        """The response is sent. Returns whether the connection can take another request."""
        self._http.send(h11.EndOfMessage())
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        data, closed = self._http.trailing_data
        self._begun = bool(data.strip(b"\r\n")) and not closed
        return True

    def _unread(self) -> int:
        """Bytes that have arrived and belong to no event yet."""
        return len(self._http.trailing_data[0])

    def _fields(self) -> int:
        """Lines of the next request after its first, as far as they have arrived."""
        unread = self._http.trailing_data[0]
        if unread.count(b"\n") <= MOST_FIELDS:
            return 0
        end = _END_OF_HEAD.search(unread)
        return unread.count(b"\n", 0, end.start() if end else len(unread))

    def _request(self, event: h11.Request) -> Request:
        if event.http_version not in {b"1.0", b"1.1"}:
            raise BadRequestError(HTTPStatus.BAD_REQUEST)
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
            raise BadRequestError(HTTPStatus.BAD_REQUEST)  # whoever is between us may read it otherwise (RFC 9112, 6.3)
        if not isinstance(self._http.next_event(), h11.EndOfMessage):
            raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        target = event.target.decode("latin-1")
        try:
            parts = urlsplit(target if target.startswith("/") is False else f"//host{target}")
            path = unquote(parts.path, errors="strict") if parts.path else "/"
            query = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS))
        except ValueError:
            path, query = target, {}
        return Request(event.method.decode("latin-1"), path, query, list(event.headers), self._local, self._address)


def date(at: float) -> str:
    """A time in seconds since the epoch, as headers have it (RFC 9110, 5.6.7).

    `email.utils.formatdate` does the same, and brings half of a mail program: 0.4 MB that stay in memory.
    """
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(at)
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
