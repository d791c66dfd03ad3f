"""`serve`: the exporter behind the HTTP server, until a signal ends it.

Mistakes of the user are found before the first socket is opened. Then the sockets are bound, all of them or none, and
then the devices are read. SIGHUP reads the configuration again, SIGTERM and SIGINT stop.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from typing import TYPE_CHECKING

from wg_exporter import __version__
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.daemon.page import status_of
from wg_exporter.log import Log
from wg_exporter.prober.process.handle import ProberProcess
from wg_exporter.web.listen import bind, parse_listen, parse_telemetry_path
from wg_exporter.web.negotiation import Format
from wg_exporter.web.server import Page, Server, Status
from wg_exporter.web.unix import UnixSocket, UnixSocketError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from wg_exporter.config import Config, ProbeSettings
    from wg_exporter.model import DeviceKey, PeerKey
    from wg_exporter.probed import Probed, ProbePeer

PAGES = (
    Page("", "Metrics", "every tunnel of this host, for Prometheus"),
    Page("mindflavor", "Metrics, MindFlavor", "the same devices as prometheus_wireguard_exporter names them"),
    Page("mdlayher", "Metrics, mdlayher", "the same devices as wireguard_exporter names them"),
)


class _Prober:
    """The prober's process, as `exporter.Prober`."""

    def __init__(self, config: Config) -> None:
        self._process = ProberProcess(*_probing(config), log=_warn)

    def configure(self, config: Config) -> None:
        self._process.configure(*_probing(config))

    def set_peers(self, peers: Sequence[ProbePeer]) -> None:
        self._process.set_peers(peers)

    def counters(self, rows: Mapping[PeerKey, tuple[int, int]]) -> None:
        self._process.counters(rows)

    def results(self) -> Mapping[DeviceKey, Mapping[str, Probed]]:
        return self._process.results()

    def scheduling_delay(self) -> float | None:
        return self._process.scheduling_delay() if self._process.pid else None

    def pids(self) -> list[int]:
        pid = self._process.pid
        return [] if pid is None else [pid]

    def stop(self) -> None:
        self._process.stop()


def _warn(problem: str) -> None:
    Log(__name__).warn("probing", problem=problem)


def _probing(config: Config) -> tuple[ProbeSettings, dict[str, str]]:
    return config.probe, {place.name: place.path for place in config.namespaces}


class _Application:
    """What the server serves, as `web.server.Application`."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def scrape(self, path: str, format: Format, /) -> list[bytes]:  # noqa: A002 - the server's word
        return self._exporter.scrape(path, openmetrics=format is Format.OPENMETRICS)

    def document(self, *, private: bool) -> list[bytes]:
        return [self._exporter.document(private=private)]

    def pause(self, asked: Mapping[str, str]) -> str:
        return self._exporter.pause_probes(asked)

    def ready(self) -> str:
        return self._exporter.ready()

    def status(self) -> Status:
        return status_of(self._exporter)


def run(
    config: Config, config_file: Path | None, listen: Sequence[str], telemetry_path: str, unix_socket: str = ""
) -> int:
    """Serve until a signal comes. Returns the exit code. Without the Unix socket (empty path, or it can't be had) all
    goes on, but `show` and `mtu` have nobody to ask.

    Raises ListenError if an address or the path can't be served; nothing is left open then.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is handled, a reload would end the process
    path = parse_telemetry_path(telemetry_path)
    sockets = bind([parse_listen(address) for address in listen])
    local, problem = _local(unix_socket)
    exporter = Exporter(config, config_file, prober=_Prober(config))
    try:
        return asyncio.run(_serve(exporter, [*sockets, *([local.socket] if local else [])], path, problem))
    finally:
        if local:
            local.close()


def _local(path: str) -> tuple[UnixSocket | None, str]:
    """The Unix socket, or why there is none; neither where none was asked for."""
    try:
        return UnixSocket(path) if path else None, ""
    except UnixSocketError as error:
        return None, str(error)


async def _serve(exporter: Exporter, sockets: Sequence[socket.socket], path: str, problem: str) -> int:
    log = Log(__name__)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    tasks: set[asyncio.Future[str]] = set()

    def reload() -> None:
        task = loop.run_in_executor(None, exporter.reload)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload)

    server = Server(_Application(exporter), PAGES, path)
    await server.start(sockets)
    for address in server.addresses:
        log.info("listening", address=address, path=path, version=__version__)
    if problem:
        Log(__name__).warn("no unix socket", problem=problem)
    exporter.start()
    await loop.run_in_executor(None, exporter.wait_until_ready, 10.0)
    _spare_collector()
    _notify("READY=1")
    await stopping.wait()
    log.info("stopping")
    _notify("STOPPING=1")
    exporter.stop()
    await server.stop()
    return 0


def _spare_collector() -> None:
    """Exempt what lives now, modules and tables, from garbage collection, and make collections rarer.

    Rows are tuples of numbers and text, which form no cycles: a collection would go through tens of thousands in vain.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _notify(state: str) -> None:
    """Tell systemd the state of the service, if it asked for it (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            Log(__name__).warn("systemd not notified", problem=error.strerror)
