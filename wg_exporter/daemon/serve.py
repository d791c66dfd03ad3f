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

import msgspec

from wg_exporter import __version__
from wg_exporter.daemon.reloads import Reloads
from wg_exporter.events.told import OWNER, Audience, lines, told
from wg_exporter.linux import signals
from wg_exporter.linux.scarcity import give_back
from wg_exporter.linux.systemd import notify
from wg_exporter.log import Log, catch_loop
from wg_exporter.quiet.asked import AskedError
from wg_exporter.status.discovery import UnknownTargetsError, targets
from wg_exporter.web.listen import parse_telemetry_path
from wg_exporter.web.negotiation import Format
from wg_exporter.web.server import NotKnownError, Page, RefusedError, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wg_exporter.daemon.doors import Asked, Doors
    from wg_exporter.daemon.exporter import Exporter
    from wg_exporter.daemon.policies import Policies
    from wg_exporter.events import Event
    from wg_exporter.events.asked import Asked as Wanted
    from wg_exporter.status.document import Document
    from wg_exporter.web.docs import Docs

PAGES = (
    Page("", "Metrics", "every tunnel of this host, for Prometheus"),
    Page("mindflavor", "Metrics, MindFlavor", "the same devices as prometheus_wireguard_exporter names them"),
    Page("mdlayher", "Metrics, mdlayher", "the same devices as wireguard_exporter names them"),
)


class _Application:
    """What the server serves, as `web.server.Application`."""

    def __init__(self, exporter: Exporter, reloads: Reloads) -> None:
        self._exporter = exporter
        self._reloads = reloads

    def scrape(self, path: str, format: Format, /) -> list[bytes]:  # noqa: A002 - the server's word
        return self._exporter.scrape(path, openmetrics=format is Format.OPENMETRICS)

    def document(self, *, private: bool, round_trips: bool) -> list[bytes]:
        return [self._exporter.document(private=private, round_trips=round_trips)]

    def targets(self) -> bytes:
        problem = self._exporter.ready()
        if problem:
            raise NotKnownError(problem)
        try:
            return targets(self._exporter.overview(), 0)
        except UnknownTargetsError as error:
            raise NotKnownError(str(error)) from None

    def up(self, netns: str, interface: str, public_key: str) -> tuple[bool | None, str] | None:
        return self._exporter.fast.standing((netns, interface, public_key))

    def pause(self, asked: Mapping[str, str]) -> str:
        return self._exporter.pause_probes(asked)

    async def reload(self) -> str:
        return await asyncio.shield(self._reloads.ask())

    def quiet(self, asked: Mapping[str, str], *, end: bool) -> bytes:
        quiets = self._exporter.quiets
        try:
            return msgspec.json.encode(quiets.end(asked) if end else quiets.begin(asked, self._exporter.name_of))
        except AskedError as error:
            raise RefusedError(str(error)) from None

    def events(self, asked: Wanted, *, private: bool) -> tuple[bytes, int]:
        found, number = self._exporter.journal.read(asked.after)
        return lines(asked.of(list(told(found, OWNER if private else self._strangers())))), number

    def recent(self, most: int) -> list[Event]:
        found, _number = self._exporter.journal.read()
        return list(told(found, self._strangers()))[-most:]

    def _strangers(self) -> Audience:
        config = self._exporter.config
        namespaces = {"", *(place.name for place in config.namespaces)}
        shown = lambda netns, interface: netns in namespaces and config.interfaces.wanted(interface)  # noqa: E731
        return Audience(config.metrics.endpoint, shown, private=False)

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


async def serve(
    exporter: Exporter, doors: Doors, asked: Asked, hooks: Hooks, policies: Policies | None = None, *, docs: Docs
) -> int:
    """Serve until a signal comes. Returns the exit code. `policies` say who may ask over TCP; None = anybody.
    `docs` are what is below /docs/.
    """
    log = Log(__name__)
    loop = asyncio.get_running_loop()
    catch_loop(loop)
    stopping = asyncio.Event()
    reloads = Reloads(exporter.reload)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloads.ask)
    hooks.listen(lambda: _later(loop, reloads.ask), lambda: _later(loop, stopping.set))
    signals.release()

    path = parse_telemetry_path(asked.telemetry_path)
    server = Server(
        _Application(exporter, reloads),
        PAGES,
        path,
        policy=policies.now if policies else None,
        lifecycle=asked.lifecycle,
        docs=docs,
    )
    exporter.journal.listen(lambda: _later(loop, server.happened))
    if policies:
        policies.use = lambda policy: _later(loop, partial(server.use, policy))
        if server.policy is not policies.now:  # another one came in between
            server.use(policies.now)
    await server.start(doors.sockets, doors.local.socket if doors.local else None)
    if server.policy.open_to_all:
        _say_who_can_read(doors)
    for address in server.addresses:
        log.info("listening", address=address, path=path, version=__version__)
    if doors.problem:
        Log(__name__).warn("no unix socket", problem=doors.problem)
    if doors.track_files is not None and doors.track_files.problem:
        Log(__name__).warn("no track files", problem=doors.track_files.problem)
    if doors.storage.path and doors.storage.problem:
        Log(__name__).warn("nothing is kept across restarts", problem=doors.storage.problem)
    exporter.start()
    await loop.run_in_executor(None, exporter.wait_until_ready, 10.0)
    _spare_collector()
    hooks.ready()
    await stopping.wait()
    log.info("stopping")
    reloads.stop()
    hooks.stopping()
    await server.stop()  # first, as who is being answered needs the sources
    await loop.run_in_executor(None, exporter.stop)
    signals.hold()
    for number in signals.HEEDED:  # the handlers go with the loop, and who says it twice still wants exit code 0
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)  # there are threads that don't hold them
    return 0


def _say_who_can_read(doors: Doors) -> None:
    """Once, at the start: it is the usual state of a new installation, and nobody looks again later."""
    addresses = [ip_address(sock.getsockname()[0]) for sock in doors.sockets if sock.family != AF_UNIX]
    if any(address.is_unspecified for address in addresses):
        Log(__name__).warn(
            "anybody who reaches the port can read all metrics",
            fix="listen on one address (--web.listen-address), or set TLS and a password (--web.config.file)",
        )


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Call it in the event loop, from any thread; not any more once that has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _spare_collector() -> None:
    """Exempt what lives now, modules and tables, from garbage collection, and make collections rarer.

    Rows are tuples of numbers and text, which form no cycles: a collection would go through tens of thousands in vain.
    """
    gc.collect()
    give_back()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
