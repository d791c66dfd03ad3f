"""`serve` in several processes: opens what only root may, then lets the exporter run without any right.

The exporter's own modules are imported by its process alone, and before it gives up its rights: Python's files may be
out of reach afterwards.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from wg_exporter.catalogue import NAMES
from wg_exporter.daemon.doors import open_doors
from wg_exporter.linux.privileges import CAP_NET_RAW, effective
from wg_exporter.linux.scarcity import be_frugal
from wg_exporter.messages.supervisor import Role
from wg_exporter.supervisor import roles
from wg_exporter.supervisor.parent import Parent
from wg_exporter.web.listen import parse_telemetry_path

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from wg_exporter.config import Config


def run(
    config: Config, config_file: Path | None, listen: Sequence[str], telemetry_path: str, unix_socket: str = ""
) -> int:
    """Serve until a signal comes. Returns the exit code.

    Raises ListenError if an address or the path can't be served; nothing is left open then.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is handled, a reload would end the process
    be_frugal()
    path = parse_telemetry_path(telemetry_path)
    doors = open_doors(listen, unix_socket)
    held = effective()
    net_raw = None if held is None else CAP_NET_RAW in held

    def exporter(sock: socket.socket) -> int:
        from wg_exporter.daemon import apart  # noqa: PLC0415 - see above

        roles.become_web()
        return apart.run(sock, doors, path, config, config_file, net_raw=net_raw)

    try:
        roles.become_parent(config)
        parent = Parent(config, config_file, {Role.READER: roles.reader, Role.PROBER: roles.prober}, NAMES)
        return parent.run(exporter, doors.sockets)
    finally:
        doors.remove()
