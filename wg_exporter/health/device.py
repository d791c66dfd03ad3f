"""The peers of one device: what was seen of each, how it is, and when it is to be judged again.

Most peers do nothing most of the time, and most of the others are up and are heard. So each peer has a deadline, before
which only new evidence can change its state. A tick judges the peers with new evidence and those whose deadline has
come. A peer that is up and was heard need not be judged: it stays up, and its old deadline is early, never late.
"""

from __future__ import annotations

from itertools import compress
from math import inf
from typing import TYPE_CHECKING

from wg_exporter.health.evidence import Evidence
from wg_exporter.health.judge import Tick, judge
from wg_exporter.health.place import Place
from wg_exporter.health.rules import suspected_from
from wg_exporter.health.states import NOT_JUDGED, Change, Obstacle, PeerHealth, Reason, State
from wg_exporter.health.words import in_words
from wg_exporter.history.counts import handshakes
from wg_exporter.model import Backend, Peers, differences, same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wg_exporter.config.health import HealthLimits
    from wg_exporter.health.quality import Window
    from wg_exporter.history.devices import DeviceChange
    from wg_exporter.model import Device, DeviceKey, Snapshot
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.probed import Probed
    from wg_exporter.sighted import Sighting

# The state of the peers of a device that can't be read is withdrawn after this time, unless they are down.
UNREAD_SECONDS = 30.0

# What a daemon did not answer while it stood still for longer than this proves nothing about its peers.
STOOD_STILL_SECONDS = 12.0


class JudgedDevice:
    """The peers of a device at the last look; `metas` (names), `rows` (health) and the rest run in parallel to them."""

    __slots__ = (
        "_deadlines",
        "_judged_at",
        "_obstacles",  # at the last look
        "_probed",  # whether any peer was at the last look
        "_read_at",
        "_seen",
        "_sighted",  # at the last look
        "_stood_still",  # whether its daemon did not answer at the last look
        "doubtful",  # the indices of those that are suspicious, down, or silent behind their target
        "metas",
        "peers",
        "place",
        "rows",
        "suspicious",  # whether any peer was at this look
    )

    def __init__(self) -> None:
        self.place = Place()
        self.peers = Peers()
        self.metas: Sequence[PeerMeta] = ()
        self.rows: tuple[PeerHealth, ...] = ()
        self.suspicious = False
        self.doubtful: list[int] = []
        self._seen: list[Evidence] = []
        self._sighted: Mapping[str, Sighting] = {}
        self._deadlines: list[float] = []
        self._probed = self._stood_still = False
        self._obstacles: Mapping[str, Obstacle] = {}
        self._read_at = self._judged_at = -inf

    @property
    def gone(self) -> bool:
        """Whether it vanished."""
        return self.place.gone_since is not None

    @property
    def expected(self) -> bool:
        """Whether any of its peers should be up."""
        return any(meta.expected_up for meta in self.metas)

    def seen(self, public_key: str) -> Evidence | None:
        """What was seen of a peer; None if it has none of that key."""
        known = self.peers.public_key
        return self._seen[known.index(public_key)] if public_key in known else None

    def windows(self) -> Iterator[tuple[str, Window]]:
        """Loss and round trip of the peers of which they are known at present, by public key."""
        for key, seen in zip(self.peers.public_key, self._seen, strict=True):
            if seen.quality is not None and (window := seen.quality.window()) is not None:
                yield key, window

    def look(
        self,
        found: DeviceChange,
        metas: Callable[[Device], Sequence[PeerMeta]],
        probes: Mapping[str, Probed],
        snapshot: Snapshot,
        limits: HealthLimits,
        *,
        hangs: bool,
        obstacles: Mapping[str, Obstacle],
        sightings: Mapping[str, Sighting],
    ) -> Iterator[Change]:
        """Take in a look, and judge. Yields what changed. `hangs`: its daemon did not answer. `obstacles` and
        `sightings` are those of its peers, by public key.
        """
        now = snapshot.monotonic
        self.suspicious = False
        self._locate(found, now)
        changed: set[int] = set()
        if found.read is not None:
            changed = self._read(found.read, metas(found.read), snapshot, anew=found.anew)
        self._take_probes(probes, now, limits, changed)
        changed |= self._obstruct(obstacles, now)
        changed |= self._sight(sightings)
        self._suspect(found, hangs=hangs)
        tick = Tick(now, snapshot.wall, now - self._judged_at)
        if found.read is not None or found.gone:
            yield from self._judge(found.key, changed | self._due(now), tick, limits)
        elif self.place.hung_since is not None and now >= self.place.hung_since + limits.down_after:
            expected = {at for at, meta in enumerate(self.metas) if meta.expected_up}
            yield from self._judge(found.key, expected, tick, limits)
        if found.read is None and not found.gone and now - self._read_at > UNREAD_SECONDS:
            self._withdraw()

    def expect(self, metas: Sequence[PeerMeta]) -> None:
        """Take new names and expectations of the peers of a device that is gone."""
        self.metas = metas
        for seen, meta in zip(self._seen, metas, strict=True):
            seen.expected = meta.expected_up
        self.judge_all()

    def judge_all(self) -> None:
        """Judge all peers at the next look: something changed that the rules ask of each."""
        self._deadlines = [-inf] * len(self._seen)

    def _locate(self, found: DeviceChange, now: float) -> None:
        """Bring `place` up to date: since when the device is gone or its link down. What is not certain stays."""
        place = self.place
        before = place.gone_since, place.down_since, place.opaque
        if found.certain:
            down = found.link is not None and not found.link.up
            place.gone_since = (now if place.gone_since is None else place.gone_since) if found.gone else None
            place.down_since = (now if place.down_since is None else place.down_since) if down else None
        elif found.device is not None:
            place.gone_since = None
        if found.read is not None:
            place.opaque = found.read.backend is Backend.AMNEZIAWG or found.read.opaque
        if before != (place.gone_since, place.down_since, place.opaque):
            self.judge_all()

    def _read(self, device: Device, metas: Sequence[PeerMeta], snapshot: Snapshot, *, anew: bool) -> set[int]:
        """Take in what was read. Returns the indices of the peers that have to be judged for it."""
        now, wall = snapshot.monotonic, snapshot.wall
        seconds, self._read_at = now - self._read_at, now
        changed: set[int] = set()
        if not same(self.peers.public_key, device.peers.public_key) or anew:
            self._regroup(device.peers, metas, now, wall, anew=anew)
        for at in differences(self.metas, metas):
            self._seen[at].expect(metas[at].expected_up, now)
            changed.add(at)
        old, new = self.peers, device.peers
        for at in differences(old.persistent_keepalive, new.persistent_keepalive):
            self._seen[at].keepalive = new.persistent_keepalive[at]
            changed.add(at)
        self.peers, self.metas = new, metas
        changed.update(self._take_growth(old, device, seconds, snapshot))
        if self._stood_still and seconds > STOOD_STILL_SECONDS:
            for seen in self._seen:
                seen.resume()
        return changed

    def _take_growth(self, old: Peers, device: Device, seconds: float, snapshot: Snapshot) -> Iterator[int]:
        """Take in handshakes, and how counters grew in `seconds`. Yields the indices of the peers to judge for it."""
        now, new = snapshot.monotonic, device.peers
        shaken = set(handshakes(old, device))
        for at in {*differences(old.rx_bytes, new.rx_bytes), *differences(old.tx_bytes, new.tx_bytes), *shaken}:
            received, sent = new.rx_bytes[at] - old.rx_bytes[at], new.tx_bytes[at] - old.tx_bytes[at]
            if received < 0 or sent < 0:  # the device or the peer was made anew between two looks
                self._seen[at].appear(new[at], now, snapshot.wall)
                yield at
            elif self._seen[at].move(received, sent, handshake=at in shaken, now=now, seconds=seconds):
                yield at

    def _regroup(self, peers: Peers, metas: Sequence[PeerMeta], now: float, wall: float, *, anew: bool) -> None:
        """Take other peers than before, or all of them from a device that was made anew."""
        known = {row[0].public_key: row for row in zip(self.peers, self._seen, self.rows, strict=True)}
        found = []
        for peer, meta in zip(peers, metas, strict=True):
            if peer.public_key not in known:
                found.append((peer, Evidence(self.place, peer, meta, now, wall), NOT_JUDGED))
                continue
            then, seen, row = known[peer.public_key]
            seen.expect(meta.expected_up, now)
            if anew:
                seen.appear(peer, now, wall)
            found.append((peer if anew else then, seen, row))
        self.peers = Peers.of(peer for peer, _, _ in found)
        self.metas, self.rows = metas, tuple(row for _, _, row in found)
        self._seen = [seen for _, seen, _ in found]
        self._obstacles = {}  # another object than any that comes: the new peers have to take in theirs
        self.judge_all()

    def _take_probes(self, probes: Mapping[str, Probed], now: float, limits: HealthLimits, changed: set[int]) -> None:
        """Take in what the prober knows. It can change with every look, so all probed peers are judged."""
        if not probes and not self._probed:
            return
        self._probed = bool(probes)
        for at, (key, seen) in enumerate(zip(self.peers.public_key, self._seen, strict=True)):
            probed = probes.get(key)
            if probed is not None or seen.probed:
                seen.probe(probed, now, limits)
                changed.add(at)

    def _obstruct(self, obstacles: Mapping[str, Obstacle], now: float) -> set[int]:
        """Take in what stands in the way. Returns the indices of the peers that have to be judged for it."""
        before, self._obstacles = self._obstacles, obstacles
        changed: set[int] = set()
        if before is obstacles:
            return changed
        for at, (key, seen) in enumerate(zip(self.peers.public_key, self._seen, strict=True)):
            obstacle = obstacles.get(key)
            if obstacle != seen.obstacle:
                seen.obstruct(obstacle, now)
                changed.add(at)
        return changed

    def _sight(self, sightings: Mapping[str, Sighting]) -> set[int]:
        """Take in what the watcher saw. Returns the indices of the peers that have to be judged for it."""
        before, self._sighted = self._sighted, sightings
        if before is sightings or not sightings:
            return set()
        fresh = {key: row for key, row in sightings.items() if before.get(key) is not row}
        changed = {at for at, key in enumerate(self.peers.public_key) if key in fresh} if fresh else set()
        for at in changed:
            self._seen[at].sight(fresh[self.peers.public_key[at]])
        return changed

    def _suspect(self, found: DeviceChange, *, hangs: bool) -> None:
        """Bring `place.hung_since` up to date: the last time at which anything was known to answer."""
        place, before = self.place, self.place.hung_since
        self._stood_still = hangs and found.read is None
        # Only those that used to answer can tell.
        asked = [seen for seen in self._seen if seen.ever_answered] if self._stood_still else []
        silent = [seen.target_silent_since for seen in asked]
        if not silent or None in silent:
            place.hung_since = None
        elif before is None:
            place.hung_since = max(self._read_at, *(since for since in silent if since is not None))
        self.suspicious = place.hung_since is not None
        if before is not None and place.hung_since is None and found.read is None:
            self._withdraw(Reason.UNREADABLE)

    def _due(self, now: float) -> set[int]:
        """The indices of the peers whose deadline has come."""
        return set(compress(range(len(self._deadlines)), [deadline <= now for deadline in self._deadlines]))

    def _judge(self, key: DeviceKey, chosen: set[int], tick: Tick, limits: HealthLimits) -> Iterator[Change]:
        """Judge the chosen peers, by their indices. Yields what changed."""
        self._judged_at = tick.now
        self.doubtful = []
        rows: list[PeerHealth] | None = None
        for at in sorted(chosen):
            seen, row = self._seen[at], self.rows[at]
            before = seen.state, seen.reason
            found, self._deadlines[at] = judge(seen, row, tick, limits)
            suspicious = suspected_from(seen) <= tick.now
            self.suspicious = self.suspicious or suspicious
            new = not seen.judged and seen.unanswered_since is None  # nothing is known of it yet, good or bad
            if (suspicious and not new) or seen.state is State.DOWN or seen.reason is Reason.TARGET_SILENT:
                self.doubtful.append(at)
            if found is not row:
                rows = list(self.rows) if rows is None else rows
                rows[at] = found
            if seen.state is not None and (seen.state, seen.reason) != before:
                who = (self.peers.public_key[at], self.metas[at].name)
                yield Change(*key, *who, before[0], seen.state, seen.reason, found.evidence or in_words(seen, tick.now))
        if rows is not None:
            self.rows = tuple(rows)

    def _withdraw(self, untrue: Reason | None = None) -> None:
        """Withdraw the states, but not `down`: an alert that fires goes on firing. If a reason has turned out `untrue`,
        only those that are down for it.
        """
        left = []
        for seen, row in zip(self._seen, self.rows, strict=True):
            if row.state is None or (row.state is State.DOWN if untrue is None else row.reason is not untrue):
                left.append(row)
            else:
                seen.forget()
                left.append(row._replace(state=None, reason=None, evidence=""))
        if not same(self.rows, tuple(left)):
            self.rows = tuple(left)
            # They need a state at the next look that reads them, even if nothing has moved by then.
            self.judge_all()
