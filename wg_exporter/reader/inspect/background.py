"""Looks in the background, a few peers at a time: passes over the sources go on meanwhile."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wg_exporter.reader.inspect.look import inspect
from wg_exporter.reader.inspect.subject import subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.inspected import Inspected
    from wg_exporter.model import PeerKey, Snapshot

MOST = 4  # peers that wait, whoever asks for however many


class Inspector:
    """One thread at a time, and none while nobody asks. Thread-safe."""

    def __init__(
        self,
        namespaces: Mapping[str, str],
        monotonic: Callable[[], float],
        look: Callable[..., Inspected] = inspect,
    ) -> None:
        """`namespaces` are the paths of those that are configured, by name."""
        self._namespaces = namespaces
        self._monotonic = monotonic
        self._look = look
        self._lock = threading.Lock()
        self._waiting: dict[PeerKey, Snapshot] = {}
        self._found: list[Inspected] = []
        self._busy = False

    def ask(self, keys: Sequence[PeerKey], snapshot: Snapshot) -> None:
        """Look for these peers, as the snapshot has them. More than `MOST` at a time are passed over. Does not wait."""
        with self._lock:
            for key in keys:
                if key in self._waiting or len(self._waiting) < MOST:
                    self._waiting[key] = snapshot
            if self._busy or not self._waiting:
                return
            self._busy = True
        threading.Thread(target=self._run, name="inspector", daemon=True).start()

    def take(self) -> tuple[Inspected, ...]:
        """What was found since the last call."""
        with self._lock:
            found, self._found = tuple(self._found), []
        return found

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._busy = False
                    return
                key, snapshot = next(iter(self._waiting.items()))
            one = subject(snapshot, key)
            row = self._look(one, self._namespaces, self._monotonic) if one is not None else None
            with self._lock:
                del self._waiting[key]  # only now, so that nobody is looked at twice for one question
                if row is not None:
                    self._found = [*self._found, row][-MOST:]
