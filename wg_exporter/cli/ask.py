"""Asks the exporter that runs on this host, over its Unix socket: what it knows and what happened, to send no probes
for a while, and to page nobody for a while.

A question has one deadline for all of it, connecting and the last byte included: an exporter that hangs must not make
`show` hang. Whatever goes wrong is one line, after which the command looks for itself.
"""

from __future__ import annotations

import errno
import os.path
import socket
import struct
import time
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlencode

import msgspec

from wg_exporter.quiet.asked import Answer
from wg_exporter.status.reading import DocumentError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader
    from pathlib import Path

    from wg_exporter.events import Event
    from wg_exporter.model import PeerKey
    from wg_exporter.status.rows import Overview

STATUS_SECONDS = 8.0  # the sources alone may take 3, and 10,000 peers one more
PAUSE_SECONDS = 2.0
QUIET_SECONDS = 10.0  # it may wait for the disk
EVENTS_SECONDS = 5.0
SILENCE = 60.0  # seconds without even an empty line, of which there is one every 15, after which nobody is there
LONGEST_LINE = 1 << 20  # bytes
LONGEST = 512 << 20  # bytes of an answer; 10,000 peers are 10 MB

_STATUS = "/api/v1/status"
_PAUSE = "/api/v1/pause"
_READY = "/-/ready"
_CREDENTIALS = struct.Struct("@3i")  # struct ucred (unix(7))
_QUIET = "/api/v1/quiet"
_EVENTS = "/api/v1/events"
_PEERS = "/api/v1/peers/"


class NotAskedError(Exception):
    """Nobody could be asked. The message says why, as the rest of a sentence that begins with "looked once, as"."""


class NobodyThereError(NotAskedError):
    """No exporter runs here."""


class NotPermittedError(NotAskedError):
    """Somebody may be there, and we may not ask."""


class RefusedError(Exception):
    """The exporter was asked, and does not do it. The message is one line that says why."""


def status(path: str, config_file: Path | None = None, within: float = STATUS_SECONDS) -> Overview:
    """What the exporter at this socket knows. Raises NotAskedError.

    With a `config_file` that is not the exporter's, its answer would be another than was asked for.
    """
    found, body = _ask(path, "GET", _STATUS, within)
    if found != 200:
        raise NotAskedError(f"the exporter at {path} said: {_line(body)}")
    try:
        overview = decode(body)
    except DocumentError as error:
        raise NotAskedError(f"what answered at {path} sent {error}") from None
    if overview.teller is None:
        raise NotAskedError(f"what answered at {path} is no exporter")
    theirs = overview.teller.config_file
    if config_file is not None and os.path.abspath(config_file) != theirs:  # noqa: PTH100 - links stay as they are
        raise NotAskedError(f"the exporter that runs has another configuration: {theirs or 'none'}")
    return overview


def pause(path: str, key: PeerKey, seconds: float, within: float = PAUSE_SECONDS) -> str:
    """Ask the exporter not to probe a peer for this time; 0 ends it. Empty if it does, else one line why not."""
    netns, interface, public_key = key
    asked = {"netns": netns, "interface": interface, "public_key": public_key, "seconds": f"{seconds:g}"}
    try:
        found, body = _ask(path, "POST", f"{_PAUSE}?{urlencode(asked, quote_via=quote)}", within)
    except NotAskedError as error:
        return str(error)
    return "" if found == 200 else _line(body)


def up(path: str, key: PeerKey, within: float = PAUSE_SECONDS) -> tuple[bool | None, str]:
    """Whether a peer is up by its fast echoes, None = not known, and a line that says so. Raises NotAskedError, and
    RefusedError if it has none.
    """
    netns, interface, public_key = key
    target = f"{_PEERS}{quote(interface, safe='')}/{quote(public_key, safe='')}/up"
    found, body = _ask(path, "GET", f"{target}?netns={quote(netns, safe='')}" if netns else target, within)
    line = _line(body)
    if found == 404:
        raise RefusedError(line)
    state, _, _ = line.partition(":")
    if (found, state) not in {(200, "up"), (503, "down"), (503, "not known")}:
        raise NotAskedError(f"the exporter at {path} said: {line}")
    return {"up": True, "down": False}.get(state), line


def ready(path: str, within: float = PAUSE_SECONDS) -> str:
    """Why the exporter is not ready, in one line; empty if it is. Raises NotAskedError."""
    found, body = _ask(path, "GET", _READY, within)
    return "" if found == 200 else _line(body)


def listener(path: str) -> tuple[int, int]:
    """Process and user of whoever made the socket listen; pid 0 if it lives in a namespace that we can't see.

    Raises OSError if nobody listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(PAUSE_SECONDS)
        sock.connect(path)
        pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def quiet(path: str, key: PeerKey, seconds: float, reason: str, within: float = QUIET_SECONDS) -> Answer:
    """Have a peer or, without a public key, an interface page nobody for so long.

    Raises NotAskedError and RefusedError.
    """
    return _quiet(path, "POST", key, {"seconds": f"{seconds:g}", "reason": reason}, within)


def end_quiet(path: str, key: PeerKey, within: float = QUIET_SECONDS) -> Answer:
    """End that. Raises NotAskedError, RefusedError."""
    return _quiet(path, "DELETE", key, {}, within)


def events(path: str, query: Mapping[str, str], within: float = EVENTS_SECONDS) -> list[Event]:
    """What happened, as far as the query asks for it, the oldest first. Raises NotAskedError, RefusedError."""
    from wg_exporter.events.file import decode as events_of  # noqa: PLC0415 - most commands need no events

    found, body = _ask(path, "GET", f"{_EVENTS}?{urlencode(query)}", within)
    _granted(path, found, body)
    return events_of(body).events


def follow(path: str, query: Mapping[str, str]) -> Iterator[Event]:
    """What happens, as it does, until the exporter ends. Raises NotAskedError, RefusedError."""
    from wg_exporter.events.file import decode as events_of  # noqa: PLC0415 - as above

    request = f"GET {_EVENTS}?{urlencode({**query, 'follow': 'true'})} HTTP/1.0\r\nHost: localhost\r\n\r\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(SILENCE)
        try:
            sock.connect(path)
            sock.sendall(request.encode("ascii"))
            with sock.makefile("rb") as file:
                found = _head(path, file)
                if found != 200:
                    _granted(path, found, file.read(LONGEST_LINE))
                while line := file.readline(LONGEST_LINE):
                    yield from events_of(line).events
        except OSError as error:
            raise _kind(error)(_why(path, error)) from None


def _head(path: str, file: BufferedReader) -> int:
    """The status of an answer of which the body follows."""
    first = file.readline(LONGEST_LINE).split()
    while file.readline(LONGEST_LINE).strip():
        pass
    if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit():
        raise NotAskedError(f"what answered at {path} is no exporter")
    return int(first[1])


def _granted(path: str, found: int, body: bytes) -> None:
    if found == 404:
        raise RefusedError(f"the exporter at {path} is older than this command: restart it")
    if found != 200:
        raise RefusedError(_line(body))


def _quiet(path: str, method: str, key: PeerKey, more: dict[str, str], within: float) -> Answer:
    whom = zip(("netns", "interface", "public_key"), key, strict=True)
    asked = {name: value for name, value in whom if value} | more
    found, body = _ask(path, method, f"{_QUIET}?{urlencode(asked, quote_via=quote)}", within)
    _granted(path, found, body)
    try:
        return msgspec.json.decode(body, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotAskedError(f"what answered at {path} is no exporter") from None


def _ask(path: str, method: str, target: str, within: float) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    if not path:
        raise NotAskedError("no socket was named")
    deadline = time.monotonic() + within
    try:
        data = _exchange(path, f"{method} {target} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode("ascii"), deadline)
    except TimeoutError:
        raise NotAskedError(f"the exporter at {path} did not answer within {within:g} s") from None
    except OSError as error:
        raise _kind(error)(_why(path, error)) from None
    try:
        response = HTTPResponse(cast("socket.socket", _Received(data)))
        response.begin()
        return response.status, response.read()
    except (HTTPException, ValueError, OSError):
        raise NotAskedError(f"what answered at {path} is no exporter") from None


def _exchange(path: str, request: bytes, deadline: float) -> bytes:
    """Send all, and receive until the other side closes."""
    received = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(_left(deadline))
        sock.connect(path)
        sock.sendall(request)
        while True:
            sock.settimeout(_left(deadline))
            part = sock.recv(1 << 20)
            if not part:
                return bytes(received)
            received += part
            if len(received) > LONGEST:
                raise OSError(errno.EMSGSIZE, "its answer does not end")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Received:
    """What HTTPResponse takes for a socket: an answer that is there as a whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


def _kind(error: OSError) -> type[NotAskedError]:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return NobodyThereError
    return NotPermittedError if isinstance(error, PermissionError) else NotAskedError


def _why(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no exporter runs here (there is no {path})"
    if isinstance(error, ConnectionRefusedError):
        return f"no exporter runs here (nobody listens at {path})"
    if isinstance(error, PermissionError):
        return f"only root may ask the exporter at {path}"
    return f"the exporter at {path} could not be asked: {error.strerror or error}"


def _line(body: bytes) -> str:
    """The first line of what was answered, without what could drive a terminal, as an answer may be anything."""
    line = body[:200].decode("utf-8", "replace").strip().partition("\n")[0]
    return "".join(c if c.isprintable() else "?" for c in line) or "nothing"
