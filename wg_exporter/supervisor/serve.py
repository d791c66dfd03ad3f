"""`serve` in several processes: opens what only root may, then lets the exporter run without any right.

The exporter's own modules are imported by its process alone, and before it gives up its rights: Python's files may be
out of reach afterwards.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from wg_exporter.catalogue import NAMES
from wg_exporter.daemon.doors import open_doors, open_track
from wg_exporter.linux import signals
from wg_exporter.linux.privileges import CAP_NET_RAW, effective, readable_by_all
from wg_exporter.linux.scarcity import be_frugal
from wg_exporter.linux.storage import open_storage
from wg_exporter.messages.supervisor import Role
from wg_exporter.supervisor import roles
from wg_exporter.supervisor.parent import Parent
from wg_exporter.supervisor.resolvers import Resolvers
from wg_exporter.web.files import WebFiles
from wg_exporter.web.listen import parse_telemetry_path

if TYPE_CHECKING:
    import socket

    from wg_exporter.daemon.doors import Asked


def run(asked: Asked) -> int:
    """Serve until a signal comes. Returns the exit code.

    Raises ListenError if an address or the path can't be served; nothing is left open then. Raises PassedSocketsError.
    """
    signals.hold()
    be_frugal()
    parse_telemetry_path(asked.telemetry_path)
    doors = open_doors(asked)
    doors.storage = open_storage(asked.storage_path, roles.web_user())
    doors.track_files = open_track(asked, roles.web_user())
    held = effective()
    net_raw = None if held is None else CAP_NET_RAW in held

    def exporter(sock: socket.socket) -> int:
        from wg_exporter.daemon import apart  # noqa: PLC0415 - see above
        from wg_exporter.web.docs import Docs  # noqa: PLC0415 - see above

        if doors.track_files:
            import_module("wg_exporter.daemon.tracking")  # which few hosts need
        if asked.web_file:
            import_module("bcrypt")  # users may come at any time

        docs = Docs()
        if not all(map(readable_by_all, docs.needs())):
            docs.prepare()
        roles.become_web()
        return apart.run(sock, doors, asked, docs, net_raw=net_raw)

    web_files = None if asked.web_file is None else WebFiles(asked.web_file)
    try:
        roles.become_parent(asked.config, reloadable=asked.config_file is not None)
        resolvers = Resolvers(roles.resolver)
        parent = Parent(
            asked.config,
            asked.config_file,
            {Role.READER: partial(roles.reader, resolvers), Role.PROBER: roles.prober},
            NAMES,
            web_files,
            resolvers=resolvers,
        )
        return parent.run(exporter, [*doors.sockets, doors.storage, *filter(None, [doors.track_files])])
    finally:
        doors.remove()
