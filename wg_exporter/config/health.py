"""When a peer counts as down or degraded: the section `health`, and its bounds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from wg_exporter.config import fields as kinds  # noqa: TC001  msgspec reads the types of fields at run time


def _text(description: str) -> Meta:
    return Meta(description=description)


class HealthLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """When a peer is down or degraded. The states themselves, and what else they rest on, are in docs/health.md."""

    down_after: Annotated[
        kinds.DownAfter,
        _text(
            "A peer that should always be up is down when an answer of it is overdue for so long. An answer to a "
            "handshake or a probe is due at once, one to other data after 10 s. WireGuard repeats a handshake after "
            "5 s: less than 15 s would be a guess."
        ),
    ] = 25.0
    window: Annotated[kinds.HealthWindow, _text("Loss and latency are judged over so long.")] = 300.0
    loss: Annotated[
        kinds.Ratio,
        _text("A peer is degraded (`lossy`) while at least this part of its probes is lost, until it is half of it."),
    ] = 0.1
    slow_factor: Annotated[
        kinds.Factor,
        _text(
            "A peer is degraded (`slow`) while round trips take so many times as long as is usual for it, and at least "
            "20 ms longer."
        ),
    ] = 3.0
