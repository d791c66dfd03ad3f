"""How peers are probed: the section `probe`, its bounds, and what its settings must not say against each other.

The bounds keep a slip of the keyboard from becoming a flood: 100 ms between echoes to a peer is ten packets a second,
and a timeout of seconds still leaves every probe on its way a place in the ring of 65,536 sequence numbers.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from wg_exporter.config import fields as kinds

if TYPE_CHECKING:
    from wg_exporter.config.tree import Document

MAX_BUCKETS: Final = 40  # each is a series per probed peer

RTT_BUCKETS: Final = tuple(0.00025 * 2**n for n in range(15))
"""Upper bounds in seconds: 0.25 ms doubling to 4.096 s, from the next rack to a satellite and back, and slow."""


class Probing(StrEnum):
    """Whether a peer is probed: yes, no, or if it should always be up."""

    AUTO = "auto"
    ON = "true"
    OFF = "false"


def _text(description: str) -> Meta:
    return Meta(description=description)


class MtuProbe(Struct, frozen=True, forbid_unknown_fields=True):
    """How often the MTU of a tunnel is looked at. What has changed is looked at at once, whatever stands here."""

    inner_interval: Annotated[
        kinds.MtuInterval, _text("Time between full-size packets through the tunnel, each beside a small one.")
    ] = 60.0
    outer_interval: Annotated[
        kinds.MtuInterval, _text("Time between full-size packets to the endpoint, outside the tunnel.")
    ] = 300.0


class ProbeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Which peers are probed, and how often: small echoes through the tunnel for latency and loss, large ones for MTU.

    Durations are whole numbers with units, as in Prometheus: `5s`, `500ms`, `1m30s`. Probing keeps a session alive and
    a phone awake, so by default only the peers that should always be up are probed.
    """

    enabled: Annotated[
        Probing,
        _text("`true`: probe all peers. `false`: none. `auto`: those that should always be up. A peer may differ."),
    ] = Probing.AUTO
    interval: Annotated[kinds.EchoInterval, _text("Time between two small echoes to a peer.")] = 5.0
    suspect_interval: Annotated[
        kinds.EchoInterval,
        _text("The same while one of the last echoes of a peer is unanswered; never more than `interval`."),
    ] = 1.0
    timeout: Annotated[
        kinds.ProbeTimeout, _text("A probe that is not answered within this time is lost; what comes later is late.")
    ] = 3.0
    rtt_buckets: Annotated[
        tuple[kinds.Bucket, ...],
        _text(
            "Upper bounds of the histogram `wireguard_probe_rtt_seconds`, rising, at most 40. Each is a series per "
            "probed peer."
        ),
    ] = RTT_BUCKETS
    watch: Annotated[
        bool,
        _text(
            "Look at the handshakes of a peer on the wire while it is in doubt. Nothing is sent, and no data is seen."
        ),
    ] = True
    mtu: Annotated[MtuProbe, _text("How often the MTU is looked at.")] = MtuProbe()

    def for_all(self) -> ProbeSettings:
        """What all probed peers share: without `enabled`, `interval` and `watch`, which are left at their defaults.

        The exporter says which peer is probed how often, or watched, so a change of these restarts no prober.
        """
        usual = ProbeSettings()
        return replace(self, enabled=usual.enabled, interval=usual.interval, watch=usual.watch)


def check_probe(document: Document) -> None:
    """Hold the settings of the section against each other. What is not in the file is not in the document either."""
    values = document.values
    interval, suspect = (values.get(f"probe.{key}") for key in ("interval", "suspect_interval"))
    if isinstance(suspect, float) and document.sound("probe.interval"):
        usual = interval if isinstance(interval, float) else ProbeSettings().interval
        if suspect > usual:
            what = f"is more than probe.interval ({kinds.duration(suspect)} against {kinds.duration(usual)})"
            document.wrong("probe.suspect_interval", what, "make it at most as long")
    _check_buckets(document)


def _check_buckets(document: Document) -> None:
    path = "probe.rtt_buckets"
    bounds = document.values.get(path)
    if not isinstance(bounds, tuple):
        return
    if not bounds:
        document.wrong(path, "is empty", "remove the key to use the default bounds")
    if len(bounds) > MAX_BUCKETS:
        document.wrong(path, f"has {len(bounds)} bounds, and {MAX_BUCKETS} are the most", "leave some out")
    for at, (before, bound) in enumerate(pairwise(bounds), 1):
        if bound <= before:
            what = f"is not above the bound before it ({bound!r} after {before!r})"
            document.wrong(f"{path}[{at}]", what, "list them from the smallest up")
            break
