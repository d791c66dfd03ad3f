"""What the `--web.*` flags mean: where to listen and under which path, and the sockets that come of it.

All sockets are bound and listening before anything is served, or none is, so the exporter never serves only some of its
addresses. The HTTP server gets finished sockets, and needs no right to make them. Nothing here imports the HTTP
library, so a bad flag is answered at once.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BACKLOG = 128

# A client that acknowledges nothing, or keeps its window shut, for this time loses the connection, even if our side has
# already closed it (tcp(7), TCP_USER_TIMEOUT). Accepted sockets inherit the option.
USER_TIMEOUT_MS = 60_000

_Address = tuple[str | int | bytes, ...]  # as getaddrinfo(3) gives it, for bind(2)

_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
# Paths of our own, which metrics must not cover, with all that is below them.
_TAKEN = {"/-": "the health checks", "/api": "programs", "/sd": "the discovery of targets", "/docs": "the docs"}
_PATH = re.compile(r"/|(/[A-Za-z0-9._~-]+)+/?")


class ListenError(Exception):
    """An address or a path that cannot be served: one line for the user, with what to do."""


@dataclass(frozen=True)
class Listen:
    """An address to listen on. `host` None is every address of the host, port 0 is any free port."""

    host: str | None
    port: int

    def __str__(self) -> str:
        return _join(self.host or "", self.port)


def parse_listen(text: str) -> Listen:
    """Read `:9586`, `127.0.0.1:9586`, `[::1]:9586` or `localhost:9586`. Raises ListenError with the fix."""

    def wrong(why: str, fix: str) -> ListenError:
        return ListenError(f"listen address {text!r}: {why}; {fix}")

    example = "write it as :9586, 127.0.0.1:9586 or [::1]:9586"
    if _PORT.fullmatch(text):
        raise wrong("this is a port without a colon", f"write :{text}")
    if "/" in text:
        raise wrong("this is a URL, not an address", example)
    host, colon, port = text.rpartition(":")
    if not colon or host.count("[") > host.count("]") or text.endswith("]"):
        raise wrong("the port is missing", example)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise wrong(f"{port!r} is not a port", "use a number from 0 to 65535; 0 takes a free one")
    if not host:
        return Listen(None, int(port))
    if host == "*":
        raise wrong("every address is written as an empty host", f"write :{port}")
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise wrong(f"{host[1:-1]!r} is not an IPv6 address", example)
        return Listen(host[1:-1], int(port))
    if ":" in host:
        raise wrong("an IPv6 address needs brackets", "write it as [::1]:9586")
    if not _HOST.fullmatch(host):
        raise wrong(f"{host!r} is not a host", example)
    return Listen(host, int(port))


def parse_telemetry_path(text: str) -> str:
    """Check a `--web.telemetry-path` and return it without a trailing slash. Raises ListenError with the fix."""
    path = text.rstrip("/") or "/"
    if not _PATH.fullmatch(text) or {".", ".."} & set(path.split("/")):
        raise ListenError(
            f"telemetry path {text!r}: not a plain URL path; write it as /metrics, of letters, digits and . _ ~ -"
        )
    for taken, purpose in _TAKEN.items():
        if path == taken or path.startswith(f"{taken}/"):
            raise ListenError(f"telemetry path {text!r}: {taken} is for {purpose}; use another path, such as /metrics")
    return path


def bind(listens: Sequence[Listen]) -> tuple[socket.socket, ...]:
    """Open listening sockets for all addresses, or raise ListenError and leave none open.

    An empty host is one socket for IPv4 and IPv6 together, or for IPv4 alone where the host has no IPv6. A name is
    bound on every address that it resolves to and this host has.
    """
    sockets: list[socket.socket] = []
    try:
        for listen in listens:
            sockets.extend(_bind(listen))
    except BaseException:
        _close(sockets)
        raise
    return tuple(sockets)


def adopt(sock: socket.socket) -> socket.socket:
    """A listening socket that somebody else made, with what all of ours have."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return sock


def describe(sock: socket.socket) -> str:
    """The address that a socket is bound to, as `host:port` with IPv6 in brackets, or `unix:PATH`."""
    if sock.family == socket.AF_UNIX:
        name = sock.getsockname()
        return f"unix:@{name[1:].decode(errors='replace')}" if isinstance(name, bytes) else f"unix:{name}"
    host, port, *_ = sock.getsockname()
    return _join(host, port)


def _bind(listen: Listen) -> list[socket.socket]:
    port = listen.port
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in _candidates(listen):
        try:
            sock = _listen(family, (address[0], port, *address[2:]))
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here, or not an address of ours
                absent = error
                continue
            _close(sockets)
            raise ListenError(f"cannot listen on {listen}: {_explain(error, port)}") from error
        sockets.append(sock)
        if listen.host is None:  # the first that works has all addresses
            break
        port = sock.getsockname()[1]  # `localhost:0` is one port on both of its addresses
    if not sockets and absent:
        raise ListenError(f"cannot listen on {listen}: {_explain(absent, port)}") from absent
    return sockets


def _candidates(listen: Listen) -> Iterator[tuple[int, _Address]]:
    """Families and socket addresses to try, in order; IPv6 ones carry their scope id."""
    if listen.host is None:
        yield socket.AF_INET6, ("::", listen.port)
        yield socket.AF_INET, ("0.0.0.0", listen.port)  # noqa: S104 - every address is what `:9586` asks for
        return
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a host name"
        raise ListenError(
            f"cannot listen on {listen}: {listen.host} does not resolve ({reason}); use an address of this host"
        ) from error
    yield from dict.fromkeys((int(family), address) for family, _, _, _, address in found)


def _listen(family: int, address: _Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        if family == socket.AF_INET6:  # `::` takes IPv4 too, whatever net.ipv6.bindv6only is, as Go's servers do
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.bind(address)
        sock.listen(BACKLOG)  # only this fails if a second socket is bound to the port
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"the port is in use; find who has it with: ss -ltnp 'sport = :{port}'"
    if error.errno == errno.EADDRNOTAVAIL:
        return "no interface of this host has the address; list them with: ip address"
    if error.errno == errno.EAFNOSUPPORT:
        return "this host has no IPv6; listen on an IPv4 address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; use a port above 1023 or grant CAP_NET_BIND_SERVICE"
    return f"{error.strerror or error}; use another address"


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
