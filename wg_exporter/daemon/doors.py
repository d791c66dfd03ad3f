"""The sockets that `serve` answers on: all of them open before anything else begins, or none; and its storage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.linux.storage import Storage
from wg_exporter.linux.systemd import PassedSocketsError, passed_sockets
from wg_exporter.log import Log
from wg_exporter.web.listen import adopt, bind, parse_listen
from wg_exporter.web.unix import UnixSocket, UnixSocketError

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from wg_exporter.config import Config
    from wg_exporter.linux.privileges import User
    from wg_exporter.linux.trackfiles import TrackFiles


class Asked(NamedTuple):
    """What `serve` was asked for by its flags: the configuration and its file, where to listen, and under which path.

    `listen` is not used with `systemd_socket`: then the sockets are those that systemd passes.
    An empty `unix_socket`: none. `web_file` is the web configuration. `lifecycle`: a reload may be asked for over TCP
    too. `storage_path` is the directory for what survives a restart; empty: nothing does.
    """

    config: Config
    config_file: Path | None
    listen: Sequence[str]
    telemetry_path: str
    unix_socket: str = ""
    web_file: Path | None = None
    lifecycle: bool = False
    systemd_socket: bool = False
    storage_path: str = ""


@dataclass
class Doors:
    """The sockets to serve on, open. `local` is among them: that of whoever runs the exporter. `problem` says why there
    is none, if it was asked for. `storage` is what survives a restart, `track_files` is where fast echoes are told.
    """

    sockets: list[socket.socket]
    local: UnixSocket | None = None
    problem: str = ""
    storage: Storage = field(default_factory=Storage)
    track_files: TrackFiles | None = None

    def remove(self) -> None:
        """Remove the file of the Unix socket. The sockets themselves are closed by the server."""
        if self.local:
            self.local.close()


def open_track(asked: Asked, user: User | None = None) -> TrackFiles | None:
    """The directory of track files, for this `user` to write to, None = for this process; None if there is to be none.
    Few hosts have one, so what opens it is not imported before. Never fails: it may have a problem.
    """
    if not asked.config.track_files:
        return None
    from wg_exporter.linux.trackfiles import open_track_files  # noqa: PLC0415

    return open_track_files(asked.config.track_files, user)


def open_doors(asked: Asked) -> Doors:
    """Without the Unix socket (empty path, or it can't be had) all goes on, but `show` and `mtu` have nobody to ask.

    Raises ListenError if an address can't be served, and nothing is left open then; PassedSocketsError if systemd
    passed no sockets, or others.
    """
    passed = passed_sockets()
    if asked.systemd_socket:
        if not passed:
            raise PassedSocketsError(
                "systemd passed no sockets: start wg-exporter.socket before the service, or leave out "
                "--web.systemd-socket"
            )
        doors = Doors([adopt(sock) for sock in passed])
    else:
        if passed:  # whoever connects to them would wait for ever
            Log(__name__).warn("sockets of systemd not used", fix="start with --web.systemd-socket")
        for sock in passed:
            sock.close()
        doors = Doors(list(bind([parse_listen(address) for address in asked.listen])))
    try:
        doors.local = UnixSocket(asked.unix_socket) if asked.unix_socket else None
    except UnixSocketError as error:
        doors.problem = str(error)
    if doors.local:
        doors.sockets.append(doors.local.socket)
    return doors
