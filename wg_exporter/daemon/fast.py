"""Who is up and who is down by fast echoes, for whoever asks: machines over HTTP, track files, `/metrics`.

Whoever asks waits for no lock: each look and each word of the prober makes new rows, which never change. Changes come
in the thread that talks to the prober, and are passed on at once; ticks only say who is asked.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.log import Log
from wg_exporter.plan.fast import FastPlan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.daemon.prober import Prober
    from wg_exporter.daemon.tracking import Tracking
    from wg_exporter.linux.trackfiles import TrackFiles
    from wg_exporter.model import DeviceKey, PeerKey

NO_ANSWER_YET = "its echoes have not said yet"


class Standing(NamedTuple):
    """How a peer is by its fast echoes: `up`, None = not known, and why it is not up, empty if echoes say so."""

    up: bool | None
    why: str = ""


class FastPeers:
    """All peers with fast echoes. Thread-safe."""

    def __init__(self, prober: Prober | None, files: TrackFiles | None = None) -> None:
        self._prober = prober
        self._directory = files.path if files is not None else ""
        self._tracking = _tracking(files)
        self._log = Log(__name__)
        self._plan = FastPlan()
        self._asked: frozenset[PeerKey] = frozenset()
        self._lock = threading.Lock()  # so that of two who tell at once the later one has the last word
        self._listening = False
        self._known: Mapping[PeerKey, bool] = {}  # as it was last known, for the log

    def follow(self, plan: FastPlan) -> None:
        """Ask these from now on."""
        if self._prober is None or (plan == FastPlan() and not self._listening):
            if self._tracking is not None:
                self._tracking.tell({})  # files of before are nobody's any more
            return
        if plan is not self._plan:
            self._asked = frozenset(peer.key for peer in plan.peers)
            self._plan = plan
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
            return None
        up = self._told().get(key)
        return Standing(up, NO_ANSWER_YET if up is None else "")

    def now(self) -> Mapping[DeviceKey, Mapping[str, tuple[str, bool]]]:
        """Where the echoes of each peer go or last went, and whether it is up, by device and public key; without those
        of whom that is not known.
        """
        plan, told = self._plan, self._told()
        rows = [(peer.key, peer.target, told.get(peer.key)) for peer in plan.peers]
        rows += [(key, row.target, False if row.down and row.target else None) for key, row in plan.unasked.items()]
        found: dict[DeviceKey, dict[str, tuple[str, bool]]] = {}
        for (netns, interface, public_key), target, up in rows:
            if up is not None:
                found.setdefault((netns, interface), {})[public_key] = target, up
        return found

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
                self._tracking.tell(states)
            known = {key: up for key, up in states.items() if up is not None}
            before, self._known = self._known, {key: self._known[key] for key in states if key in self._known} | known
        for key, up in known.items():
            # What is found out first is no change, unless it is bad news.
            if up is not before.get(key, True):
                row = self._plan.unasked.get(key)
                self._say(key, row.why if row else "", up=up)

    def _say(self, key: PeerKey, problem: str, *, up: bool) -> None:
        netns, interface, public_key = key
        where = {"interface": interface, "netns": netns, "public_key": public_key}
        if up:
            self._log.info("up by fast echoes", **where)
        else:
            self._log.warn("down by fast echoes", **where, **({"problem": problem} if problem else {}))


def _tracking(files: TrackFiles | None) -> Tracking | None:
    """What writes these files, if there are any. Few hosts have them, so it is not imported before."""
    if not files:
        return None
    from wg_exporter.daemon.tracking import Tracking  # noqa: PLC0415

    return Tracking(files)
