"""What this host says, looked at in the background while packets are on their way: devices, routes, rules, names.

Each question has a thread, for some take seconds (a daemon that hangs, a resolver that does not answer), and whoever
waits for packets must not wait for them. What is not there at the end is not known, and says so.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from wg_exporter.cli.diagnose.firewall import source
from wg_exporter.linux.errors import SourceError
from wg_exporter.prober.wire.netns import Namespaces
from wg_exporter.reader import opening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.cli.diagnose.firewall.ruleset import Chain, Ruleset
    from wg_exporter.model import Backend
    from wg_exporter.reader.initiation import Opened

T = TypeVar("T")


class Job(Generic[T]):
    """One question, in a thread that nobody waits for when the program ends."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self.value: T | None = None
        self.problem = ""
        self.done = False
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> T | None:
        """The answer, if it is there after so many seconds at most."""
        self._thread.join(max(seconds, 0.0))
        return self.value

    def _run(self) -> None:
        try:
            self.value = self._work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the rest goes on
            self.problem = _said(error)
        self.done = True


class Repeated(Generic[T]):
    """A question that is asked again and again, so that what changes meanwhile is seen. `first` is the first answer."""

    def __init__(self, name: str, work: Callable[[], T], every: float) -> None:
        self.first: T | None = None
        self.last: T | None = None
        self.problem = ""
        self._work, self._every = work, every
        self._stop = threading.Event()
        self._fresh = threading.Condition()
        self._count = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()

    def once_more(self, seconds: float) -> T | None:
        """An answer to a question that is asked from now on; the last one if it does not come in time."""
        with self._fresh:
            wanted = self._count + 2  # the one under way may be older
            self._fresh.wait_for(lambda: self._count >= wanted or not self._thread.is_alive(), seconds)
        return self.last

    def wait(self, seconds: float) -> T | None:
        """The first answer, if it comes in time."""
        with self._fresh:
            self._fresh.wait_for(lambda: self._count > 0 or not self._thread.is_alive(), seconds)
        return self.first

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self.last = self._work()
            except Exception as error:  # noqa: BLE001 - as above; the devices' reader is stopped at the end, too
                self.problem = _said(error)
                if self.first is None:
                    break
            else:
                self.first = self.last if self.first is None else self.first
            with self._fresh:
                self._count += 1
                self._fresh.notify_all()
            self._stop.wait(max(self._every, 2 * (time.monotonic() - began)))
        with self._fresh:
            self._fresh.notify_all()


def _said(error: Exception) -> str:
    """What went wrong, in one line that quotes nothing of what was read."""
    if isinstance(error, SourceError | RuntimeError):
        return str(error)
    return error.strerror or "it failed" if isinstance(error, OSError) else f"unexpected {type(error).__name__}"


# --- names ----------------------------------------------------------------------------------------------------------


class Resolved(NamedTuple):
    """What a name resolves to now, nothing perhaps. `problem`: why that is not known, empty if it is."""

    addresses: tuple[str, ...] = ()
    problem: str = ""


def resolve(name: str) -> Resolved:
    """Look a host name up, as `wg` does. It may take as long as the resolver likes."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return Resolved()
        return Resolved(problem=error.strerror or "it could not be looked up")
    except (OSError, UnicodeError) as error:
        return Resolved(problem=str(error))
    return Resolved(tuple(dict.fromkeys(str(row[4][0]).partition("%")[0] for row in found)))


# --- the firewall ---------------------------------------------------------------------------------------------------


class Firewall(NamedTuple):
    """The rulesets of both namespaces. `unread`: what of the firewall is not in them, in words. `forwards`: whether the
    device's namespace sends on packets of others.
    """

    outer: Ruleset
    inner: Ruleset
    unread: tuple[str, ...] = ()
    forwards: bool = False


def firewall(paths: Mapping[str, str], underlay: str, netns: str) -> Firewall:
    """Read the rules of the namespace of the outer packets and of that of the device. Raises OSError, SourceError."""
    with closing(Namespaces(paths)) as namespaces:
        outer, unread = namespaces.inside(underlay, source.read), namespaces.inside(underlay, source.legacy)
        inner = outer
        if netns != underlay:
            inner = namespaces.inside(netns, source.read)
            unread += namespaces.inside(netns, source.legacy)
        forwards = namespaces.inside(netns, source.forwards)
    return Firewall(outer, inner, tuple(dict.fromkeys(unread)), forwards)


def rule_texts(paths: Mapping[str, str], netns: str, chain: Chain) -> dict[int, str]:
    """The rules of a chain as nft writes them; none where it can't be asked."""
    try:
        with closing(Namespaces(paths)) as namespaces:
            return namespaces.inside(netns, lambda: source.texts(chain))
    except (OSError, RuntimeError):
        return {}


# --- initiations ----------------------------------------------------------------------------------------------------


def open_messages(
    paths: Mapping[str, str], netns: str, name: str, backend: Backend, messages: Sequence[bytes]
) -> list[Opened | None]:
    """What initiations to a device say, by its private key. Raises OSError, SourceError."""
    with closing(Namespaces(paths)) as namespaces:
        return namespaces.inside(netns, lambda: opening.opened(name, backend, messages))
