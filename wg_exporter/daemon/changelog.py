"""The change log: a line when something fails, changes or recovers, none while it stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wg_exporter.events import Kind, Level
from wg_exporter.events.book import gathered
from wg_exporter.hostnames import MEANINGS
from wg_exporter.log import Log, OnChange
from wg_exporter.names.unmatched import told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wg_exporter.events import Event
    from wg_exporter.model import PeerKey, Snapshot
    from wg_exporter.names.unmatched import Unmatched

# The events of the log, of what happens to devices and peers; of all else whoever does it tells.
_EVENTS = {
    Kind.STATE: "peer changed",
    Kind.REASON: "reason changed",
    Kind.CAUSE: "cause found",
    Kind.ROAMING: "peer roamed",
    Kind.MTU: "MTU verdict changed",
    Kind.DRIFT: "drift changed",
}
_SINGLY = frozenset({Kind.STATE, Kind.REASON, Kind.CAUSE})


class ChangeLog:
    """Compares each snapshot with what was logged before."""

    def __init__(self) -> None:
        self._log = Log(__name__)
        self._seen = OnChange()
        self._reasons: set[str] = set()
        self._unmatched: set[tuple[str, str]] = set()

    def report(self, snapshot: Snapshot, expected: int, others: int, unprobed: Mapping[PeerKey, str]) -> None:
        """Log what is new in `snapshot`.

        Where nothing could be read that is one trouble, of which whoever asks the reader tells.

        `expected` is the number of peers expected up, `others` that of the rest. `unprobed` are the peers that should
        be probed and can't be, each with the reason.
        """
        if snapshot.unread:
            return
        self._sources(snapshot)
        self._devices(snapshot)
        self._files(snapshot)
        self._names(snapshot)
        if self._seen.changed("peers", (len(snapshot.devices), expected, others)):
            self._log.info("peers", devices=len(snapshot.devices), expected_up=expected, not_expected_up=others)
        self._probing(unprobed)

    def tell(self, events: Iterable[Event], down: int) -> None:
        """Log what happened to devices and peers, a line each; of what moves often, one for many peers that have the
        same. `down` is the number of peers expected up that are not.
        """
        every = list(events)
        singly = [one for one in every if one.kind in _SINGLY]
        for one in (*gathered(one for one in every if one.kind not in _SINGLY), *singly):
            self._tell(one)
        if self._seen.changed("down", down or ""):
            self._log.info("peers expected up", not_up=down)

    def _tell(self, one: Event) -> None:
        fields: dict[str, object] = {"interface": one.interface, "netns": one.netns}
        if one.kind is not Kind.DRIFT:
            fields = {"peer": one.name, **fields, "public_key": one.public_key}
        fields |= {"peers": one.peers} if one.peers else {}
        if one.kind is Kind.CAUSE:
            fields |= {"cause": one.cause, "confidence": one.confidence}
        else:
            fields |= {"before": one.before or ("unknown" if one.kind is Kind.STATE else ""), "after": one.after}
        if one.kind in {Kind.STATE, Kind.REASON}:
            fields["reason"] = one.reason
        if one.kind is not Kind.ROAMING:
            fields["file" if one.kind is Kind.DRIFT else "evidence"] = one.evidence
        if one.cause and one.kind is not Kind.CAUSE:
            fields["cause"] = one.cause
        if one.quiet:
            fields["quiet"] = True
        # Of a peer that is quiet nothing is a warning: nobody has to look.
        say = self._log.warn if one.level is Level.WARN else self._log.info
        say(_EVENTS[one.kind], **fields)

    def unjudged(self, number: int) -> None:
        """Log the number of peers that look the same idle and dead."""
        if self._seen.changed("unjudged", number or "") and number:
            self._log.warn(
                "peers can't be judged",
                peers=number,
                reason="expected up, without keepalive and not probed: idle and dead look alike until data is sent; "
                "turn on persistent keepalive or probing",
            )

    def unmatched(self, found: Sequence[Unmatched]) -> None:
        """Log each entry of the configuration that matches nothing, once, also if nobody can tell for a while."""
        # The rest of a line says what there is instead, which changes.
        named = {(entry.where, entry.problem.partition(";")[0]): entry for entry in found}
        new = [entry for name, entry in named.items() if name not in self._unmatched]
        self._unmatched |= named.keys()
        for line in told(new):
            self._log.warn("configuration matches nothing", problem=line)

    def _sources(self, snapshot: Snapshot) -> None:
        for row in snapshot.outcomes:
            if self._seen.changed((row.source, row.netns), row.problem):
                if row.problem:
                    self._log.error("source failed", source=row.source, netns=row.netns, problem=row.problem)
                else:
                    self._log.info("source works again", source=row.source, netns=row.netns)
        if self._seen.changed("doubles", snapshot.doubles):
            for line in snapshot.doubles:
                self._log.warn("devices of one name", problem=line)
        if self._seen.changed("notes", snapshot.notes):
            for note in snapshot.notes:
                self._log.info("noticed", note=note)

    def _devices(self, snapshot: Snapshot) -> None:
        for row in snapshot.failed:
            if self._seen.changed(("device", row.netns, row.name), row.problem):
                self._log.warn("device not read", interface=row.name, netns=row.netns, problem=row.problem)
        for device in snapshot.devices:
            if device.fresh and self._seen.changed(("device", device.netns, device.name), ""):
                self._log.info("device read again", interface=device.name, netns=device.netns)

    def _probing(self, unprobed: Mapping[PeerKey, str]) -> None:
        """Log a line for each reason, not for each peer: a hub may have hundreds that can't be probed."""
        peers: dict[str, list[PeerKey]] = {}
        for key, reason in unprobed.items():
            peers.setdefault(reason, []).append(key)
        for reason in self._reasons - peers.keys():
            self._seen.changed(("unprobed", reason), 0)
        self._reasons = set(peers)
        for reason, keys in peers.items():
            if self._seen.changed(("unprobed", reason), len(keys)):
                netns, interface, public_key = keys[0]
                self._log.warn(
                    "not probed",
                    peers=len(keys),
                    interface=interface,
                    netns=netns,
                    public_key=public_key,
                    reason=reason,
                )

    def _names(self, snapshot: Snapshot) -> None:
        for row in snapshot.host_names:
            if self._seen.changed(("host name", row.endpoint), row.failure or ""):
                if row.failure:
                    self._log.warn("host name not resolved", endpoint=row.endpoint, problem=MEANINGS[row.failure])
                else:
                    self._log.info("host name resolved again", endpoint=row.endpoint)

    def _files(self, snapshot: Snapshot) -> None:
        for file in snapshot.conf:
            if self._seen.changed(file.path, file.problems):
                for problem in file.problems:
                    self._log.warn("names file has a problem", problem=problem)
