"""What the page at `/` says of each peer and each interface: words for the cells of a table, and their order.

All of it is made from the status document, as page.js does in the browser: functions there have the names of those
here, and a test holds one against the other. The words are those of `wg-exporter show`.
"""

from __future__ import annotations

import re
from collections import Counter
from time import gmtime, strftime
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.states import State
from wg_exporter.probed import Verdict
from wg_exporter.status import words
from wg_exporter.status.cause import in_a_line
from wg_exporter.status.mtu import in_short

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from wg_exporter.status.cause import CausePart
    from wg_exporter.status.document import DevicePart, Document, PeerPart
    from wg_exporter.status.probe import RoundTripsPart

NOT_KNOWN = "not known"
NOTHING = "-"
WIDTH, HEIGHT = 100, 20  # of a line of round trips
_RANKS = {State.DOWN: 0, State.DEGRADED: 1, State.UP: 4, State.IDLE: 5, State.NEVER: 6}
_NOTHING_FOUND = frozenset({Verdict.OK, Verdict.UNKNOWN, Verdict.UNREACHABLE})
_NUMBERS = re.compile(r"([0-9]+)")
_EXPECTED_IDLE, _EXPECTED_UNKNOWN, _UNKNOWN = 3, 2, 7


class Line(NamedTuple):
    """A line of round trips as the `d` of SVG paths, and in words."""

    title: str
    area: str
    mean: str
    lost: str


class Row(NamedTuple):
    """A peer in words. `kind` is `bad`, `odd`, `good` or `dull`. `summary` and `lines` say more where there is more."""

    kind: str
    state: str
    since: str
    name: str
    place: str
    reason: str
    handshake: str
    rtt: str
    line: Line | None
    loss: str
    mtu: str
    summary: str
    lines: tuple[str, ...]


def worst_first(document: Document) -> list[tuple[DevicePart, PeerPart]]:
    """All peers, each with its device."""
    found = [(device, peer) for device in document.devices for peer in device.peers]
    return sorted(found, key=lambda row: (rank(row[1]), -(row[1].state_since or 0), _natural(row[1].label)))


def rank(peer: PeerPart) -> int:
    """How much attention it needs: 0 = the most. One that is expected up and idle may be dead. On one that is quiet
    somebody works already.
    """
    if peer.state is None:
        needs = _EXPECTED_UNKNOWN if peer.expected_up else _UNKNOWN
    else:
        needs = _EXPECTED_IDLE if peer.state is State.IDLE and peer.expected_up else _RANKS[peer.state]
    return max(needs, _EXPECTED_IDLE) if peer.quiet else needs


def names_twice(device: DevicePart) -> frozenset[str]:
    """What several peers of a device are called, so that their keys have to tell them apart."""
    counts = Counter(peer.label for peer in device.peers)
    return frozenset(name for name, number in counts.items() if number > 1)


def row_of(peer: PeerPart, device: DevicePart, now: float, age: float, twice: Container[str] = ()) -> Row:
    """The peer in words at `now` (wall clock, seconds), when the document is `age` seconds old. Names in `twice` are
    those that need a key beside them.
    """
    at, probe, mtu = rank(peer), peer.probe, peer.mtu
    trips, rtt, loss = (probe.round_trips, probe.round_trip_seconds, probe.loss_ratio) if probe else (None,) * 3
    endpoint = f", {peer.endpoint}" if peer.endpoint else ""
    key = f", key {peer.public_key[:8]}" if peer.label in twice else ""
    since = [words.ago(int(now - peer.state_since))] if peer.state_since else []
    since += ["down by fast echoes"] if peer.fast_up is False else []
    since += ["quiet"] if peer.quiet else []
    summary, lines = more(peer, now)
    return Row(
        kind="bad" if at == 0 else "odd" if at <= _EXPECTED_IDLE else "good" if peer.state is State.UP else "dull",
        state=peer.state or NOT_KNOWN,
        since=", ".join(since),
        name=peer.label,
        place=place_of(device) + endpoint + key,
        reason=(peer.reason or "") + (f": {peer.cause.cause}" if peer.cause else ""),
        handshake=_handshake(peer, age),
        rtt=NOTHING if rtt is None else words.milliseconds(rtt),
        line=line_of(trips) if trips else None,
        loss=NOTHING if loss is None else words.loss(loss),
        mtu=in_short(mtu.verdict, mtu.recommended) if mtu else NOTHING,
        summary=summary,
        lines=lines,
    )


def more(peer: PeerPart, now: float) -> tuple[str, tuple[str, ...]]:
    """What stands below the row of a peer with which something is wrong: a summary, and lines that can be folded."""
    lines, summary = [], ""
    if peer.reason:
        since, seen = peer.state_since, peer.reason_since
        summary = f"since {_moment_ago(since, now)}" if since else "since before wg-exporter was started"
        # What was seen is told as it was then, so it has a time of its own.
        summary += f"; seen {_moment_ago(seen, now) if seen and seen > (since or 0) + 1 else 'then'}:"
        lines += [peer.evidence or "", *_cause(peer.cause, peer.advice or "")]
    if peer.endpoint_name and peer.endpoint_name.finding:
        summary = summary or "the host name of its endpoint"
        lines.append(peer.endpoint_name.finding)
    if peer.mtu and peer.mtu.findings and peer.mtu.verdict not in _NOTHING_FOUND:
        summary = summary or "what was found about its MTU"
        lines.append(peer.mtu.findings)
    if peer.target_wanted and peer.target_reason:
        summary = summary or "can't be probed"
        lines.append(f"can't be probed: {peer.target_reason}")
    if peer.fast_reason:
        summary = summary or "fast echoes"
        lines.append(f"fast echoes: {peer.fast_reason}")
    if peer.quiet:
        summary = summary or "pages nobody"
        why = f": {peer.quiet.reason}" if peer.quiet.reason else ""
        lines.append(f"quiet until {moment(peer.quiet.until)}{why}")
    return summary, tuple(filter(None, lines))


def _cause(cause: CausePart | None, advice: str) -> tuple[str, ...]:
    """The cause with what to do about it, which is better than the advice that the reason has for everybody."""
    if cause is None:
        return (advice,)
    line = in_a_line(cause.cause, cause.confidence, cause.evidence, cause.also)
    return (line, *(cause.fix or (advice,)))


def line_of(trips: RoundTripsPart) -> Line:
    """The mean round trips as a line from left to right, 0 at the bottom; what was lost as strokes in red."""
    means, lost, step = trips.mean_seconds, trips.lost, WIDTH / len(trips.lost)
    known = [mean for mean in means if mean is not None]
    top = max(known, default=0) * 1.25 or 1
    runs: list[list[str]] = [[]]
    strokes = ""
    for index, (mean, number) in enumerate(zip(means, lost, strict=True)):
        x = (index + 0.5) * step
        if mean is None:
            runs.append([])
        else:
            runs[-1].append(f"{x:g} {HEIGHT - mean / top * HEIGHT:.1f}")
        if number:
            strokes += f"M{x:g} {HEIGHT}V{0 if mean is None else HEIGHT * 2 // 3}"
    drawn = [run for run in runs if run]
    mean_path = "".join(f"M{'L'.join(run)}h0" for run in drawn)
    area = "".join(f"M{run[0].split(' ')[0]} {HEIGHT}L{'L'.join(run)}V{HEIGHT}Z" for run in drawn)
    span = f"{words.milliseconds(min(known))} to {words.milliseconds(max(known))}" if known else "no answer"
    minutes = round(len(means) * trips.step_seconds / 60)
    title = f"last {words.count(minutes, 'minute')}: {span}, {words.count(sum(lost), 'probe')} lost"
    return Line(title, area, mean_path, strokes)


def device_of(device: DevicePart) -> tuple[str, str, str]:
    """An interface: its kind as of a row, its name, and what is known of it."""
    quiet = [f"quiet until {moment(device.quiet.until)}"] if device.quiet else []
    if device.gone:
        facts = [f"gone, {words.count(len(device.peers), 'peer')} expected up", *quiet]
        return "odd" if quiet else "bad", place_of(device), ", ".join(facts)
    facts = [] if device.up is None else ["up" if device.up else "DOWN"]
    facts += [device.backend] if device.backend else []
    facts += [f"port {device.listen_port}"] if device.listen_port else []
    facts += [f"MTU {device.mtu}"] if device.mtu else []
    facts += [words.count(len(device.peers), "peer")] if device.read_success else ["could not be read"]
    if drifted := sum(device.drift.counts.values()) if device.drift else 0:
        facts.append(f"differs from its file in {words.count(drifted, 'place')}")
    facts += quiet
    return "dull" if device.read_success and device.up is not False else "bad", place_of(device), ", ".join(facts)


def problems_of(document: Document) -> Iterator[str]:
    """What could not be read, is down, is gone or matches nothing: a line each."""
    for source in document.sources:
        if not source.success:
            yield f"{source.source}{_within(source.netns)}: {source.problem or ''}"
    for device in document.devices:
        if device.gone:
            continue  # is among the problems of the document
        if device.problem:
            yield f"{place_of(device)} could not be read: {device.problem}"
        elif not device.read_success:
            yield f"{place_of(device)}: this read failed half way: the peers are those of an earlier one"
        if device.up is False:
            yield f"{place_of(device)} is down"
    yield from document.problems


def place_of(device: DevicePart) -> str:
    """The name of an interface, with its namespace."""
    return device.interface + _within(device.netns)


def moment(wall: float) -> str:
    """Seconds since the epoch as date and time."""
    return strftime("%Y-%m-%d %H:%M:%S UTC", gmtime(wall))


def _handshake(peer: PeerPart, age: float) -> str:
    if peer.ever_connected is None:
        return NOTHING
    if peer.latest_handshake_age_seconds is None:
        return words.NOT_KNOWN_WHEN if peer.ever_connected else words.NEVER
    return words.ago(int(peer.latest_handshake_age_seconds + age))


def _moment_ago(wall: float, now: float) -> str:
    return f"{moment(wall)}, {words.ago(int(now - wall))}"


def _within(netns: str) -> str:
    return f" in {netns}" if netns else ""


def _natural(name: str) -> list[str | int]:
    """To sort by: office-9 before office-10."""
    parts: list[str | int] = [*_NUMBERS.split(name.casefold())]
    parts[1::2] = map(int, parts[1::2])
    return parts
