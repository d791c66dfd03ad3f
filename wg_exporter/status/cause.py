"""The cause of a peer's trouble in a line, as `show` and the page at `/` have it. Made without an exporter too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_a_line(cause: str, confidence: str, evidence: Sequence[str], also: Sequence[str]) -> str:
    """`cause: silent (likely): 3 handshake messages left, nothing came back; also possible: nat_forgot`."""
    line = f"cause: {cause} ({confidence})"
    line += f": {'; '.join(evidence)}" if evidence else ""
    return line + (f"; also possible: {', '.join(also)}" if also else "")
