"""What a service tells systemd of itself."""

from __future__ import annotations

import logging
import os
import socket


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
