"""Reads what wg-quick `.conf` and systemd-networkd `.netdev` files say of peers: their names and what was intended.

`wg` refuses a whole file for one bad line. This reader is the opposite: it takes what it can and reports the rest, one
line each, because the file is not ours and a name is better than none. It is one parser for both kinds of file, as they
differ in little more than the names of sections. Like `wg` it ignores case, and blanks inside keys and values.

Private and preshared keys are dropped before their value is looked at, and no message repeats a value; where they stand
is told to the reader, which compares them (`KeyPlaces`). What a comment says is decided in `comments.py`, to which peer
it belongs in `layout.py`.

Sources: wg(8), wireguard-tools config.c, wg-quick(8), systemd.netdev(5), systemd.syntax(7).
"""

from __future__ import annotations

import io
import re
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.conffile.comments import (
    COMMENT_CHARACTERS,
    Comment,
    CommentKind,
    UnusableNameError,
    clean,
    read_comment,
)
from wg_exporter.conffile.device import DeviceSection
from wg_exporter.conffile.friendly import labels_from_json, name_from_json
from wg_exporter.conffile.layout import FileComments
from wg_exporter.conffile.section import KeyPlace, PeerSection, is_public_key
from wg_exporter.conffile.settings import unknown
from wg_exporter.model import ConfFile, ConfPeer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# Bounds on what a hostile or broken file can cost. WireGuard's own is 2**20 peers a device.
PROBLEMS_PER_FILE = 20
PEERS_PER_FILE = 100_000
LINE_CHARACTERS = 1 << 20

_PEER_SECTIONS = ("[peer]", "[wireguardpeer]")
_TABLES = (("[interface]", "table"), ("[wireguard]", "routetable"), ("[wireguardpeer]", "routetable"))
_KNOWN_SECTIONS = (*_PEER_SECTIONS, "[interface]", "[wireguard]", "[netdev]", "[match]")


class KeyPlaces(NamedTuple):
    """Where the secret keys of a file stand. `private_key` is None if it has none.

    `preshared_keys` has all peers of the file by public key, and None for those that are to have none.
    """

    private_key: KeyPlace | None = None
    preshared_keys: Mapping[str, KeyPlace | None] = MappingProxyType({})


def parse_wg_quick(text: str, path: str) -> ConfFile:
    """Read a wg-quick file; the interface is the stem of its name, as for `wg-quick up PATH`. Never raises."""
    return read_wg_quick(text, path)[0]


def read_wg_quick(text: str, path: str) -> tuple[ConfFile, KeyPlaces]:
    """As `parse_wg_quick`, and where its secret keys stand."""
    parser = _Parser()
    parser.feed(path, text)
    return parser.finish(path, _interface(PurePosixPath(path).stem), None)


def parse_netdev(
    text: str, path: str, *, read_key: Callable[[str], str | None], drop_ins: Sequence[tuple[str, str]] = ()
) -> ConfFile:
    """Read a .netdev file and its drop-ins, (path, text) in the order in which systemd reads them. Never raises.

    `read_key` gives the text of a PublicKeyFile=, None if it cannot be read. A .netdev that is not of kind wireguard
    describes no interface and has no peers.
    """
    return read_netdev(text, path, read_key=read_key, drop_ins=drop_ins)[0]


def read_netdev(
    text: str, path: str, *, read_key: Callable[[str], str | None], drop_ins: Sequence[tuple[str, str]] = ()
) -> tuple[ConfFile, KeyPlaces]:
    """As `parse_netdev`, and where its secret keys stand."""
    parser = _Parser()
    for source, content in ((path, text), *drop_ins):
        parser.feed(source, content, continued=True)
    if parser.netdev.get("kind", "").lower() != "wireguard":
        return ConfFile(path, ""), KeyPlaces()
    return parser.finish(path, _interface(parser.netdev.get("name", "")), read_key)


def _interface(name: str) -> str:
    """The name if a network interface can have it (dev_valid_name, net/core/dev.c), else empty."""
    fits = 0 < len(name.encode("utf-8", "replace")) < 16 and name.isprintable() and name not in (".", "..")
    return name if fits and not re.search(r"[\s/:]", name) else ""


class _Parser:
    """Reads one file after the other. `netdev` is what [NetDev] says, for the keys that matter. `saved`: SaveConfig.

    `own_table`: Table of wg-quick, or RouteTable of networkd for the device or a peer, is other than the usual.
    """

    def __init__(self) -> None:
        self.netdev: dict[str, str] = {}
        self.saved = self.own_table = False
        self._problems: list[str] = []
        self._peers: list[PeerSection] = []
        self._labels: dict[str, tuple[tuple[str, str], ...]] = {}
        self._secret_files: set[str] = set()
        self._device = DeviceSection()
        self._private_key: KeyPlace | None = None
        self._left_out = 0
        self._path = ""
        self._known = False
        self._section = ""
        self._peer: PeerSection | None = None
        self._comments = FileComments()

    def feed(self, path: str, text: str, *, continued: bool = False) -> None:
        """Take in one file; `continued` if a backslash at the end of a line joins it to the next."""
        self._path = path
        self._section, self._peer = "", None
        self._comments = FileComments()
        before = len(self._peers)
        line = 1
        for line, content in _logical_lines(text, continued=continued):
            if not content:
                self._comments.blank()
            elif content[0] in "#;":
                if comment := self._comment(line, content):
                    self._comments.comment(comment)
            elif content[0] == "[":
                self._header(line, content)
            else:
                self._comments.setting()
                self._setting(line, content)
        names = self._comments.names()
        for peer, name, labels in zip(self._peers[before:], names, self._comments.labels(), strict=True):
            peer.name, peer.labels = name, labels
        if not self._known and text.strip():
            self._problem(line, "no [Peer] and no [Interface] in the whole file; is this a WireGuard file?")
            self._known = True

    def finish(
        self, path: str, interface: str, read_key: Callable[[str], str | None] | None
    ) -> tuple[ConfFile, KeyPlaces]:
        """What all of it says."""
        peers, preshared_keys = self._finish_peers(read_key)
        # A file of garbage must not fill the log.
        more = (f"{_shown(self._path)}: and more problems",) if len(self._problems) > PROBLEMS_PER_FILE else ()
        file = ConfFile(
            path,
            interface,
            peers,
            (*self._problems[:PROBLEMS_PER_FILE], *more),
            self.saved,
            tuple(self._labels.items()),
            self.own_table,
            self._device.row(),
            self._left_out,
            self._device.hooked,
        )
        return file, KeyPlaces(self._private_key, preshared_keys)

    def _finish_peers(
        self, read_key: Callable[[str], str | None] | None
    ) -> tuple[tuple[ConfPeer, ...], dict[str, KeyPlace | None]]:
        """The peers, each key once, in the order of their last sections, and where their preshared keys stand.

        Of two sections for one key the later has the last word on each thing it says, and on allowed IPs even where it
        says nothing: that is what `wg setconf` makes of them (tried). In a file that wg-quick saves by itself
        (SaveConfig) an endpoint is where the peer was last seen, and no intent.
        """
        found: dict[str, ConfPeer] = {}
        places: dict[str, KeyPlace | None] = {}
        superseded: set[str] = set()
        for peer in self._peers:
            key = peer.public_key or self._key_from_file(peer, read_key)
            if not key:
                self._left_out += 1
                continue
            before = found.pop(key, ConfPeer(key))
            superseded.update(before.allowed_ips)
            found[key] = ConfPeer(
                key,
                peer.name or before.name,
                "" if self.saved else peer.endpoint or before.endpoint,
                tuple(peer.allowed_ips),
                before.persistent_keepalive if peer.keepalive is None else peer.keepalive,
                tuple(sorted(peer.unclear.union(before.unclear))),
            )
            places[key] = peer.preshared_key or places.get(key)
            if peer.labels:
                self._labels[key] = peer.labels
        # An earlier section may have taken them from another peer, and its later one does not give them back.
        for key, row in found.items() if superseded else ():
            if not superseded.isdisjoint(row.allowed_ips) and "allowed_ips" not in row.unclear:
                found[key] = row._replace(unclear=(*row.unclear, "allowed_ips"))
        return tuple(found.values()), places

    def _key_from_file(self, peer: PeerSection, read_key: Callable[[str], str | None] | None) -> str:
        self._path = peer.path
        if not peer.public_key_file or read_key is None:
            if not peer.reported:
                self._problem(peer.line, "this peer has no PublicKey and is left out; give it one")
            return ""
        if peer.public_key_file in self._secret_files:
            self._problem(peer.line, "PublicKeyFile is also named as the file of a secret key; name the public one")
            return ""
        content = read_key(peer.public_key_file)
        if content is None:
            self._problem(peer.line, "PublicKeyFile cannot be read; give the full path of a file that we may read")
            return ""
        key = content.strip()
        if not is_public_key(key):
            self._problem(peer.line, "PublicKeyFile does not hold a public key; write what `wg pubkey` prints into it")
            return ""
        return key

    def _problem(self, line: int, what: str) -> None:
        if len(self._problems) <= PROBLEMS_PER_FILE:
            self._problems.append(f"{_shown(self._path)}:{line}: {what}")

    def _comment(self, line: int, content: str) -> Comment | None:
        """The comment, None if it says nothing that can be used."""
        if len(content) > COMMENT_CHARACTERS:
            return None
        comment = read_comment(content)
        if comment.kind not in (CommentKind.FRIENDLY_NAME, CommentKind.FRIENDLY_JSON):
            return comment
        if self._comments.switched_off:
            return None
        is_json = comment.kind is CommentKind.FRIENDLY_JSON
        labels = labels_from_json(comment.text) if is_json else ()
        try:
            return Comment(comment.kind, (name_from_json if is_json else clean)(comment.text), labels=labels)
        except UnusableNameError as error:
            self._problem(line, f"{comment.kind.value} {error}")
            return Comment(comment.kind, labels=labels) if labels else None

    def _header(self, line: int, content: str) -> None:
        before, _, remark = content.partition("#")
        section = "".join(before.split()).lower()
        if not section.endswith("]"):
            self._problem(line, "a section's name must end with ]; the section is skipped")
        elif section in _KNOWN_SECTIONS:
            self._known = True
        elif not section.startswith("[x-"):
            # systemd.syntax(7) leaves names in X- to others.
            self._problem(line, f"unknown section, skipped with its settings; {self._sections_to_write()}")
            self._known = True
        peer = None
        if section in _PEER_SECTIONS:
            if len(self._peers) < PEERS_PER_FILE:
                peer = PeerSection(self._path, line)
                self._peers.append(peer)
            else:
                self._problem(line, f"more than {PEERS_PER_FILE} peers; the rest is skipped")
                self._left_out += 1
        self._comments.section(peer=peer is not None, remark=self._comment(line, f"#{remark}") if remark else None)
        self._section, self._peer = section, peer

    def _sections_to_write(self) -> str:
        if self._path.endswith(".netdev") or self.netdev:
            return "write [WireGuardPeer] for a peer, [WireGuard] or [NetDev]"
        return "write [Peer] for a peer, or [Interface]"

    def _setting(self, line: int, content: str) -> None:
        if len(content) > LINE_CHARACTERS:
            self._problem(line, "this line is too long and is skipped; write several")
            return
        name, equals, value = content.partition("=")
        key = "".join(name.split()).lower()
        if equals and key in ("privatekey", "presharedkey", "privatekeyfile", "presharedkeyfile"):
            self._secret(key, line, value.strip())
            return
        if len(self._problems) <= PROBLEMS_PER_FILE and (fault := unknown(self._section, key) if equals else ""):
            self._problem(line, fault)
            return
        if self._peer is None:
            self._device.set(self._section, key, value)
        if self._section == "[interface]" and key == "saveconfig":
            self.saved = value.partition("#")[0].strip().lower() == "true"
        elif (self._section, key) in _TABLES:
            # An empty assignment is none (systemd.syntax(7)); `main` is where routes go by default.
            found = value.partition("#")[0].strip().lower() not in ("", "auto", "main", "254")
            self.own_table = found or (self.own_table and self._section in _PEER_SECTIONS)
        elif self._section == "[netdev]" and key in ("name", "kind"):
            self.netdev[key] = value.partition("#")[0].strip()
        elif self._peer is None:
            return
        elif not equals:
            self._problem(line, "not understood; write Key = value")
        elif key == "publickeyfile":
            self._peer.public_key_file = value.strip()
        elif fault := self._peer.set(key, "".join(value.partition("#")[0].split())):
            self._problem(line, fault)

    def _secret(self, key: str, line: int, value: str) -> None:
        """Note where a secret key stands. `value` is looked at where it is the name of a file."""
        elsewhere = key.endswith("file")
        if elsewhere:
            self._secret_files.add(value)
        place = KeyPlace(self._path, 0 if elsewhere else line)
        if key.startswith("private") and self._section in ("[interface]", "[wireguard]"):
            self._private_key = place
        elif key.startswith("preshared") and self._peer is not None:
            self._peer.preshared_key = place


def _shown(path: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in path)


def _logical_lines(text: str, *, continued: bool) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, stripped. In systemd's files a setting may go on over lines that end with `\\`."""
    carried: list[str] = []
    number = 0
    # Line by line, not all at once: eight million empty lines would be a list of 64 MB.
    for number, raw in enumerate(io.StringIO(text.removeprefix("\ufeff"), newline="\n"), 1):
        content = raw.strip()
        is_comment = content.startswith(("#", ";"))
        if carried and is_comment:
            continue
        if continued and content.endswith("\\") and not is_comment and len(carried) < 4096:
            carried.append(content[:-1])
        else:
            yield number, " ".join((*carried, content)).strip()
            carried.clear()
    if carried:
        yield number, " ".join(carried).strip()
