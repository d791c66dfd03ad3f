"""What the exporter and its reader process say to each other. Asked for a pass, the reader answers with rows.

No path, name or command crosses towards the reader: it looks where its own configuration says. There is no field that
could hold a secret, as in `model`. Of what is large only what changed crosses: see `snapshots`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from wg_exporter.compared import KeyComparison  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.hostnames import HostName  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.inspected import Inspected  # noqa: TC001 - msgspec reads the annotations
from wg_exporter.messages.channel import Message
from wg_exporter.model import (  # noqa: TC001 - msgspec reads the annotations
    Backend,
    ConfFile,
    FailedDevice,
    Link,
    Outcome,
    PeerKey,
    Usage,
)

MOST_INSPECTED = 4  # peers that can be asked for at a time
LONGEST = 256 << 20  # bytes of an answer; 65,536 peers with a few allowed IPs each are 20 MB


class Read(Message):
    """Make a pass over all sources."""


class Ask(Message):
    """Look at these routes from the next pass on: by namespace, (index of a device, address)."""

    questions: dict[str, tuple[tuple[int, str], ...]]


class Inspect(Message):
    """Look at this host for these peers, once, while passes go on. Known by their device and public key alone: what is
    looked at follows from what the reader has read.
    """

    keys: Annotated[tuple[PeerKey, ...], msgspec.Meta(max_length=MOST_INSPECTED)]


class Unwell(Message):
    """These peers are down or degraded: interface, public key, whether it is down (see `sources.Unwell`).

    At worst a lie makes the reader set an endpoint to what root's file says, once a minute (`reader.dns.reresolve`).
    """

    peers: frozenset[tuple[str, str, bool]]


class Columns(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The peers of a device by column (see `model.Peers`); None = as in the last answer."""

    public_key: tuple[str, ...] | None
    endpoint: tuple[str, ...] | None
    allowed_ips: tuple[tuple[str, ...], ...] | None
    persistent_keepalive: tuple[int, ...] | None
    last_handshake_ns: tuple[int, ...] | None
    rx_bytes: tuple[int, ...] | None
    tx_bytes: tuple[int, ...] | None


class PacketColumns(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The packets of a device's peers (see `accounted.Packets`); a column that is None is as in the last answer."""

    life: int
    rx_packets: tuple[int, ...] | None
    tx_packets: tuple[int, ...] | None


class DevicePart(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A device (see `model.Device`). Without columns its peers are all as in the last answer. Without `packets` nobody
    counts them.
    """

    netns: str
    name: str
    backend: Backend
    public_key: str
    listen_port: int
    fwmark: int
    fresh: bool
    opaque: bool
    columns: Columns | None
    packets: PacketColumns | None = None


class Pass(Message):
    """What a pass brought (see `model.Snapshot`). `conf`, `udp_ports`, `keys` and `host_names` are None while they are
    as in the last answer.

    `usage` is what the reader has cost so far.
    """

    wall: float
    monotonic: float
    devices: tuple[DevicePart, ...]
    failed: tuple[FailedDevice, ...]
    links: tuple[Link, ...]
    conf: tuple[ConfFile, ...] | None
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    udp_ports: dict[str, frozenset[int]] | None
    left_out: frozenset[str]
    idle_patterns: tuple[str, ...]
    doubles: tuple[str, ...]
    routes: dict[str, tuple[tuple[int, str, str], ...]]
    capabilities: tuple[tuple[str, bool], ...]
    usage: Usage
    keys: tuple[KeyComparison, ...] | None
    host_names: tuple[HostName, ...] | None = None
    reresolved: tuple[tuple[str, str, int], ...] | None = None


class Inspections(Message):
    """What was found of peers that were asked for. It comes before a pass."""

    rows: tuple[Inspected, ...]


ToReader = Read | Ask | Inspect | Unwell
FromReader = Pass | Inspections
