"""Counters and settings of the network namespace of the calling thread, as /proc has them.

Sources: proc(5), net/ipv4/proc.c, net/ipv6/proc.c, Documentation/networking/ip-sysctl.rst (rp_filter).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NET = Path("/proc/thread-self/net")
IPV4_CONF = Path("/proc/sys/net/ipv4/conf")

MOST_BYTES = 1 << 20  # of a file here
MOST_INTERFACES = 256  # whose setting is read

STRICT, LOOSE, OFF = 1, 2, 0


def pairs(text: str, group: str, name: str) -> int | None:
    """A counter of a file with a line of names and then one of values, both after `group:` (snmp, netstat)."""
    names: list[str] | None = None
    for line in text.splitlines():
        head, _, rest = line.partition(":")
        if head != group:
            continue
        if names is None:
            names = rest.split()
            continue
        values = rest.split()
        found = dict(zip(names, values, strict=False)).get(name, "")
        return int(found) if found.isascii() and found.isdigit() else None
    return None


def single(text: str, name: str) -> int | None:
    """A counter of a file with a name and a value on each line (snmp6)."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isascii() and words[1].isdigit():
            return int(words[1])
    return None


def reverse_path_drops(net: Path = NET) -> int | None:
    """How many packets rp_filter has dropped here; None if it can't be read."""
    return pairs(_text(net / "netstat"), "TcpExt", "IPReversePathFilter")


def udp_received(net: Path = NET, *, ipv6: bool = False) -> int | None:
    """How many UDP datagrams have come through all filters to a socket here; None if it can't be read."""
    if ipv6:
        return single(_text(net / "snmp6"), "Udp6InDatagrams")
    return pairs(_text(net / "snmp"), "Udp", "InDatagrams")


def rp_filter(interface: str, conf: Path = IPV4_CONF) -> int | None:
    """What holds for one interface: the larger of its own value and that of `all`. None if it can't be read."""
    found = [_number(conf / name / "rp_filter") for name in ("all", interface) if _plain(name)]
    return None if len(found) < 2 or None in found else max(number for number in found if number is not None)


def strictest(but: str, conf: Path = IPV4_CONF) -> int | None:
    """The strictest value that holds for any interface but one, the tunnel's: outer packets may come in by any."""
    try:
        names = sorted(os.listdir(conf))[:MOST_INTERFACES]  # noqa: PTH208 - names alone
    except OSError:
        return None
    values = [rp_filter(name, conf) for name in names if name not in {"all", "default", "lo", but}]
    return _strictest(value for value in values if value is not None)


def _strictest(values: Iterable[int]) -> int | None:
    return min(values, key=(STRICT, LOOSE, OFF).index, default=None)


def _plain(name: str) -> bool:
    """Whether it may be the name of an interface, and no way to another file (dev_valid_name, net/core/dev.c)."""
    return bool(name) and name not in {".", ".."} and "/" not in name and "\0" not in name


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text in {"0", "1", "2"} else None


def _text(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        return file.read(MOST_BYTES).decode(errors="replace")
    return ""
