"""A verdict on an MTU in words: what was sent where, what passed, and what to set."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from wg_exporter.probed import Verdict

if TYPE_CHECKING:
    from wg_exporter.probed import MtuReport


def told(report: MtuReport, interface: str, target: str, entry: str = "") -> str:
    """One line for a person. `entry` is what a command begins with to be run in the interface's namespace."""
    where = f" to {target}" if target else ""
    said = f"MTU {report.verdict}: packets of {report.interface_mtu} bytes were sent{where}"
    found = []
    if report.path_inner is not None:
        found.append(f"{_size(report.path_inner)} pass inside the tunnel")
    if report.path_outer is not None:
        needed = f" of the {report.needed} needed" if report.needed and report.needed > report.path_outer else ""
        found.append(f"the path outside carries {_size(report.path_outer)}{needed}")
    if report.shrinks_at:
        found.append(f"it shrinks at {report.shrinks_at}")
    line = "; ".join([said, *found])
    wish = report.recommended
    if report.verdict is Verdict.OK or wish is None or wish == report.interface_mtu:
        return line
    return f"{line}; set {wish}: `{entry}ip link set dev {shlex.quote(interface)} mtu {wish}`"


def _size(number: int) -> str:
    return f"{number} bytes"


def in_short(verdict: Verdict, recommended: int | None) -> str:
    """A verdict in a cell of a table: the word and, unless all is well, the MTU to set."""
    return f"{verdict}, set {recommended}" if recommended and verdict is not Verdict.OK else str(verdict)
