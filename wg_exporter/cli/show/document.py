"""The overview of `wg-exporter show` as JSON for a script."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from wg_exporter.cli.show.overview import whose

if TYPE_CHECKING:
    from wg_exporter.cli.show.overview import DeviceRow, Overview, PeerRow


def to_json(overview: Overview) -> str:
    """The overview as one JSON object; keys may be added later, none is removed or changes its meaning.

    `time` and `latest_handshake` are seconds since the epoch; a handshake is null if there was none, its age negative
    if a clock went back. What is not known is null, `name` too. `netns` is empty for the exporter's own namespace.
    `target` is where probes to a peer go and `target_origin` where that came from; `target_reason` says why a peer is
    not probed, and is null if it is. A device that could not be read has `read_success` false, the reason in `problem`,
    and no peers; one that is gone has those of its peers that are expected up.

    `state` is `up`, `idle`, `degraded`, `down` or `never`, and null where nothing is known; `reason` says why a peer is
    `degraded` or `down`, both as in the metrics (docs/health.md). `evidence` is a line for a person, in no fixed form,
    from which the reason follows. Both are null without a reason.

    Only ASCII is written: names can't drive a terminal from here either.
    """
    document = {
        "time": overview.wall,
        "devices": [_device_json(row, overview.wall) for row in overview.devices],
        "sources": [
            {
                "source": outcome.source,
                "netns": outcome.netns,
                "success": outcome.success,
                "duration_seconds": outcome.duration,
                "problem": outcome.problem or None,
            }
            for outcome in overview.outcomes
        ],
        "problems": list(overview.problems),
    }
    return json.dumps(document, indent=2)


def _device_json(row: DeviceRow, wall: float) -> dict[str, object]:
    device, link = row.device, row.link
    backend = row.device or row.failed
    netns, name = whose(row)
    counters = ("bytes", "packets", "errors", "dropped")
    return {
        "interface": name,
        "netns": netns,
        "backend": backend.backend if backend else None,
        "read_success": device is not None and device.fresh,
        "problem": row.failed.problem if row.failed else "the interface is gone" if row.gone else None,
        "public_key": (device.public_key or None) if device else None,
        "listen_port": device.listen_port if device else None,
        "fwmark": device.fwmark if device else None,
        "mtu": link.mtu if link else None,
        "up": link.up if link else None,
        **{f"receive_{what}": getattr(link, f"rx_{what}") if link else None for what in counters},
        **{f"transmit_{what}": getattr(link, f"tx_{what}") if link else None for what in counters},
        "peers": [_peer_json(peer, wall) for peer in row.peers],
    }


def _peer_json(row: PeerRow, wall: float) -> dict[str, object]:
    peer = row.peer
    handshake = peer.last_handshake_ns / 1e9 if peer.last_handshake_ns > 0 else None
    seen = {
        "endpoint": peer.endpoint or None,
        "allowed_ips": list(peer.allowed_ips),
        "latest_handshake": handshake,
        "latest_handshake_age_seconds": None if handshake is None else round(wall - handshake, 3),
        "receive_bytes": peer.rx_bytes,
        "transmit_bytes": peer.tx_bytes,
        "persistent_keepalive_seconds": peer.persistent_keepalive,
    }
    return {
        "public_key": peer.public_key,
        "name": row.name if row.named else None,
        **(dict.fromkeys(seen) if row.gone else seen),
        "expected_up": row.expected_up,
        "state": row.health.state,
        "reason": row.health.reason,
        "evidence": row.health.evidence or None,
        "target": (row.aim.target or None) if row.aim else None,
        "target_origin": row.aim.origin if row.aim and row.aim.target else None,
        "target_reason": (row.aim.reason or None) if row.aim else None,
    }
