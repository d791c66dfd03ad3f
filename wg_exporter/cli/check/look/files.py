"""Facts about files: the configuration, WireGuard's own, and who can get at them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.catalogue import NAMES
from wg_exporter.cli.check.facts import ConfFact, ConfigFacts, FileFact
from wg_exporter.conffile.secrets import secrets_in
from wg_exporter.config import Config, ConfigError, load
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.privileges import open_to_all
from wg_exporter.reader import networkd
from wg_exporter.reader.conf import DEFAULT_PATTERNS, MAX_BYTES, ConfSource

if TYPE_CHECKING:
    from collections.abc import Iterator


def file_fact(path: str | Path) -> FileFact:
    """How a file lies there. Links are followed."""
    name = str(path)
    real = os.path.realpath(name)
    try:
        found = os.stat(real)  # noqa: PTH116 - a path as it was given
        directory = os.stat(os.path.dirname(real))  # noqa: PTH116, PTH120
    except (OSError, ValueError) as error:
        return FileFact(name, problem=getattr(error, "strerror", None) or "can't be looked at")
    return FileFact(name, found.st_mode, found.st_uid, not open_to_all(real), directory.st_mode)


def config_facts(path: Path | None) -> ConfigFacts:
    """The configuration in this file, or the default."""
    if path is None:
        return ConfigFacts(Config())
    try:
        return ConfigFacts(load(path, NAMES), file_fact(path))
    except ConfigError as error:
        return ConfigFacts(None, file_fact(path), error.problems)


def conf_facts(config: Config) -> tuple[tuple[ConfFact, ...], str]:
    """WireGuard's files that the exporter takes names from; and why they can't be read, in one line."""
    try:
        rows = ConfSource(DEFAULT_PATTERNS if config.names is None else config.names).read()
    except SourceError as error:
        return (), str(error)
    found: dict[str, ConfFact] = {}
    for row in rows:
        path = Path(row.path)
        if "*" in row.path or path.is_dir():  # a line about a pattern or a directory, not about a file
            found[row.path] = ConfFact(FileFact(row.path, problem=""), secret=False, row=row)
            continue
        named: dict[str, None] = {}
        found[row.path] = _conf_fact(row.path, named)._replace(row=row)
        for drop_in in _drop_ins(path) if path.suffix == ".netdev" else ():
            found.setdefault(str(drop_in), _conf_fact(str(drop_in), named))
        for key_file in named:
            fact = file_fact(key_file)
            if not fact.problem:
                found.setdefault(key_file, ConfFact(fact, secret=True))
    return tuple(found.values()), ""


def _conf_fact(path: str, named: dict[str, None]) -> ConfFact:
    """One file; the files of keys that it names go into `named`."""
    fact = file_fact(path)
    if fact.problem:
        return ConfFact(fact, secret=False)
    try:
        secrets = secrets_in(_text(path))
    except OSError as error:
        return ConfFact(fact._replace(problem=error.strerror or "can't be read"), secret=False)
    named.update(dict.fromkeys(secrets.files))
    return ConfFact(fact, secrets.inside)


def _drop_ins(path: Path) -> Iterator[Path]:
    def listing(directory: Path) -> list[str]:
        return [entry.name for entry in directory.iterdir()]

    try:
        yield from networkd.find_drop_ins(networkd.drop_in_directories(path, networkd.DIRECTORIES), listing)
    except OSError:
        return  # its row says so


def _text(path: str) -> str:
    """The beginning of a regular file, byte for character. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(MAX_BYTES).decode("latin-1")
