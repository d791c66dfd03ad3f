"""The sockets that `serve` answers on: all of them open before anything else begins, or none; and its storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.storage import Storage
from wg_exporter.web.listen import bind, parse_listen
from wg_exporter.web.unix import UnixSocket, UnixSocketError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from wg_exporter.config import Config


class Asked(NamedTuple):
    """What `serve` was asked for by its flags: the configuration and its file, where to listen, and under which path.

    An empty `unix_socket`: none. `web_file` is the web configuration. `storage_path` is the directory for what survives
    a restart; empty: nothing does.
    """

    config: Config
    config_file: Path | None
    listen: Sequence[str]
    telemetry_path: str
    unix_socket: str = ""
    web_file: Path | None = None
    storage_path: str = ""


@dataclass
class Doors:
    """The sockets to serve on, open. `problem` says why there is no Unix socket, if one was asked for. `storage` is
    what survives a restart.
    """

    sockets: list[socket.socket]
    local: UnixSocket | None = None
    problem: str = ""
    storage: Storage = field(default_factory=Storage)

    def remove(self) -> None:
        """Remove the file of the Unix socket. The sockets themselves are closed by the server."""
        if self.local:
            self.local.close()


def open_doors(listen: Sequence[str], unix_socket: str) -> Doors:
    """Without the Unix socket (empty path, or it can't be had) all goes on, but `show` and `mtu` have nobody to ask.

    Raises ListenError if an address can't be served; nothing is left open then.
    """
    doors = Doors(list(bind([parse_listen(address) for address in listen])))
    try:
        doors.local = UnixSocket(unix_socket) if unix_socket else None
    except UnixSocketError as error:
        doors.problem = str(error)
    if doors.local:
        doors.sockets.append(doors.local.socket)
    return doors
