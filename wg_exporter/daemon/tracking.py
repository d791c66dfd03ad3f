"""Keeps the track files: one for each peer with fast echoes, in which keepalived reads whether its tunnel is up.

A file holds 0 while its peer is up and 1 while it is down: with `weight 0` keepalived takes 1 for a fault, with another
weight that is added once to the priority (keepalived.conf(5), "track files"; trackers/track_file.c). A file that is not
there counts as 0 there.

**What is not known moves no address.** Of a peer of which nothing is known a 0 is taken away, which keepalived takes
for 0 as well, and a 1 stays: an exporter that is restarted while a tunnel is down must not draw traffic back into it.
So a file that says 1 is there when the exporter has ended, and the next one decides what becomes of it, once it has met
the peer; unless the peer has no fast echoes any more.

The files are written by a thread of its own: a disk that hangs must not keep anybody from being told by other means.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wg_exporter.log import Log

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from wg_exporter.linux.trackfiles import TrackFiles
    from wg_exporter.model import PeerKey

UP, DOWN = b"0\n", b"1\n"
AGAIN = 1.0  # seconds until a file is tried again that could not be written
STOP_TIMEOUT = 2.0  # seconds for what is being written

_KEY_IN_NAME, _KEY_OF_NAME = str.maketrans("+/", "-_"), str.maketrans("-_", "+/")


def file_name(key: PeerKey) -> str:
    """The file of a peer: `wg0.KEY`, or `blue:wg0.KEY` in the namespace `blue`; the key is in base64 for file names
    (RFC 4648, 5). An interface has no `:` in its name.
    """
    netns, interface, public_key = key
    return (
        f"{netns}:{interface}.{public_key.translate(_KEY_IN_NAME)}"
        if netns
        else (f"{interface}.{public_key.translate(_KEY_IN_NAME)}")
    )


def is_of(name: str, configured: Collection[tuple[str, str]]) -> bool:
    """Whether a file is of one of these peers, by interface, empty for any, and public key."""
    place, _, in_name = name.rpartition(".")
    interface, public_key = place.rpartition(":")[2], in_name.translate(_KEY_OF_NAME)
    return (interface, public_key) in configured or ("", public_key) in configured


def wanted(states: Mapping[str, bool | None], there: Mapping[str, bytes]) -> dict[str, bytes | None]:
    """What has to be written, by name, None = to be removed, so that the files say what is known. `states` has all
    peers, by the names of their files: up, down, or not known; `there` are the files.
    """
    found: dict[str, bytes | None] = {name: None for name in there if name not in states}
    for name, up in states.items():
        now = there.get(name)
        if up is None:
            if now is not None and now != DOWN:
                found[name] = None
        elif now != (right := UP if up else DOWN):
            found[name] = right
    return found


class Tracking:
    """Writes the files, from the first `tell` to `stop`. Thread-safe."""

    def __init__(self, files: TrackFiles) -> None:
        self._files = files
        self._log = Log(__name__)
        self._wake = threading.Event()
        self._states: Mapping[PeerKey, bool | None] | None = None  # nobody has told yet
        self._configured: Collection[tuple[str, str]] = ()
        self._there: dict[str, bytes] | None = None  # not read yet
        self.problem = ""
        """Why not all files could be written the last time; empty if they could."""
        self._stopping = False
        self._thread: threading.Thread | None = None

    def tell(self, states: Mapping[PeerKey, bool | None], configured: Collection[tuple[str, str]] = ()) -> None:
        """This is how all peers are now: up, down, or not known. Nothing is known of others that are `configured`, by
        interface, empty for any, and public key. Waits for nothing.
        """
        told = (states, configured)
        if self._stopping or (told == (self._states, self._configured) and not self._files.gone):
            return
        self._states, self._configured = told
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="track", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """From now on nothing is known. Waits for the files, for at most `STOP_TIMEOUT`."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        while True:
            self._wake.wait(AGAIN if self.problem else None)
            self._wake.clear()
            last = self._stopping
            problem = self._write(self._states or {})
            if last:
                problem = self._write(dict.fromkeys(self._states or ())) or problem
            if problem and problem != self.problem:
                self._log.error("track files not written", directory=self._files.path, problem=problem)
            elif self.problem and not problem:
                self._log.info("track files are written again", directory=self._files.path)
            self.problem = problem
            if last:
                return

    def _write(self, states: Mapping[PeerKey, bool | None]) -> str:
        """Returns why something could not be written; empty if all was."""
        problem = ""
        try:
            there = self._there if self._there is not None and not self._files.gone else self._files.found()
        except OSError as error:
            return error.strerror or str(error)
        self._there = there
        known = {file_name(key): up for key, up in states.items()}
        unmet = {name: None for name in there if is_of(name, self._configured)}
        for name, data in wanted(unmet | known, there).items():
            try:
                if data is None:
                    self._files.remove(name)
                    there.pop(name, None)
                else:
                    self._files.write(name, data)
                    there[name] = data
            except OSError as error:
                problem = error.strerror or str(error)
                self._there = None  # nobody knows what is there now
        return problem
