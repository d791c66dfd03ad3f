"""The exporter behind the HTTP server, until a signal ends it.

Mistakes of the user are found before the first socket is opened. Then the sockets are bound, all of them or none, and
then the devices are read. SIGHUP reads the configuration again, SIGTERM and SIGINT stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from functools import partial
from ipaddress import ip_address
from socket import AF_UNIX
from typing import TYPE_CHECKING

from wg_exporter import __version__
from wg_exporter.linux.systemd import notify
from wg_exporter.log import Log
from wg_exporter.web.negotiation import Format
from wg_exporter.web.server import Page, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.daemon.doors import Doors
    from wg_exporter.daemon.exporter import Exporter
    from wg_exporter.daemon.policies import Policies
    from wg_exporter.status.document import Document

PAGES = (
    Page("", "Metrics", "every tunnel of this host, for Prometheus"),
    Page("mindflavor", "Metrics, MindFlavor", "the same devices as prometheus_wireguard_exporter names them"),
    Page("mdlayher", "Metrics, mdlayher", "the same devices as wireguard_exporter names them"),
)


class _Application:
    """What the server serves, as `web.server.Application`."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def scrape(self, path: str, format: Format, /) -> list[bytes]:  # noqa: A002 - the server's word
        return self._exporter.scrape(path, openmetrics=format is Format.OPENMETRICS)

    def document(self, *, private: bool, round_trips: bool) -> list[bytes]:
        return [self._exporter.document(private=private, round_trips=round_trips)]

    def pause(self, asked: Mapping[str, str]) -> str:
        return self._exporter.pause_probes(asked)

    def ready(self) -> str:
        return self._exporter.ready()

    def allows_host(self, host: str) -> bool:
        return self._exporter.allows_host(host)

    def last(self) -> Document | None:
        return self._exporter.last()


class Hooks:
    """What is said of the service from its start to its end, and who else than a signal asks for a reload."""

    def ready(self) -> None:
        """Requests are answered from now on."""
        notify("READY=1")

    def stopping(self) -> None:
        """It was asked to end."""
        notify("STOPPING=1")

    def listen(self, reload: Callable[[], None], stop: Callable[[], None]) -> None:
        """`reload` and `stop` may be called from now on, in any thread."""


async def serve(exporter: Exporter, doors: Doors, path: str, hooks: Hooks, policies: Policies | None = None) -> int:
    """Serve until a signal comes. Returns the exit code. `policies` say who may ask over TCP; None = anybody."""
    log = Log(__name__)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    reload = _Reloads(exporter).ask
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    hooks.listen(lambda: _later(loop, reload), lambda: _later(loop, stopping.set))

    server = Server(_Application(exporter), PAGES, path, policy=policies.now if policies else None)
    if policies:
        policies.use = lambda policy: _later(loop, partial(server.use, policy))
        if server.policy is not policies.now:  # another one came in between
            server.use(policies.now)
    await server.start(doors.sockets)
    if server.policy.open_to_all:
        _say_who_can_read(doors)
    for address in server.addresses:
        log.info("listening", address=address, path=path, version=__version__)
    if doors.problem:
        Log(__name__).warn("no unix socket", problem=doors.problem)
    exporter.start()
    await loop.run_in_executor(None, exporter.wait_until_ready, 10.0)
    _spare_collector()
    hooks.ready()
    await stopping.wait()
    log.info("stopping")
    hooks.stopping()
    exporter.stop()
    await server.stop()
    return 0


def _say_who_can_read(doors: Doors) -> None:
    """Once, at the start: it is the usual state of a new installation, and nobody looks again later."""
    addresses = [ip_address(sock.getsockname()[0]) for sock in doors.sockets if sock.family != AF_UNIX]
    if any(address.is_unspecified for address in addresses):
        Log(__name__).warn(
            "anybody who reaches the port can read all metrics",
            fix="listen on one address (--web.listen-address), or set TLS and a password (--web.config.file)",
        )


class _Reloads:
    """Reloads as they are asked for: one at a time, and however many are asked for meanwhile, one more."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._task: asyncio.Future[str] | None = None
        self._again = False

    def ask(self) -> None:
        """Reload now, or after the reload that is under way. In the event loop."""
        if self._task is not None:
            self._again = True
            return
        self._again = False
        self._task = asyncio.get_running_loop().run_in_executor(None, self._exporter.reload)
        self._task.add_done_callback(self._done)

    def _done(self, _task: asyncio.Future[str]) -> None:
        self._task = None
        if self._again:
            self.ask()


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call it in the event loop, from any thread; not any more once that has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _spare_collector() -> None:
    """Exempt what lives now, modules and tables, from garbage collection, and make collections rarer.

    Rows are tuples of numbers and text, which form no cycles: a collection would go through tens of thousands in vain.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
