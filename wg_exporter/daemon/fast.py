"""Who is up and who is down by fast echoes, for whoever asks: machines over HTTP, track files, `/metrics`.

Whoever asks waits for no lock: each look and each word of the prober makes new rows, which never change. Changes come
in the thread that talks to the prober, and are passed on at once; ticks only say who is asked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.events import Kind, Level, event
from wg_exporter.log import Log
from wg_exporter.plan.fast import NO_ANSWER_YET, FastPlan
from wg_exporter.probed import FastFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.daemon.prober import Prober
    from wg_exporter.daemon.tracking import Tracking
    from wg_exporter.events import Event
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.linux.trackfiles import TrackFiles
    from wg_exporter.model import Device, DeviceKey, PeerKey
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.quiet import QuietNow

_WORDS = {True: "up", False: "down"}


class Standing(NamedTuple):
    """How a peer is by its fast echoes: `up`, None = not known, and why it is not up, empty if echoes say so."""

    up: bool | None
    why: str = ""


class FastPeers:
    """All peers with fast echoes. Thread-safe."""

    def __init__(
        self,
        prober: Prober | None,
        files: TrackFiles | None,
        tell: Callable[[list[Event]], object],
        quiet: Callable[[], QuietNow],
        wall: Callable[[], float],
    ) -> None:
        """`tell` is called with what changes, in the thread that finds it, and must not wait. `quiet` gives who pages
        nobody now, `wall` the time (seconds since the epoch).
        """
        self._prober = prober
        self._tell, self._quiet, self._wall = tell, quiet, wall
        self._directory = files.path if files is not None else ""
        self._refused = files.problem if files is not None else ""
        self._tracking = _tracking(files)
        self._log = Log(__name__)
        self._plan = FastPlan()
        self._asked: frozenset[PeerKey] = frozenset()
        self._lock = threading.Lock()  # so that of two who tell at once the later one has the last word
        self._listening = False
        self._known: Mapping[PeerKey, bool] = {}  # as it was last known, for the log and the journal
        self._names: dict[PeerKey, str] = {}

    def follow(
        self, plan: FastPlan, devices: Sequence[DeviceChange], metas: Callable[[Device], Sequence[PeerMeta]]
    ) -> None:
        """Ask these from now on. `metas` gives what the peers of a device are called."""
        if self._prober is None or (plan == FastPlan() and not self._listening):
            if self._tracking is not None:
                self._tracking.tell({}, plan.configured)  # files of before may be nobody's any more
            return
        if plan is not self._plan:
            self._asked = frozenset(peer.key for peer in plan.peers)
            self._plan = plan
            self._name(devices, metas)
        if not self._listening:
            self._listening = True
            self._prober.listen_fast(self._changed)
        self._prober.ask_fast(plan.peers)
        self._changed()

    def reloaded(self, directory: str | None) -> None:
        """The configuration was read again; it names this directory for track files."""
        if (directory or "") != self._directory:
            self._log.warn(
                "track files stay where they are",
                directory=self._directory,
                fix="restart wg-exporter to have them moved",
            )

    def standing(self, key: PeerKey) -> Standing | None:
        """How a peer is now; None if it has no fast echoes. Waits for nothing."""
        unasked = self._plan.unasked.get(key)
        if unasked is not None:
            return Standing(False if unasked.down else None, unasked.why)
        if key not in self._asked:
            unmet = self._plan.unmet(key)
            return unmet and Standing(None, unmet.why)
        up = self._told().get(key)
        return Standing(up, NO_ANSWER_YET if up is None else "")

    def now(self) -> Mapping[DeviceKey, Mapping[str, FastFound]]:
        """How each peer that should have fast echoes is by them, by device and public key."""
        plan, told = self._plan, self._told()
        found: dict[DeviceKey, dict[str, FastFound]] = {}
        rows = [(peer.key, FastFound(peer.target, told.get(peer.key))) for peer in plan.peers]
        rows = [(key, row if row.up is not None else row._replace(why=NO_ANSWER_YET)) for key, row in rows]
        rows += [
            (key, FastFound(row.target, False if row.down else None, row.why)) for key, row in plan.unasked.items()
        ]
        for (netns, interface, public_key), row in rows:
            found.setdefault((netns, interface), {})[public_key] = row
        return found

    def track_files(self) -> tuple[str, str]:
        """The directory of track files, empty = there is none, and why nothing can be written there, empty = it can."""
        return self._directory, self._tracking.problem if self._tracking is not None else self._refused

    def stop(self) -> None:
        """Nothing is known from now on."""
        self._prober = None
        if self._tracking is not None:
            self._tracking.stop()

    def _told(self) -> Mapping[PeerKey, bool]:
        return self._prober.fast() if self._prober is not None and self._listening else {}

    def _states(self) -> dict[PeerKey, bool | None]:
        plan, told = self._plan, self._told()
        states: dict[PeerKey, bool | None] = {peer.key: told.get(peer.key) for peer in plan.peers}
        return states | {key: False if row.down else None for key, row in plan.unasked.items()}

    def _changed(self) -> None:
        """By the thread that talks to the prober, and by ticks."""
        with self._lock:
            states = self._states()
            if self._tracking is not None:
                self._tracking.tell(states, self._plan.configured)
            known = {key: up for key, up in states.items() if up is not None}
            before, self._known = self._known, {key: self._known[key] for key in states if key in self._known} | known
        # What is found out first is no change, unless it is bad news.
        events = [self._event(key, before.get(key), up) for key, up in known.items() if up is not before.get(key, True)]
        for one in events:
            self._say(one)
        if events:
            self._tell(events)

    def _name(self, devices: Sequence[DeviceChange], metas: Callable[[Device], Sequence[PeerMeta]]) -> None:
        """Remember what peers are called. One that is gone keeps its name."""
        names = {key: self._names.get(key, "") for key in (*self._asked, *self._plan.unasked)}
        for device in (change.device for change in devices if change.device is not None):
            for public_key, meta in zip(device.peers.public_key, metas(device), strict=True):
                if (key := (device.netns, device.name, public_key)) in names:
                    names[key] = meta.name
        self._names = names

    def _event(self, key: PeerKey, before: bool | None, up: bool) -> Event:  # noqa: FBT001
        netns, interface, public_key = key
        row = self._plan.unasked.get(key)
        quiet = self._quiet().peer((netns, interface), public_key) is not None
        return event(
            Kind.FAST,
            self._wall(),
            (netns, interface),
            level=Level.INFO if up or quiet else Level.WARN,
            public_key=public_key,
            name=self._names.get(key, ""),
            before="" if before is None else _WORDS[before],
            after=_WORDS[up],
            evidence=row.why if row and not up else "",
            quiet=quiet,
        )

    def _say(self, one: Event) -> None:
        fields: dict[str, object] = {"interface": one.interface, "netns": one.netns, "public_key": one.public_key}
        fields |= {"problem": one.evidence} if one.evidence else {}
        fields |= {"quiet": True} if one.quiet else {}
        say = self._log.warn if one.level is Level.WARN else self._log.info
        say(f"{one.after} by fast echoes", **fields)


def _tracking(files: TrackFiles | None) -> Tracking | None:
    """What writes these files, if there are any. Few hosts have them, so it is not imported before."""
    if not files:
        return None
    from wg_exporter.daemon.tracking import Tracking  # noqa: PLC0415

    return Tracking(files)
