"""Which settings there are in WireGuard's own files, and which one a misspelled name was meant to be.

`wg` refuses a whole file for one name that it does not know, and systemd-networkd leaves the line out with a warning:
both at the next start, when nobody looks. What is not known is never repeated, as it may be a key on the wrong line.

Sources: wg(8), wg-quick(8), systemd.netdev(5); of AmneziaWG: amneziawg-tools, config.c.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_PEER = ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")
_NUMBERED = (("S", 4), ("H", 4), ("I", 5), ("J", 3))
_AMNEZIA = ("Jc", "Jmin", "Jmax", "ITime", *(f"{name}{n + 1}" for name, most in _NUMBERED for n in range(most)))
_QUICK = ("Address", "DNS", "MTU", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig")
_FILES = ("PublicKeyFile", "PresharedKeyFile")
_ROUTES = ("RouteTable", "RouteMetric")


def _by_key(*names: str) -> Mapping[str, str]:
    return MappingProxyType({name.lower(): name for name in names})


_SETTINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "[interface]": _by_key("PrivateKey", "PrivateKeyFile", "ListenPort", "FwMark", *_QUICK, *_AMNEZIA),
        "[peer]": _by_key(*_PEER, *_FILES, "AdvancedSecurity"),
        "[wireguard]": _by_key("PrivateKey", "PrivateKeyFile", "ListenPort", "FirewallMark", "FwMark", *_ROUTES),
        "[wireguardpeer]": _by_key(*_PEER, *_FILES, *_ROUTES),
    }
)
_LONGEST = 40  # characters of a name that may be meant for another
_ALIKE = 0.75  # of 1; Endpont and Endpoint have 0.93


def unknown(section: str, key: str) -> str:
    """What is wrong with a setting of this section, both in lower case; empty if it is known or its section is not
    ours. What newer versions of systemd may know is said only if it looks like a slip.
    """
    known = _SETTINGS.get(section)
    if known is None or key in known or key.startswith("x-"):
        return ""
    from difflib import get_close_matches  # noqa: PLC0415 - only where there is a mistake

    meant = get_close_matches(key, known, 1, _ALIKE) if len(key) <= _LONGEST else []
    if meant:
        return f"unknown setting, did you mean {known[meant[0]]}?"
    return "unknown setting, for which `wg` refuses the file; remove the line" if "wireguard" not in section else ""
