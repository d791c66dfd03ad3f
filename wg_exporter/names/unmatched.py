"""What the configuration speaks of and nothing on this host is: a slip of the pen, mostly.

A rule under `expect` that matches no peer waits for nobody, so nobody is told when the peer that it means is down. So
an entry that matches nothing is said. One that has matched once is not asked about again: that a device or a peer goes
is another story, and told as such. As long as anything could not be read that an entry may be about, it is not known
whether the entry matches.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.config.text import shown
from wg_exporter.model import KERNEL_KINDS, USERSPACE_KIND, Peer, SourceName
from wg_exporter.names.identity import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wg_exporter.config import Config, ExpectRule, PeerConfig
    from wg_exporter.model import ConfFile, Device, Snapshot
    from wg_exporter.names.identity import PeerMeta

_NAMED = 5  # interfaces in a message
MOST = 10
"""So many entries are told, and the number of the rest: one file may be made for all hosts of a fleet."""


class Unmatched(NamedTuple):
    """An entry of the configuration that matches nothing: where it stands, and one line that says so."""

    where: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where} in the configuration: {self.problem}"


def told(found: Sequence[Unmatched]) -> Iterator[str]:
    """These entries as lines for a person, `MOST` of them."""
    yield from map(str, found[:MOST])
    if len(found) > MOST:
        yield f"and {len(found) - MOST:,} more entries of the configuration match nothing"


class _Seen(NamedTuple):
    """What an answer depends on. Compared by identity, as columns are the same objects while nothing changed."""

    parts: tuple[object, ...]

    def same(self, other: _Seen) -> bool:
        return len(self.parts) == len(other.parts) and all(a is b for a, b in zip(self.parts, other.parts, strict=True))


class Matching:
    """Follows which entries of one configuration have matched something. Not thread-safe."""

    def __init__(self, config: Config) -> None:
        patterns = config.interfaces
        self._include = {f"interfaces.include[{at}]": text for at, text in enumerate(patterns.include) if text != "*"}
        self._exclude = {f"interfaces.exclude[{at}]": text for at, text in enumerate(patterns.exclude)}
        self._peers = {f"peers[{at}]": peer for at, peer in enumerate(config.peers)}
        self._rules = {f"expect[{at}]": rule for at, rule in enumerate(config.expect) if _has_conditions(rule)}
        self._names = {str(PurePath(text)): f"names[{at}]" for at, text in enumerate(config.names or ())}
        self._seen = _Seen(())
        self._found: tuple[Unmatched, ...] = ()

    def look(self, snapshot: Snapshot, metas: Callable[[Device], Sequence[PeerMeta]]) -> tuple[Unmatched, ...]:
        """Take in a look at the host. Returns the entries that match nothing; the same object while nothing changed.

        `metas` is `Names.metas`.
        """
        patterns = (
            Unmatched(self._names[text], f"no file matches {shown(text)}; correct it, or take it out")
            for text in snapshot.idle_patterns
            if text in self._names
        )
        found = (*self._interfaces(snapshot), *patterns, *self._who(snapshot, metas))
        if found != self._found:
            self._found = found
        return self._found

    def _interfaces(self, snapshot: Snapshot) -> Iterator[Unmatched]:
        """The patterns for interfaces. An excluded userspace device may be seen by its socket or by its link alone."""
        if not self._include and not self._exclude:
            return
        there = {device.name for device in snapshot.devices} | {device.name for device in snapshot.failed}
        there |= {link.name for link in snapshot.links.values() if link.kind in KERNEL_KINDS}
        perhaps = there | snapshot.left_out
        perhaps |= {link.name for link in snapshot.links.values() if link.kind == USERSPACE_KIND}
        described = {file.interface for file in snapshot.conf}  # it may come up later, as at boot
        self._include = _without(self._include, there | described)
        self._exclude = _without(self._exclude, perhaps | described)
        if not _devices_known(snapshot):
            return
        names = sorted(there)
        more = ", ..." * (len(names) > _NAMED)
        here = f"there is {', '.join(names[:_NAMED])}{more}" if names else "there is none at all"
        for where, text in (*self._include.items(), *self._exclude.items()):
            yield Unmatched(where, f"no WireGuard interface here matches {shown(text)}; {here}")

    def _who(self, snapshot: Snapshot, metas: Callable[[Device], Sequence[PeerMeta]]) -> tuple[Unmatched, ...]:
        """The entries about peers."""
        if not self._peers and not self._rules:
            return ()
        named = [(device, metas(device)) for device in snapshot.devices]
        columns = (part for device, meta in named for part in (device.peers.public_key, device.peers.allowed_ips, meta))
        seen = _Seen((snapshot.conf, *columns))
        if not seen.same(self._seen):
            self._seen = seen
            keys = {(device.name, key) for device in snapshot.devices for key in device.peers.public_key}
            keys |= {(file.interface, peer.public_key) for file in snapshot.conf for peer in file.peers}
            anywhere = {key for _, key in keys}
            self._peers = {
                where: peer
                for where, peer in self._peers.items()
                if not ((peer.interface, peer.public_key) in keys if peer.interface else peer.public_key in anywhere)
            }
            if self._rules:
                known = [*_on_devices(named), *_in_files(snapshot.conf)]
                self._rules = {
                    where: rule
                    for where, rule in self._rules.items()
                    if not any(matches(rule, interface, peer, name) for interface, peer, name in known)
                }
        return tuple(self._unmatched_peers(snapshot))

    def _unmatched_peers(self, snapshot: Snapshot) -> Iterator[Unmatched]:
        if not _devices_known(snapshot):
            return
        failed = [device.name for device in snapshot.failed]
        files_known = all(row.success for row in snapshot.outcomes if row.source is SourceName.CONF)
        for where, peer in self._peers.items():
            if not (failed if peer.interface is None else peer.interface in failed):
                yield Unmatched(where, _about(peer, snapshot.devices))
        for where, rule in self._rules.items():
            unread = any(rule.interface is None or fnmatchcase(name, rule.interface) for name in failed)
            if not unread and (files_known or rule.name is None):
                yield Unmatched(where, f"no peer here matches {_conditions(rule)}; correct it, or take it out")


def _devices_known(snapshot: Snapshot) -> bool:
    others = {SourceName.CONF, SourceName.ACCOUNTING}
    return all(row.success for row in snapshot.outcomes if row.source not in others)


def _without(patterns: dict[str, str], names: set[str]) -> dict[str, str]:
    """Those of the patterns that match none of the names."""
    return {where: text for where, text in patterns.items() if not any(fnmatchcase(name, text) for name in names)}


def _has_conditions(rule: ExpectRule) -> bool:
    """Whether the rule is for some peers alone. One for all of them is right on a host without any."""
    patterns = (rule.interface, rule.name)
    return bool(rule.allowed_ip or rule.public_key or any(text and text.strip("*") for text in patterns))


def _on_devices(named: Sequence[tuple[Device, Sequence[PeerMeta]]]) -> Iterator[tuple[str, Peer, str]]:
    for device, metas in named:
        for peer, meta in zip(device.peers, metas, strict=True):
            yield device.name, peer, meta.name if meta.named else ""


def _in_files(files: Sequence[ConfFile]) -> Iterator[tuple[str, Peer, str]]:
    """Peers that files describe: whether they are on their devices is another question."""
    for file in files:
        for peer in file.peers:
            yield file.interface, Peer(peer.public_key, "", peer.allowed_ips, 0, 0, 0, 0), peer.name


def _about(entry: PeerConfig, devices: Sequence[Device]) -> str:
    key, name = entry.public_key, f" ({entry.name})" if entry.name else ""
    owner = next((device.name for device in devices if device.public_key == key), "")
    if owner:
        return f"this is the public key of {owner} itself{name}; write that of the peer"
    where = f"peer on {entry.interface}" if entry.interface else "peer here"
    elsewhere = next((device.name for device in devices if key in device.peers.public_key), "")
    fix = f"it is on {elsewhere}: correct `interface`" if elsewhere else "correct the key, or take the entry out"
    return f"no {where} has this public key{name}; {fix}"


def _conditions(rule: ExpectRule) -> str:
    given = {
        "interface": rule.interface,
        "name": rule.name,
        "allowed_ip": rule.allowed_ip,
        "public_key": rule.public_key and f"{rule.public_key[:8]}...",
    }
    return ", ".join(f"{word} {text}" for word, text in given.items() if text)
