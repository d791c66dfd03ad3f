"""What is logged of the readings: a line when something fails, changes or recovers, none while it stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.log import Log, OnChange

if TYPE_CHECKING:
    from wg_exporter.model import Snapshot


class News:
    """Compares each snapshot with what was logged before."""

    def __init__(self) -> None:
        self._log = Log(__name__)
        self._seen = OnChange()

    def report(self, snapshot: Snapshot, expected: int) -> None:
        """Log what is new in `snapshot`. `expected` is the number of peers that should always be up."""
        self._sources(snapshot)
        self._devices(snapshot)
        self._files(snapshot)
        peers = sum(len(device.peers) for device in snapshot.devices)
        if self._seen.changed("peers", (len(snapshot.devices), expected, peers - expected)):
            others = peers - expected
            self._log.info("peers", devices=len(snapshot.devices), expected_up=expected, not_expected_up=others)

    def _sources(self, snapshot: Snapshot) -> None:
        for source, netns, _success, _duration, problem, _absent in snapshot.outcomes:
            if self._seen.changed((source, netns), problem):
                if problem:
                    self._log.error("source failed", source=source, netns=netns, problem=problem)
                else:
                    self._log.info("source works again", source=source, netns=netns)
        if self._seen.changed("notes", snapshot.notes):
            for note in snapshot.notes:
                self._log.info("noticed", note=note)

    def _devices(self, snapshot: Snapshot) -> None:
        for netns, name, _backend, problem in snapshot.failed:
            if self._seen.changed(("device", netns, name), problem):
                self._log.warn("device not read", interface=name, netns=netns, problem=problem)
        for device in snapshot.devices:
            if device.fresh and self._seen.changed(("device", device.netns, device.name), ""):
                self._log.info("device read again", interface=device.name, netns=device.netns)

    def _files(self, snapshot: Snapshot) -> None:
        for file in snapshot.conf:
            if self._seen.changed(file.path, file.problems):
                for problem in file.problems:
                    self._log.warn("names file has a problem", problem=problem)
