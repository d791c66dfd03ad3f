"""What a configuration file says of the device itself, while it is read: its port, mark, MTU and addresses.

Sources: wg(8), config.c of wireguard-tools, wg-quick(8) and its `parse_options`, systemd.netdev(5). A value that is not
understood counts as none: the file then leaves open what somebody wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_interface

from wg_exporter.model import ConfDevice

_PORT = re.compile("[0-9]{1,5}")
_MARK = re.compile("0x[0-9a-f]{1,8}|[0-9]{1,10}", re.IGNORECASE)
_MTU = re.compile("([0-9]{1,9})([kmg]?)", re.IGNORECASE)
_UNITS = ("", "k", "m", "g")  # of 1024, as systemd has them
# A hook that gives the device peers which the file does not name, or changes those that it names.
_CHANGES_PEERS = re.compile(r"\ba?wg\s+(?:(?:setconf|addconf|syncconf)\b|set\b.*\bpeer\b)")
MOST_ADDRESSES = 1000


@dataclass(slots=True)
class DeviceSection:
    """What [Interface], or [WireGuard] and [NetDev], have said so far. Of several values the last counts."""

    listen_port: int | None = None
    fwmark: int | None = None
    mtu: int | None = None
    addresses: dict[str, None] = field(default_factory=dict)
    hooked: bool = False

    def set(self, section: str, key: str, value: str) -> None:
        """Take one setting, as it is written, comment and all; section and key in lower case, without blanks."""
        said = value.partition("#")[0].strip()
        match section, key:
            case (("[interface]" | "[wireguard]"), "listenport"):
                self.listen_port = _number(_PORT, said, 65535) or None  # 0, like `auto`: any
            case ("[interface]", "fwmark") | ("[wireguard]", "firewallmark" | "fwmark"):
                self.fwmark = _number(_MARK, said, 0xFFFFFFFF) or None  # without one, wg-quick may choose its own
            case ("[interface]", "mtu") | ("[netdev]", "mtubytes"):
                self.mtu = _size(said)
            case "[interface]", "address":
                for entry in said.replace(",", " ").split():
                    self._add_address(entry)
            case "[interface]", ("preup" | "postup"):
                self.hooked = self.hooked or _CHANGES_PEERS.search(said) is not None

    def row(self) -> ConfDevice:
        """All of it."""
        return ConfDevice(self.listen_port, self.fwmark, self.mtu, tuple(self.addresses))

    def _add_address(self, entry: str) -> None:
        if len(entry) < 64 and "%" not in entry and len(self.addresses) < MOST_ADDRESSES:
            try:
                self.addresses[str(ip_interface(entry))] = None
            except ValueError:
                return


def _number(pattern: re.Pattern[str], text: str, most: int) -> int | None:
    found = pattern.fullmatch("".join(text.split()))
    number = int(found[0], 16 if found[0][:2].lower() == "0x" else 10) if found else most + 1
    return number if number <= most else None


def _size(text: str) -> int | None:
    found = _MTU.fullmatch("".join(text.split()))
    return int(found[1]) << 10 * _UNITS.index(found[2].lower()) if found else None
