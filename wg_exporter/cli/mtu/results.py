"""What `wg-exporter mtu` found out about each peer: the sentence, the findings as a table, the numbers for scripts.

Whoever prints these texts has to make them safe for a terminal.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.health.states import NOT_JUDGED, State
from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.advice import Advice, Entry, advise
from wg_exporter.prober.mtu.locate import HOPS, Direction
from wg_exporter.prober.mtu.oracle import Oracle
from wg_exporter.prober.mtu.pairs import Big
from wg_exporter.prober.mtu.probes import SMALL
from wg_exporter.prober.mtu.verdict import outer_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wg_exporter.health.states import PeerHealth
    from wg_exporter.prober.mtu.locate import Shrink
    from wg_exporter.prober.mtu.verdict import Findings


class CheckError(Exception):
    """The check can't be made. The message is one line that says why."""


INSIDE, OUTSIDE, HERE = "inside", "outside", "this host"


class Asked(NamedTuple):
    """A peer that was asked for. `name` is its friendly name or the start of its key, `target` an inner address.

    `mtu` is the interface's, None where it is not known. `problem` says why the peer can't be probed, if it can't.
    `health` is how the exporter that runs here says that it is; without a state if none says it.
    `expected`: somebody waits for it to be up, or asked for it by name. `entry` leads commands into its namespaces.
    """

    netns: str
    interface: str
    public_key: str
    name: str
    target: str
    mtu: int | None
    problem: str = ""
    health: PeerHealth = NOT_JUDGED
    expected: bool = True
    entry: Entry = Entry()

    @property
    def passed_over(self) -> bool:
        """Whether it can't be probed and nobody minds, like a phone that has not called yet."""
        return bool(self.problem) and not self.expected


class Row(NamedTuple):
    """A line of findings: where a probe was sent, what it was, what came back. `good` None: neither good nor bad."""

    where: str
    sent: str
    came_back: str
    good: bool | None = True


class Result(NamedTuple):
    """What there is to say of one peer. Sizes are IP packets in bytes, None = not known.

    The path outside carries `path_outer` bytes, maybe up to `slack` more. `hint` is a sentence on how to learn more.
    `seconds` is how long it took.
    """

    asked: Asked
    advice: Advice
    path_inner: int | None = None
    path_outer: int | None = None
    slack: int = 0
    shrinks_at: str = ""
    rows: tuple[Row, ...] = ()
    hint: str = ""
    seconds: float = 0.0


def conclude(asked: Asked, findings: Findings, shrink: Shrink | None, seconds: float, *, cut: bool = False) -> Result:
    """The result of probing. `shrink` is what P7 found. `cut`: the timeout came before probing was finished."""
    hop = shrink.hop if shrink else ""
    advice = advise(findings, hop, asked.entry)
    if asked.health.state is State.DOWN and advice.verdict is Verdict.FILTERED:
        # Handshakes and keepalives from it may have been taken for life here; the exporter has looked for longer.
        advice = Advice(
            Verdict.UNREACHABLE,
            f"{asked.name} answers no probe, and the exporter that runs here says that it is down "
            f"({asked.health.reason}).",
        )
    path, slack = outer_path(findings)
    return Result(
        asked,
        advice,
        findings.inner,
        path,
        slack,
        findings.hop or hop,
        tuple(_rows(findings, shrink)),
        _hint(advice, findings, cut=cut),
        seconds,
    )


def unprobed(asked: Asked) -> Result:
    """The result for a peer that can't be probed."""
    return Result(asked, Advice(Verdict.UNKNOWN, f"{asked.name} can't be probed: {asked.problem}."))


def all_ok(results: Iterable[Result]) -> bool:
    """Whether every verdict is `ok`, but for peers that can't be probed and nobody expects; False if that is all."""
    verdicts = [result.advice.verdict for result in results if not result.asked.passed_over]
    return bool(verdicts) and all(verdict is Verdict.OK for verdict in verdicts)


def to_json(results: Iterable[Result]) -> str:
    """A list of objects, one for each peer; what isn't known is null. Sizes in bytes, `seconds` how long it took.

    `path_mtu_outer` is what is known to pass; see `Result.slack`. `state` and `reason` are what the exporter that runs
    here says. Only ASCII is written.
    """
    return json.dumps([_object(result) for result in results], indent=2)


def _object(result: Result) -> dict[str, object]:
    asked = result.asked
    return {
        "interface": asked.interface,
        "public_key": asked.public_key,
        "peer": asked.name,
        "target": asked.target or None,
        "verdict": result.advice.verdict.value,
        "interface_mtu": asked.mtu,
        "path_mtu_inner": result.path_inner,
        "path_mtu_outer": result.path_outer,
        "recommended_mtu": result.advice.mtu,
        "shrinks_at": result.shrinks_at or None,
        "seconds": round(result.seconds, 3),
        "state": asked.health.state,
        "reason": asked.health.reason,
    }


def shared_devices(results: Iterable[Result]) -> Iterator[str]:
    """A sentence for each device whose peers need different MTUs, as a device has only one."""
    wanted: dict[tuple[str, str], dict[int, str]] = {}
    for result in results:
        asked, mtu = result.asked, result.advice.mtu
        if mtu is not None:
            wanted.setdefault((asked.netns, asked.interface), {}).setdefault(mtu, asked.name)
    for (netns, interface), sizes in wanted.items():
        if len(sizes) > 1:
            least = min(sizes)
            where = f"{interface} in {netns}" if netns else interface
            yield f"{where} has one MTU for all its peers: {least}, which {sizes[least]} needs, suits them all."


# --- the findings ---------------------------------------------------------------------------------------------------


def _rows(seen: Findings, shrink: Shrink | None) -> Iterator[Row]:
    tunnel = seen.tunnel
    yield Row(INSIDE, f"echo of {SMALL} bytes to {tunnel.target}", *_small(seen))
    yield Row(INSIDE, f"echo of {tunnel.mtu} bytes, whole or not at all", *_big(seen))
    if seen.inner is not None and seen.inner < tunnel.mtu:
        steps = "" if seen.inner_exact else ", the next 16 bytes more did not"
        yield Row(INSIDE, f"echoes of every size up to {tunnel.mtu}", f"{seen.inner} bytes passed{steps}", None)
    if seen.direction is not Direction.UNKNOWN:
        yield Row(INSIDE, f"UDP of {tunnel.mtu} bytes to a closed port", *_way(seen))
    if not tunnel.endpoint:
        yield Row(OUTSIDE, "nothing", "no endpoint is known", None)
        return
    if seen.route is not None:
        enough = seen.route >= tunnel.needed
        more = "" if enough else f", and a full packet needs {tunnel.needed}"
        yield Row(HERE, f"route to {tunnel.endpoint}", f"carries {seen.route} bytes{more}", enough)
    if seen.learnt is not None:
        enough = seen.learnt >= tunnel.needed
        yield Row(HERE, "path MTU that the kernel has learnt", f"{seen.learnt} bytes, by a packet-too-big", enough)
    yield Row(OUTSIDE, f"echo of {tunnel.needed} bytes to {tunnel.endpoint}", *_outer(seen))
    if shrink is not None:
        yield Row(OUTSIDE, f"the same with a TTL of 1 to {HOPS}", _shrink(shrink), good=False)
    yield from _counters(seen)


def _small(seen: Findings) -> tuple[str, bool | None]:
    if seen.quiet:
        before = ", though it answered before" if seen.ever else ""
        return f"nothing, {seen.silent} times in a row{before}", False
    if not seen.ever:
        return "not known yet", None
    return ("answered", True) if not seen.silent else ("answered, but not always", None)


def _big(seen: Findings) -> tuple[str, bool | None]:
    if seen.refused is not None:
        most = f": {seen.refused} bytes at most" if seen.refused else ""
        return f"this host refused to send it{most}", False
    if seen.quiet:
        return "nothing", None
    if seen.big is Big.PASSED:
        if seen.fragment is not None:
            return f"answered, in fragments of up to {seen.fragment} bytes", False
        return "answered", True
    if seen.inner_claim is not None:
        said = f", says {seen.hop}" if seen.hop else ""
        return f"too big: {seen.inner_claim} bytes at most{said}", False
    if seen.big is Big.HOLE:
        often = ", but for some now and then" if seen.spotty else ""
        return f"nothing, while small ones were answered{often}", False if seen.hole else None
    return ("lost now and then, as small ones are", None) if seen.big is Big.UNSURE else ("not known yet", None)


def _way(seen: Findings) -> tuple[str, bool | None]:
    if seen.direction is Direction.BACK:
        return "refused, so it arrived", None
    return "nothing, though smaller ones were refused: the loss is on the way there", False


def _outer(seen: Findings) -> tuple[str, bool | None]:
    if seen.outer_full:
        room = f", and of {seen.outer} too" if seen.outer is not None and seen.outer > seen.tunnel.needed else ""
        return f"answered{room}", True
    if seen.outer_full is False and seen.outer is not None:
        inside = seen.inner_claim is not None and not seen.arrives  # then the hop is one inside the tunnel
        if seen.hop and not inside:
            return f"too big for the path, which carries {seen.outer} bytes, says {seen.hop}", False
        return f"nothing; the largest that was answered has {seen.outer} bytes", False
    return "nothing that could tell: large echoes may be dropped there", None


def _shrink(shrink: Shrink) -> str:
    away = "1 router" if shrink.distance == 1 else f"{shrink.distance} routers"
    if shrink.distance < 1:
        return f"{shrink.hop} says that it is too big for the first link"
    sure = "too big for the link behind it" if shrink.certain else "the last that full-size packets reached"
    return f"{shrink.hop}, {away} away: {sure}"


def _counters(seen: Findings) -> Iterator[Row]:
    if seen.oracle is not None:
        said = {
            Oracle.ARRIVES: ("full-size packets arrive: each was acknowledged after 10 s", True),
            Oracle.LOST: ("full-size packets are lost: none was acknowledged, and a new handshake was", False),
            Oracle.INCONCLUSIVE: ("the tunnel isn't quiet enough to tell", None),
        }
        yield Row(HERE, "the peer's byte counters, 3 times", *said[seen.oracle])
    elif seen.quiet:
        alive = {
            True: ("the peer is alive: something came from it within 25 s", None),
            False: ("nothing came from the peer for 25 s", False),
            None: ("not watched for long enough", None),
        }
        yield Row(HERE, "the peer's byte counters", *alive[seen.alive])


def _hint(advice: Advice, seen: Findings, *, cut: bool) -> str:
    if cut:
        return "The time was over before all was known; give it more with --timeout."
    if seen.oracle is None and countable(advice.verdict, seen):
        return "Its byte counters can tell, in one to two minutes: use --silent-peers."
    return ""


def countable(verdict: Verdict, seen: Findings) -> bool:
    """Whether the byte counters can tell more of it: whether full-size packets arrive there."""
    unproven = verdict is Verdict.FILTERED_LARGE and seen.direction is Direction.UNKNOWN
    return verdict is Verdict.FILTERED or unproven


def so_far(seen: Findings) -> str:
    """What is known while probing goes on, in a few words; empty if nothing is."""
    if seen.quiet:
        return "no answer yet; is anything received from the peer at all?" if seen.alive is None else "no answer"
    known = [
        f"{size} bytes {where}" for where, size in ((INSIDE, seen.inner), (OUTSIDE, seen.outer)) if size is not None
    ]
    return f"passed: {', '.join(known)}" if known else ""
