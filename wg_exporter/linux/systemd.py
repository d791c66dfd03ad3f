"""What a service tells systemd of itself, and the sockets that systemd passes to it."""

from __future__ import annotations

import logging
import os
import socket
import stat

FIRST = 3  # the number of the first file that is passed (sd_listen_fds(3))
MOST = 1024
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class PassedSocketsError(Exception):
    """What was passed can't be served: one line that says why, and what to do."""


def notify(state: str) -> None:
    """Tell systemd the state of the service, if it asked for it (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            fields = {"problem": error.strerror}
            logging.getLogger(__name__).warning("systemd not notified", extra={"fields": fields})


def passed_sockets() -> list[socket.socket]:
    """The listening sockets that were passed to this process; none if there are none, or they are another's.

    The variables that tell of them are removed, so that no child takes them for its own. Raises PassedSocketsError if
    one is no stream socket that listens; then all are closed.
    """
    told = {name: os.environ.pop(name, "") for name in _VARIABLES}
    if told["LISTEN_PID"] != str(os.getpid()):
        return []
    count = told["LISTEN_FDS"]
    if not (count.isascii() and count.isdigit() and int(count) <= MOST):
        raise PassedSocketsError(f"LISTEN_FDS is {count!r}, which is no number of sockets")
    return [_listening(number) for number in range(FIRST, FIRST + int(count))]


def _listening(number: int) -> socket.socket:
    wrong = PassedSocketsError(
        f"file {number}, which systemd passed, is no stream socket that listens; in the socket unit use ListenStream= "
        "and Accept=no"
    )
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            raise wrong
    except OSError:  # there is none
        raise wrong from None
    os.set_inheritable(number, False)  # noqa: FBT003 - the standard library's
    sock = socket.socket(fileno=number)
    known = sock.family in {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX} and sock.type == socket.SOCK_STREAM
    if not known or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise wrong
    return sock
