"""What to do about drift: the commands that make a device as its file says, or how to make the file say what runs.

`wg syncconf` is no advice: where a file leaves the private key, the port or the mark open (to a hook, to chance, to
wg-quick itself), it resets them, and a full tunnel then routes its own packets into itself. `wg addconf` sets what the
file says and nothing else; what is on the device beyond that is taken away one by one.

Sources: setconf.c and config.c of wireguard-tools, wg(8), wg-quick(8), networkctl(1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wg_exporter.drift.kinds import Difference, Kind
from wg_exporter.model import Backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.drift.kinds import Drift

MOST_COMMANDS = 12  # more than that nobody copies

_BY_ADDCONF = (
    Kind.PEER_MISSING,
    Kind.ALLOWED_IPS,
    Kind.ENDPOINT,
    Kind.KEEPALIVE,
    Kind.PRESHARED_KEY,
    Kind.PRIVATE_KEY,
    Kind.LISTEN_PORT,
    Kind.FWMARK,
)
_PLAIN = re.compile(r"[A-Za-z0-9_=+.@%/-]+")


def to_load(drift: Drift, interface: str, backend: Backend | None) -> list[str]:
    """Commands, a line each, after which the device is as the file says."""
    if drift.path.endswith(".netdev"):
        return [f"networkctl delete {_word(interface)} && networkctl reload    # ends its sessions for a moment"]
    tool = "awg" if backend is Backend.AMNEZIAWG else "wg"
    commands = list(_one_by_one(drift, tool, _word(interface)))
    left = drift.total > len(drift.differences)
    if left or len(commands) > MOST_COMMANDS:
        file = _word(_file(drift.path, interface))
        return [f"{tool}-quick down {file} && {tool}-quick up {file}    # ends its sessions for a moment"]
    return commands


def to_keep(drift: Drift, interface: str, backend: Backend | None) -> str:
    """One line: how the file comes to say what runs."""
    tool = "awg" if backend is Backend.AMNEZIAWG else "wg"
    if drift.saved:
        return f"{tool}-quick save {_word(interface)}    # as SaveConfig is set, `down` does that too"
    return f"write the lines with + into {drift.path}; `{tool} showconf {_word(interface)}` prints them, keys too"


def _one_by_one(drift: Drift, tool: str, interface: str) -> Iterator[str]:
    kinds = {difference.kind for difference in drift.differences if not _only_taken_away(difference)}
    if kinds.intersection(_BY_ADDCONF):
        file = _word(_file(drift.path, interface))
        yield f"{tool} addconf {interface} <({tool}-quick strip {file})"
    for one in drift.differences:
        peer = f"{tool} set {interface} peer {one.public_key}"
        if one.kind is Kind.PEER_EXTRA:
            yield f"{peer} remove"
        elif one.kind is Kind.KEEPALIVE and _only_taken_away(one):
            yield f"{peer} persistent-keepalive off"
        elif one.kind is Kind.PRESHARED_KEY and _only_taken_away(one):
            yield f"{peer} preshared-key /dev/null"
        elif one.kind is Kind.MTU:
            yield f"ip link set dev {interface} mtu {one.file}"
        elif one.kind is Kind.ADDRESS:
            yield f"ip address add {_word(one.file)} dev {interface}"


def _only_taken_away(difference: Difference) -> bool:
    """The file is silent about what the device has, so loading the file would leave it."""
    if difference.kind is Kind.KEEPALIVE:
        return difference.file == "off"
    return difference.kind is Kind.PEER_EXTRA or (difference.kind is Kind.PRESHARED_KEY and not difference.file)


def _file(path: str, interface: str) -> str:
    """What wg-quick(8) takes: the name alone for a file in its own directory."""
    own = (f"/etc/wireguard/{interface}.conf", f"/etc/amnezia/amneziawg/{interface}.conf")
    return interface if path in own else path


def _word(text: str) -> str:
    """As a word for a shell, in single quotes where that is needed."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "'\\''") + "'"
