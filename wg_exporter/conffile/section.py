"""One [Peer] section of a configuration file while it is read: what its settings say.

Values are checked as `wg` checks them (wireguard-tools, config.c) and kept in the form in which WireGuard reports them.
A value that does not fit is dropped and never repeated in a message, since it might be a key on the wrong line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import NamedTuple

from wg_exporter.conffile.keys import has_key_run

# 32 bytes in base64: of the last digit only four bits count.
_KEY = re.compile(r"[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=")
_ENDPOINT = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]]+)):(\w{1,15})")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[\w.-]{1,15})?")
_HOST_NAME = re.compile(r"[\w.-]{1,253}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?")
# AmneziaWG draws each wait at random from a range.
_KEEPALIVE = re.compile("([0-9]{1,5})(?:-([0-9]{1,5}))?")
# By the name of a setting, the field of `model.ConfPeer` that it decides.
_FIELDS = MappingProxyType(
    {"endpoint": "endpoint", "persistentkeepalive": "persistent_keepalive", "allowedips": "allowed_ips"}
)


def is_public_key(text: str) -> bool:
    """Whether this is 32 bytes in canonical base64. A secret key looks no different: that is for the caller to know."""
    return _KEY.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address, with a zone perhaps. `ip_address` takes any text for a zone."""
    try:
        return bool(_IPV6.fullmatch(text)) and ip_address(text.partition("%")[0]).version == 6
    except ValueError:
        return False


class KeyPlace(NamedTuple):
    """Where a secret key stands: a file and a line of it, counted from 1; line 0: in another file, named there."""

    path: str
    line: int


@dataclass(slots=True)
class PeerSection:
    """The section that begins at `path`:`line`. `name` and `labels` are what the comments around it say, found when the
    file ends. `unclear` are the fields of `model.ConfPeer` for which a value was not understood.
    """

    path: str
    line: int
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    public_key: str = ""
    public_key_file: str = ""
    endpoint: str = ""
    allowed_ips: dict[str, None] = field(default_factory=dict)
    keepalive: int | None = None
    reported: bool = False
    unclear: set[str] = field(default_factory=set)
    preshared_key: KeyPlace | None = None

    def set(self, key: str, value: str) -> str:
        """Take one setting; the key in lower case, neither with blanks in it. Returns what is wrong with it, or "".

        Keys that are not asked about here, the secret ones among them, are ignored unread.
        """
        fault = self._set(key, value)
        if fault and key in _FIELDS:
            self.unclear.add(_FIELDS[key])
        return fault

    def _set(self, key: str, value: str) -> str:
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
        """As `wg` reads it (config.c, parse_endpoint): the port is behind the last colon, brackets are optional."""
        match = _ENDPOINT.fullmatch(value)
        host = (match[1] or match[2]) if match else ""
        if match is None or has_key_run(value) or not (_HOST_NAME.fullmatch(host) or _is_ipv6(host)):
            return "Endpoint not understood; write HOST:PORT or [IPv6]:PORT"
        self.endpoint = f"[{host}]:{match[3]}" if ":" in host else f"{host}:{match[3]}"
        return ""

    def _set_keepalive(self, value: str) -> str:
        match = _KEEPALIVE.fullmatch("0" if value.lower() == "off" else value)
        # Only the longest wait can be relied upon.
        seconds = max(map(int, filter(None, match.groups()))) if match else 65536
        if seconds > 65535:
            return "PersistentKeepalive not understood; write off, or 1 to 65535 (seconds)"
        self.keepalive = seconds
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
