"""One [Peer] section of a configuration file while it is read: what its settings and its comments say.

Values are checked as `wg` checks them (wireguard-tools, config.c) and kept in the form in which WireGuard reports them.
A value that does not fit is dropped and never repeated in a message, since it might be a key on the wrong line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import TYPE_CHECKING

from wg_exporter.conffile.comments import CommentKind, bare_name, looks_like_key

if TYPE_CHECKING:
    from collections.abc import Mapping

# 32 bytes in base64: of the last digit only four bits count.
_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_ENDPOINT = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}(%[\w.-]{1,15})?\]|[\w.-]{1,253}):\w{1,15}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?")
_NONE: Mapping[CommentKind, str] = {}


def is_public_key(text: str) -> bool:
    """Whether this is 32 bytes in canonical base64. A secret key looks no different: that is for the caller to know."""
    return _KEY.fullmatch(text) is not None


@dataclass(slots=True)
class PeerSection:
    """The section that begins at `path`:`line`.

    `over` and `under` are the bare comments next to its header, nearest first. `friendly` are the names that were given
    inside it; `head` those that stand over it, and `above` the peer they fall to if this one has its own.
    """

    path: str
    line: int
    over: list[str] = field(default_factory=list)
    under: list[str] = field(default_factory=list)
    friendly: dict[CommentKind, str] = field(default_factory=dict)
    head: Mapping[CommentKind, str] = field(default_factory=lambda: _NONE)
    above: PeerSection | None = None
    public_key: str = ""
    public_key_file: str = ""
    endpoint: str = ""
    allowed_ips: dict[str, None] = field(default_factory=dict)
    keepalive: int | None = None
    reported: bool = False

    def settle_head(self) -> None:
        """Give the friendly names over this section to it, or to the one above if this has its own."""
        if not self.friendly:
            self.friendly.update(self.head)
        elif self.above is not None:
            self.above.friendly.update(self.head)

    def name(self) -> str:
        """The friendly name, empty if there is none."""
        given = self.friendly.get(CommentKind.FRIENDLY_NAME) or self.friendly.get(CommentKind.FRIENDLY_JSON)
        return given or bare_name(self.over, self.under)

    def set(self, key: str, value: str) -> str:
        """Take one setting; the key in lower case, neither with blanks in it. Returns what is wrong with it, or "".

        Keys that are not asked about here, the secret ones among them, are ignored unread.
        """
        match key:
            case "publickey":
                return self._set_public_key(value)
            case "endpoint":
                return self._set_endpoint(value)
            case "persistentkeepalive":
                return self._set_keepalive(value)
            case "allowedips":
                return self._add_allowed_ips(value)
            case _:
                return ""

    def _set_public_key(self, value: str) -> str:
        self.public_key = value if is_public_key(value) else ""
        if self.public_key:
            return ""
        self.reported = True
        return "PublicKey is not a key and this peer is left out; write the 44 characters that `wg pubkey` prints"

    def _set_endpoint(self, value: str) -> str:
        if not _ENDPOINT.fullmatch(value) or looks_like_key(value):
            return "Endpoint not understood; write HOST:PORT or [IPv6]:PORT"
        self.endpoint = value
        return ""

    def _set_keepalive(self, value: str) -> str:
        number = "0" if value.lower() == "off" else value
        if not re.fullmatch("[0-9]{1,5}", number) or int(number) > 65535:
            return "PersistentKeepalive not understood; write off, or 1 to 65535 (seconds)"
        self.keepalive = int(number)
        return ""

    def _add_allowed_ips(self, value: str) -> str:
        if not value:
            # systemd.netdev(5): an empty assignment clears the list. For `wg` it is no setting at all.
            self.allowed_ips.clear()
        fault = ""
        for entry in filter(None, value.split(",")):
            # Newer `wg` takes a sign: + adds, - removes.
            address = entry.removeprefix("+").removeprefix("-")
            try:
                network = str(ip_network(address, strict=False)) if _ADDRESS.fullmatch(address) else ""
            except ValueError:
                network = ""
            if not network:
                fault = "AllowedIPs has an entry that is not understood; write ADDRESS/BITS, ADDRESS/BITS"
            elif entry[0] == "-":
                self.allowed_ips.pop(network, None)
            else:
                self.allowed_ips[network] = None
        return fault
