"""What happened since the last tick, as events: the only place where what a tick finds becomes one.

`look` takes in what changed, under the lock of whoever ticks, so it only collects; `events` makes rows of it then.
A peer that is well when it is first judged, and a tunnel whose MTU is right when it is first measured, did nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.drift.kinds import Kind as Difference
from wg_exporter.events import Kind, Level, event
from wg_exporter.health.states import State
from wg_exporter.probed import Verdict
from wg_exporter.status.mtu import told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from wg_exporter.causes.cause import Finding
    from wg_exporter.daemon.causes import Found
    from wg_exporter.drift.kinds import Drift
    from wg_exporter.events import Event
    from wg_exporter.health.states import Change
    from wg_exporter.history.history import Roamed
    from wg_exporter.model import Device, DeviceKey, PeerKey
    from wg_exporter.names.identity import PeerMeta
    from wg_exporter.probed import MtuReport, Probed
    from wg_exporter.quiet import QuietNow

    Probes = Mapping[DeviceKey, Mapping[str, Probed]]

_UNHEALTHY = frozenset({State.DOWN, State.DEGRADED})

# They say nothing of an MTU: there is no answer yet, the peer gives none, which its state says, or too few.
_NO_VERDICT = frozenset({Verdict.UNKNOWN, Verdict.UNREACHABLE, Verdict.INCONCLUSIVE})


class _Roaming(NamedTuple):
    key: PeerKey
    name: str
    before: str
    after: str


class _Judged(NamedTuple):
    """A tunnel with another verdict than before; empty: `ok`, or none yet."""

    key: PeerKey
    name: str
    before: str
    report: MtuReport
    target: str


class _Drifted(NamedTuple):
    device: DeviceKey
    file: str
    before: str
    after: str


class Seen(NamedTuple):
    """What one look has found, beside states and causes."""

    roamed: Sequence[_Roaming] = ()
    judged: Sequence[_Judged] = ()
    drifted: Sequence[_Drifted] = ()


class Happened:
    """Driven by the tick. Without a clock, and not thread-safe."""

    def __init__(self) -> None:
        self._probes: Probes = {}
        self._verdicts: dict[PeerKey, Verdict] = {}  # those that are not `ok`
        self._drifts: Mapping[DeviceKey, Drift] = {}
        self._counts: dict[DeviceKey, dict[Difference, int]] = {}

    def look(
        self,
        roamed: Iterable[Roamed],
        metas: Callable[[Device], Sequence[PeerMeta]],
        probes: Probes,
        drifts: Mapping[DeviceKey, Drift],
        names_of: Callable[[DeviceKey], Mapping[str, str]],
    ) -> Seen:
        """Take in a look. `names_of` gives what the peers of a device are called, by public key."""
        return Seen(
            [_roaming(one, metas(one.device)) for one in roamed],
            list(self._judge(probes, names_of)),
            list(self._compare(drifts)),
        )

    def _judge(self, probes: Probes, names_of: Callable[[DeviceKey], Mapping[str, str]]) -> Iterator[_Judged]:
        """The verdicts that are others than the last of the same peer; a silence in between is none."""
        before, self._probes = self._probes, probes
        for device, rows in probes.items():
            if rows is before.get(device):
                continue
            names: Mapping[str, str] | None = None
            for public_key, row in rows.items():
                if row.mtu is None or row.mtu.verdict in _NO_VERDICT:
                    continue
                key, verdict = (*device, public_key), row.mtu.verdict
                known = self._verdicts.get(key)
                if verdict is (known or Verdict.OK):
                    continue
                if verdict is Verdict.OK:
                    del self._verdicts[key]
                else:
                    self._verdicts[key] = verdict
                names = names_of(device) if names is None else names
                yield _Judged(key, names.get(public_key, public_key[:8]), known or "", row.mtu, row.target)
        if len(self._verdicts) > sum(map(len, probes.values())) and probes:  # of peers that are not probed any more
            kept = {(*device, key) for device, rows in probes.items() for key in rows}
            self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if key in kept}

    def _compare(self, drifts: Mapping[DeviceKey, Drift]) -> Iterator[_Drifted]:
        """The devices that differ from their files in another way than before. What could not be judged now, of a
        device or of one kind, is as it was.
        """
        if drifts is self._drifts:
            return
        self._drifts = drifts
        for device, drift in drifts.items():
            known = self._counts.get(device, {})
            now = {kind: number for kind, number in (known | dict(drift.counts)).items() if number}
            if now == known:
                continue
            if now:
                self._counts[device] = now
            else:
                self._counts.pop(device, None)
            yield _Drifted(device, drift.path, _in_words(known), _in_words(now))

    def events(
        self,
        seen: Seen,
        changes: Iterable[Change],
        found: Iterable[Found],
        *,
        quiet: QuietNow,
        causes: Mapping[DeviceKey, Mapping[str, Finding]],
        wall: float,
    ) -> list[Event]:
        """All of it as events. `found` are the causes that were found, `causes` those that are known now."""
        return [
            *(_drift(one, quiet, wall) for one in seen.drifted),
            *(_roamed(one, quiet, wall) for one in seen.roamed),
            *(_changed(one, quiet, causes, wall) for one in changes if one.before or one.after in _UNHEALTHY),
            *(_mtu(one, quiet, wall) for one in seen.judged),
            *(_cause(one, quiet, wall) for one in found),
        ]


def _in_words(counts: Mapping[Difference, int]) -> str:
    """`allowed_ips 2, mtu 1`."""
    return ", ".join(f"{kind} {counts[kind]}" for kind in Difference if kind in counts)


def _roaming(one: Roamed, metas: Sequence[PeerMeta]) -> _Roaming:
    device = one.device
    key = (device.netns, device.name, device.peers.public_key[one.at])
    return _Roaming(key, metas[one.at].name, one.before, device.peers.endpoint[one.at])


def _is_quiet(key: PeerKey, quiet: QuietNow) -> bool:
    return bool(quiet) and quiet.peer((key[0], key[1]), key[2]) is not None


def _roamed(one: _Roaming, quiet: QuietNow, wall: float) -> Event:
    *device, public_key = one.key
    return event(
        Kind.ROAMING,
        wall,
        (device[0], device[1]),
        public_key=public_key,
        name=one.name,
        before=one.before,
        after=one.after,
        quiet=_is_quiet(one.key, quiet),
    )


def _changed(change: Change, quiet: QuietNow, causes: Mapping[DeviceKey, Mapping[str, Finding]], wall: float) -> Event:
    device = (change.netns, change.interface)
    alone = _is_quiet((*device, change.public_key), quiet)
    unhealthy = change.after in _UNHEALTHY
    finding = causes.get(device, {}).get(change.public_key) if unhealthy else None
    return event(
        Kind.REASON if change.before is change.after else Kind.STATE,
        wall,
        device,
        level=Level.WARN if unhealthy and not alone else Level.INFO,
        public_key=change.public_key,
        name=change.name,
        before=change.before or "",
        after=change.after,
        reason=change.reason or "",
        cause=finding.cause if finding else "",
        evidence=change.evidence,
        quiet=alone,
    )


def _mtu(one: _Judged, quiet: QuietNow, wall: float) -> Event:
    netns, interface, public_key = one.key
    # Without the router where the path shrinks, which is not for everybody, and without advice, which is of now.
    said = told(one.report._replace(shrinks_at="", recommended=None), interface, one.target)
    return event(
        Kind.MTU,
        wall,
        (netns, interface),
        public_key=public_key,
        name=one.name,
        before=one.before,
        after=one.report.verdict,
        evidence=said.partition(": ")[2],
        quiet=_is_quiet(one.key, quiet),
    )


def _cause(found: Found, quiet: QuietNow, wall: float) -> Event:
    netns, interface, public_key = found.key
    alone = _is_quiet(found.key, quiet)
    return event(
        Kind.CAUSE,
        wall,
        (netns, interface),
        level=Level.INFO if alone else Level.WARN,
        public_key=public_key,
        name=found.name,
        cause=found.finding.cause,
        confidence=found.finding.confidence,
        evidence="; ".join(found.finding.evidence),
        quiet=alone,
    )


def _drift(one: _Drifted, quiet: QuietNow, wall: float) -> Event:
    alone = quiet.interface(one.device) is not None
    return event(Kind.DRIFT, wall, one.device, before=one.before, after=one.after, evidence=one.file, quiet=alone)
