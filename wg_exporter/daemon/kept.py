"""A file that is written again and again, and read at the next start: what nobody could read is never written over."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from wg_exporter.linux.storage import Storage, StorageError
from wg_exporter.log import OnChange

if TYPE_CHECKING:
    from wg_exporter.log import Log


class KeptFile:
    """Written by one thread at a time. The log says when it begins to fail, and when it works again."""

    def __init__(self, storage: Storage, name: str, what: str, log: Log) -> None:
        """`what` is in it, with its verb: "events are"."""
        self._storage, self._name, self._what, self._log = storage, name, what, log
        self._seen = OnChange()
        self._spared = False
        self.failed = ""
        """Why the last write failed; empty if it did not."""

    def spare(self) -> None:
        """The file could not be read, and may be a good one: it is set aside before the first write."""
        self._spared = True

    def write(self, data: bytes, *, append: bool = False) -> str:
        """Write the file anew, or add to it. Returns why that failed."""
        self.failed = self._write(data, append=append)
        if self._seen.changed("write", self.failed):
            if self.failed:
                self._log.warn(f"{self._what} not kept across restarts", problem=self.failed)
            else:
                self._log.info(f"{self._what} kept across restarts")
        return self.failed

    def _write(self, data: bytes, *, append: bool) -> str:
        try:
            if self._spared:
                with contextlib.suppress(StorageError):  # it is gone; or nothing can be written either
                    self._storage.set_aside(self._name)
                self._spared = False
            if append:
                self._storage.append(self._name, data)
            else:
                self._storage.write(self._name, data)
        except StorageError as error:
            return str(error)
        return ""
