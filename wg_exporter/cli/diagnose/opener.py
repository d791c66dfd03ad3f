"""Has the initiations that arrive opened with the device's private key, each once, in a thread."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wg_exporter.causes.facts import Opened
from wg_exporter.cli.diagnose import host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wg_exporter.cli.diagnose.choice import Chosen
    from wg_exporter.sighted import Callers, Sighting

MOST_OPENED = 64  # messages: strangers may send many


class Opener:
    """Has each initiation that arrives opened, once, in a thread."""

    def __init__(self, chosen: Chosen, paths: Mapping[str, str]) -> None:
        self._chosen, self._paths = chosen, paths
        self._asked: set[bytes] = set()
        self._job: host.Job[list[Any]] | None = None
        self._under_way: list[tuple[bytes, float, str]] = []
        self._opened: list[Opened] = []
        self._tried = False
        self.problem = ""

    def take(self, sighting: Sighting | None, callers: Callers | None) -> None:
        """Take what was seen, and what was opened."""
        if self._job is not None:
            if not self._job.done:
                return
            self._collect(self._job)
        fresh = [one for one in _initiations(self._chosen, sighting, callers) if one[0] not in self._asked]
        if not fresh or self._chosen.device is None or len(self._asked) >= MOST_OPENED:
            return
        self._asked.update(message for message, _, _ in fresh)
        self._under_way = fresh
        netns, name, _ = self._chosen.key
        backend, messages = self._chosen.device.backend, [message for message, _, _ in fresh]
        self._job = host.Job("open", lambda: host.open_messages(self._paths, netns, name, backend, messages))

    @property
    def late(self) -> bool:
        """Whether something came, and nothing is opened yet."""
        return self._job is not None and not self._tried

    def finish(self, seconds: float) -> None:
        """Wait for what is under way."""
        if self._job is not None:
            self._job.wait(seconds)
            if self._job.done:
                self._collect(self._job)

    def opened(self, names: Mapping[str, str]) -> tuple[Opened, ...] | None:
        """What was opened; None if nothing came, or it could not be opened."""
        if not self._tried:
            return None
        return tuple(one._replace(peer=names.get(one.key, "")) for one in self._opened)

    def _collect(self, job: host.Job[list[Any]]) -> None:
        self._job = None
        self.problem = job.problem
        if job.value is None:
            return
        self._tried = True
        for (_, at, sender), found in zip(self._under_way, job.value, strict=False):
            if found is not None:
                self._opened.append(Opened(found.caller, found.stamp, at, sender=sender))


def _initiations(
    chosen: Chosen, sighting: Sighting | None, callers: Callers | None
) -> Sequence[tuple[bytes, float, str]]:
    """Initiations that were seen: the message, when it came (wall clock), and from where."""
    found = []
    wall, now = time.time(), time.monotonic()
    if sighting is not None and sighting.initiation:
        at = wall - (now - sighting.received_at[-1]) if sighting.received_at else wall
        found.append((sighting.initiation, at, chosen.peer.endpoint if chosen.peer else ""))
    for caller in callers.callers if callers else ():
        if caller.initiation and caller.for_us:
            with suppress(ValueError):
                found.append((caller.initiation, wall, _place(caller.sender.address, caller.sender.port)))
    return found


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
