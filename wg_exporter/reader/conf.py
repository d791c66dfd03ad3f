"""Names and intent from the configuration files of the host: finds them, reads those that changed, and parses them.

The files are read again on every call but parsed only when one changed, told by its stat signature. While nothing
changed, `read` gives the very same tuple, so that its reader can tell by `is`. Files are opened as an attacker's would
be: only regular ones, never blocking, never more than MAX_BYTES.

The files are root's and 0600, so the usual fault is an exporter without rights. That fails the whole source, with
DeniedError. Every other fault is a problem in the row of its file.
"""

from __future__ import annotations

import fnmatch
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.conffile import read_netdev, read_wg_quick
from wg_exporter.linux.errors import DeniedError
from wg_exporter.model import ConfFile
from wg_exporter.reader import networkd
from wg_exporter.reader.conftext import ConfText
from wg_exporter.reader.keys import NO_KEY, FileKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.conffile import KeyPlaces
    from wg_exporter.conffile.section import KeyPlace
    from wg_exporter.reader.keys import KeyDigests

DEFAULT_PATTERNS = (
    "/etc/wireguard/*.conf",
    "/etc/amnezia/amneziawg/*.conf",
    *(f"{directory}/*.netdev" for directory in networkd.DIRECTORIES),
)
MAX_BYTES = 8 << 20
MAX_KEY_BYTES = 4096
MAX_FILES = 4096
# Two changes within one tick of a file system's clock have the same stamp. Stamps younger than this are not trusted.
SETTLED_NS = 2_000_000_000
# A file with fewer peers than before that changed so lately may be half written. Until it is older its last row holds:
# a moment without names would start new series for every peer.
BEING_WRITTEN_NS = 1_000_000_000

_FAULT = "it gives no names; fix that, or leave it out of `names` in the configuration"

# Per path: modification and change time (ns), size, inode and device; or the errno of stat.
_Signature = tuple[tuple[int, ...], ...]


class _Parsed(NamedTuple):
    """A row, the files that it was made from, what they looked like before they were read, and the keys in them."""

    row: ConfFile
    watched: tuple[Path, ...]
    signature: _Signature
    keys: FileKeys = FileKeys()


class _UnreadableError(Exception):
    """Why one file was not read, in one line without its path."""


class ConfSource:
    """Reads the files that match the patterns. Not thread-safe: one thread calls `read`.

    A pattern with `*`, `?` or `[` in it may match nothing, and its directory may be absent: that is normal on a host
    configured in another way. A pattern without these is a file that somebody asked for: a missing one is a problem,
    and it is read even where systemd-networkd would take another one of its name. `wall_ns` is the wall clock in
    nanoseconds since the epoch, `networkd_directories` are as in `networkd.DIRECTORIES`. `digests` makes those
    in `keys`.
    """

    def __init__(
        self,
        patterns: Sequence[str] = DEFAULT_PATTERNS,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        networkd_directories: Sequence[Path] = networkd.DIRECTORIES,
        digests: KeyDigests | None = None,
    ) -> None:
        self._patterns = tuple(patterns)
        self._wall_ns = wall_ns
        self._networkd_directories = tuple(networkd_directories)
        self._content = ConfText(digests)
        self.keys: Mapping[str, FileKeys] = {}
        """By path, the digests of the secret keys in the files that the last read found; the same objects as before
        while nothing changed."""
        self._parsed: dict[Path, _Parsed] = {}
        self._rows: tuple[ConfFile, ...] = ()
        self.idle_patterns: tuple[str, ...] = ()
        """The patterns for which the last read found no file; those of directories that can't be listed excepted."""

    def read(self) -> tuple[ConfFile, ...]:
        """One row per file, by path; the same object as before while nothing changed.

        A file that cannot be read, any more or at all, has a row without peers and with a problem.
        Raises DeniedError if nothing could be read, for want of permission.
        """
        rows: dict[str, ConfFile] = {}
        keys: dict[str, FileKeys] = {}
        denied: list[str] = []
        paths = self._find(rows, denied)
        self._parsed = {path: parsed for path, parsed in self._parsed.items() if path in paths}
        good = 0
        for path in paths:
            try:
                row, found = self._row(path)
                known = self.keys.get(row.path)
                keys[row.path] = known if known is not None and known == found else found
                # A bridge's .netdev that anyone may read does not make up for what could not be read.
                good += bool(row.interface or row.peers)
            except PermissionError:
                denied.append(_shown(path))
                row = _faulty(path, f"permission denied; {_FAULT}")
            except OSError as error:
                row = _faulty(path, f"{_reason(error)}; {_FAULT}")
            except (_UnreadableError, ValueError) as error:
                row = _faulty(path, f"{error}; {_FAULT}")
            rows[row.path] = row
        self.keys = keys
        if denied and not good:
            more = f" and {len(denied) - 1} more" if len(denied) > 1 else ""
            raise DeniedError(
                f"{_printable(denied[0])}{more}: permission denied; "
                "run as root, or give the names under `peers` and set `names: []` in the configuration"
            )
        self._rows = _same_objects(self._rows, rows)
        return self._rows

    def _find(self, rows: dict[str, ConfFile], denied: list[str]) -> list[Path]:
        """The paths to read. Directories that cannot be listed get a row, and an entry in `denied` if it is for want
        of permission."""
        found: dict[Path, None] = {}
        idle = []
        for pattern in map(Path, self._patterns):
            if not _is_glob(str(pattern)):
                found[pattern] = None
                continue
            matched = False
            for directory in _directories(pattern.parent):
                try:
                    names = _listing(directory)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except (OSError, ValueError) as error:
                    matched = True  # not known
                    shown = _shown(directory)
                    rows[shown] = _faulty(directory, f"{_reason(error)}; {_FAULT}")
                    if isinstance(error, PermissionError):
                        denied.append(shown)
                    continue
                paths = [directory / name for name in fnmatch.filter(names, pattern.name)]
                found.update((path, None) for path in paths if not self._is_replaced(path))
                matched = matched or bool(paths)
            if not matched:
                idle.append(_shown(pattern))
        self.idle_patterns = tuple(idle)
        if len(found) > MAX_FILES:
            where = self._patterns[0]
            rows[where] = ConfFile(where, "", (), (f"{where}: more than {MAX_FILES} files; the rest is not read",))
        return sorted(found)[:MAX_FILES]

    def _is_replaced(self, path: Path) -> bool:
        return path.suffix == ".netdev" and networkd.is_replaced(path, self._networkd_directories)

    def _row(self, path: Path) -> tuple[ConfFile, FileKeys]:
        known = self._parsed.get(path)
        if known is not None and _signature(known.watched) == known.signature:
            return known.row, known.keys
        if path.suffix == ".netdev":
            parsed = _parse_netdev_files(path, self._networkd_directories, self._content)
        else:
            parsed = _parse_conf_file(path, self._content)
        newest = max((stamp for signature in parsed.signature for stamp in signature[:2]), default=0)
        age = self._wall_ns() - newest
        if known is not None and 0 <= age < BEING_WRITTEN_NS and len(parsed.row.peers) < len(known.row.peers):
            return known.row, known.keys
        if 0 <= age < SETTLED_NS:
            self._parsed.pop(path, None)
        else:
            self._parsed[path] = parsed
        return parsed.row, parsed.keys


def _parse_conf_file(path: Path, content: ConfText) -> _Parsed:
    watched = (path,)
    signature = _signature(watched)
    shown = _shown(path)
    row, places = read_wg_quick(_read(path, content), shown)
    return _Parsed(row, watched, signature, _keys(places, {shown: content.keys}))


def _parse_netdev_files(path: Path, directories: Sequence[Path], content: ConfText) -> _Parsed:
    """A .netdev, its drop-ins (networkd.py), and the key files that they name."""
    watched = [path, *networkd.drop_in_directories(path, directories)]
    before = _signature(watched)
    if networkd.masks(path.stat()):
        return _Parsed(ConfFile(_shown(path), ""), (path,), before[:1])
    text = _read(path, content)
    digests = {_shown(path): content.keys}
    drop_ins = networkd.find_drop_ins(watched[1:], _listing)[:MAX_FILES]
    watched += drop_ins
    before += _signature(drop_ins)
    texts = []
    for drop_in in drop_ins:
        if not networkd.masks(drop_in.stat()):
            texts.append((_shown(drop_in), _read(drop_in, content)))
            digests[_shown(drop_in)] = content.keys

    def read_key(name: str) -> str | None:
        nonlocal before
        key_path = Path(name)
        if not key_path.is_absolute():
            return None
        watched.append(key_path)
        before += _signature((key_path,))
        try:
            return _read(key_path, content, MAX_KEY_BYTES, secrets=False)
        except (OSError, ValueError, _UnreadableError):
            return None

    row, places = read_netdev(text, _shown(path), read_key=read_key, drop_ins=texts)
    return _Parsed(row, tuple(watched), before, _keys(places, digests))


def _keys(places: KeyPlaces, digests: Mapping[str, Mapping[int, bytes]]) -> FileKeys:
    """The digests, by path and line, where the keys stand that the file gives to its device and its peers."""

    def at(place: KeyPlace | None) -> bytes | None:
        return digests.get(place.path, {}).get(place.line) if place else NO_KEY

    preshared_keys = {key: digest for key, place in places.preshared_keys.items() if (digest := at(place)) is not None}
    return FileKeys(at(places.private_key) or None, preshared_keys)


def _signature(paths: Sequence[Path]) -> _Signature:
    return tuple(_stat_signature(path) for path in paths)


def _stat_signature(path: Path) -> tuple[int, ...]:
    try:
        status = path.stat()
    except OSError as error:
        return (0, 0, error.errno or 0)
    except ValueError:
        # A NUL in a path that a file named.
        return (0, 0)
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def _read(path: Path, text: ConfText, limit: int = MAX_BYTES, *, secrets: bool = True) -> str:
    """The text of a regular file without the secrets in it. Raises OSError and _UnreadableError."""
    # Checked before it is opened, for opening a device can have an effect, and after, for it may be another file then.
    _check(path.stat(), limit)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        _check(os.fstat(descriptor), limit)
        content = text.read(file, limit, secrets=secrets)
    if content is None:
        raise _UnreadableError(f"larger than {limit} bytes")
    return content


def _check(status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _UnreadableError("not a regular file")
    if status.st_size > limit:
        raise _UnreadableError(f"larger than {limit} bytes")


def _is_glob(text: str) -> bool:
    return any(character in text for character in "*?[")


def _directories(pattern: Path) -> Iterator[Path]:
    """The directories that a pattern stands for. Those that cannot be looked into are left out, save a plain one."""
    if not _is_glob(str(pattern)):
        yield pattern
        return
    for parent in _directories(pattern.parent):
        try:
            names = fnmatch.filter(_listing(parent), pattern.name)
        except OSError:
            continue
        yield from (parent / name for name in sorted(names))


def _listing(directory: Path) -> list[str]:
    """The names in a directory without the hidden ones, as a shell's `*` gives them."""
    return [entry.name for entry in directory.iterdir() if not entry.name.startswith(".")]


def _shown(path: Path) -> str:
    """The path as text that can be printed; a file's name may be any bytes."""
    return os.fsencode(path).decode("utf-8", "replace")


def _faulty(path: Path, problem: str) -> ConfFile:
    shown = _shown(path)
    return ConfFile(shown, "", (), (f"{_printable(shown)}: {problem}",))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _reason(error: OSError | ValueError) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _same_objects(before: tuple[ConfFile, ...], rows: dict[str, ConfFile]) -> tuple[ConfFile, ...]:
    """The rows by path, the old object for each that is equal, and the old tuple if all are."""
    old = {row.path: row for row in before}
    after = tuple(old[path] if old.get(path) == row else row for path, row in sorted(rows.items()))
    unchanged = len(after) == len(before) and all(a is b for a, b in zip(after, before, strict=True))
    return before if unchanged else after
