"""Fast echoes, by which machines move traffic: the setting of a peer, and how many such peers a host may have.

The bounds are the budget: 64 peers at 100 ms are 640 echoes a second, which take less than a tenth of a core
(docs/failover.md). Whoever asks for a shorter interval has fewer peers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct

from wg_exporter.config import fields as kinds  # noqa: TC001  msgspec reads the types of fields at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wg_exporter.config.tree import Document

MOST_FAST: Final = 64
"""Peers with fast echoes on a host."""

MOST_ECHOES: Final = 640.0
"""Fast echoes a second, of all of them together."""

_ROUNDING = 1 + 1e-9


def _text(description: str) -> Meta:
    return Meta(description=description)


class Fast(Struct, frozen=True, forbid_unknown_fields=True):
    """Fast echoes to a peer, for failover (docs/failover.md). They say up or down, and are in no figure of loss.

    At most 64 peers of a host have them, and all together at most 640 echoes a second.
    """

    interval: Annotated[kinds.FastInterval, _text("Time between two echoes.")] = 0.1
    multiplier: Annotated[
        kinds.Multiplier,
        _text(
            "Down after this many intervals without an answer, up after this many answers in a row. A small one takes "
            "lost packets for an outage: docs/failover.md has a table."
        ),
    ] = 6


def too_many(peers: int, echoes: float) -> bool:
    """Whether a host sends no fast echoes to so many peers, or not so many a second."""
    return peers > MOST_FAST or echoes > MOST_ECHOES * _ROUNDING


def check_fast(document: Document, found: Sequence[tuple[str, Fast]]) -> None:
    """Hold all of them, with their key paths, against the budget of the host."""
    if len(found) > MOST_FAST:
        path, _ = found[MOST_FAST]
        what = f"is one of {len(found)} peers with fast echoes, and {MOST_FAST} are the most on a host"
        document.wrong(path, what, "take it out where probe.interval is soon enough")
        return
    echoes = sum(1 / one.interval for _, one in found)
    if too_many(len(found), echoes):
        path, _ = max(found, key=lambda item: 1 / item[1].interval)
        what = (
            f"makes {echoes:,.0f} fast echoes a second with the others, and {MOST_ECHOES:,.0f} are the most on a host"
        )
        document.wrong(f"{path}.interval", what, "make the intervals longer")
