"""What is counted of each peer of a device between one look and the next: handshakes and roaming."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import Backend, Peers, differences, same

if TYPE_CHECKING:
    from wg_exporter.model import Device


class PeerCounts(NamedTuple):
    """What was seen of a peer since the exporter started."""

    handshakes: int = 0
    endpoint_changes: int = 0


NOTHING_YET = PeerCounts()


class Counted(NamedTuple):
    """The peers of a device at the last look and, in parallel, their counts. `roamed` has the place of each peer that
    has roamed since the look before, with its endpoint of before.
    """

    peers: Peers = Peers()
    rows: tuple[PeerCounts, ...] = ()
    roamed: tuple[tuple[int, str], ...] = ()

    def after(self, device: Device, started_ns: int) -> Counted:
        """These counts after a look that shows `device`. `started_ns`: when the exporter started (since the epoch)."""
        new = device.peers
        if self.peers is new:
            return self._replace(roamed=()) if self.roamed else self
        old, rows = self.peers, self.rows
        if not same(old.public_key, new.public_key):
            counts = dict(zip(old.public_key, rows, strict=True))
            rows = tuple(counts.get(key, NOTHING_YET) for key in new.public_key)
            old = _as_if_known(old, new, started_ns)
        # A device that is set up anew has lost times and endpoints: that is neither a handshake nor roaming.
        shaken = handshakes(old, device)
        roamed = [at for at in differences(old.endpoint, new.endpoint) if old.endpoint[at] and new.endpoint[at]]
        if shaken or roamed:
            updated = list(rows)
            for at in shaken:
                updated[at] = updated[at]._replace(handshakes=updated[at].handshakes + 1)
            for at in roamed:
                updated[at] = updated[at]._replace(endpoint_changes=updated[at].endpoint_changes + 1)
            rows = tuple(updated)
        return Counted(new, rows, tuple((at, old.endpoint[at]) for at in roamed))


def handshakes(old: Peers, device: Device) -> list[int]:
    """The places of the peers that made a handshake since they were `old`; they are the same peers.

    The kernel stamps a handshake once. Some daemons make the stamp anew at each read, so it moves with the clock: there
    a handshake is one only if something was received, where that is counted.
    """
    new = device.peers
    moved = [at for at in differences(old.last_handshake_ns, new.last_handshake_ns) if new.last_handshake_ns[at] > 0]
    if device.backend is not Backend.USERSPACE or device.opaque:
        return moved
    return [at for at in moved if new.rx_bytes[at] != old.rx_bytes[at]]


def _as_if_known(old: Peers, new: Peers, started_ns: int) -> Peers:
    """The peers of `new` as they were in `old`. One that is seen for the first time stays as it is, except that its
    handshake counts if it happened since the exporter started.
    """
    known = {peer.public_key: peer for peer in old}
    strangers = (peer._replace(last_handshake_ns=0) if peer.last_handshake_ns > started_ns else peer for peer in new)
    return Peers.of(known.get(stranger.public_key, stranger) for stranger in strangers)
