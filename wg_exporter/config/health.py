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
            "A peer that should always be up is down when its answer has been overdue for this time. An answer to a "
            "handshake or a probe is due at once, one to other data after 10 s. WireGuard repeats a handshake after "
            "5 s: less than 15 s would be a guess."
        ),
    ] = 25.0
    window: Annotated[kinds.HealthWindow, _text("Time over which loss and latency are judged.")] = 300.0
    loss: Annotated[
        kinds.Ratio,
        _text("A peer becomes degraded (`lossy`) when this part of its probes is lost, and recovers below half of it."),
    ] = 0.1
    slow_factor: Annotated[
        kinds.Factor,
        _text(
            "A peer is degraded (`slow`) while its round trips take this many times as long as usual, and at least "
            "20 ms longer."
        ),
    ] = 3.0
