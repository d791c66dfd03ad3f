"""The files of the web configuration: read by whoever may, and looked at again and again, as certificates are renewed
and passwords changed without anybody telling the exporter.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config import ConfigError, place, read
from wg_exporter.config.web import WITHOUT, WebConfigError, parse_web

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOOK_EVERY = 2.0  # seconds between two looks at whether a file has changed

_Signature = tuple[object, ...]


class Material(NamedTuple):
    """What a policy is made of: the text of the configuration, and the paths of its files by name."""

    text: str
    files: Mapping[str, str]


class WebFiles:
    """The configuration at `path` and the files that it names. For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: tuple[str, ...] = ()
        self._seen: _Signature | None = None

    @property
    def where(self) -> str:
        """The name of the configuration, for messages."""
        return place(self._path)

    def read(self) -> Material:
        """As they are now. Raises WebConfigError."""
        self._seen = self._signature()
        try:
            text = read(self._path, WITHOUT)
        except ConfigError as error:
            raise WebConfigError(error.problems) from None
        files = parse_web(text, self.where).files(str(self._path.absolute().parent))
        self._named = tuple(files.values())
        self._seen = self._signature()
        return Material(text, files)

    def changed(self) -> bool:
        """Whether any of them is another than when they were read, or is there again, or is gone."""
        return self._signature() != self._seen

    def _signature(self) -> _Signature:
        return tuple(map(_looks, (str(self._path), *self._named)))


def _looks(path: str) -> object:
    try:
        found = os.stat(path)  # noqa: PTH116 - a link is followed, as certbot's are
    except OSError as error:
        return error.errno
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
