"""`serve` in one process, beside the prober's: without root, where root is the only user, or because somebody wants it.

Mistakes of the user are found before the first socket is opened. Then the sockets are bound, all of them or none, and
then the devices are read.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from wg_exporter.daemon.doors import open_doors
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.prober import Probing
from wg_exporter.daemon.serve import Hooks, serve
from wg_exporter.linux.scarcity import be_frugal
from wg_exporter.reader.host import host_sources
from wg_exporter.web.listen import parse_telemetry_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from wg_exporter.config import Config


def run(
    config: Config, config_file: Path | None, listen: Sequence[str], telemetry_path: str, unix_socket: str = ""
) -> int:
    """Serve until a signal comes, in this process but for the prober. Returns the exit code.

    Raises ListenError if an address or the path can't be served; nothing is left open then.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is handled, a reload would end the process
    be_frugal()
    path = parse_telemetry_path(telemetry_path)
    doors = open_doors(listen, unix_socket)
    exporter = Exporter(config, config_file, host_sources, prober=Probing(config))
    try:
        return asyncio.run(serve(exporter, doors, path, Hooks()))
    finally:
        doors.remove()
