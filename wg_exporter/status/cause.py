"""The cause of a peer's trouble: in the status document and the way back, and in a line for `show` and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from wg_exporter.causes.cause import Cause, Confidence, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ExcludedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A cause that it is not, and why not."""

    cause: Cause
    why: str


class CausePart(msgspec.Struct, frozen=True, kw_only=True):
    """Why the tunnel does not work. `evidence`, `fix` and `uncertain` are for a person. Strangers get none of these,
    nor `excluded`, unless they are told endpoints in full (`metrics: endpoint`): the lines have addresses in them.
    """

    cause: Cause
    confidence: Confidence
    evidence: list[str]
    excluded: list[ExcludedPart]
    also: list[Cause]
    fix: list[str]
    uncertain: str | None


def cause_part(found: Finding, text: Callable[[str], str], *, full: bool) -> CausePart:
    """The finding for the document; `text` makes a line of it fit for that. Without `full` no line is in it."""
    told = found if full else found._replace(evidence=(), excluded=(), fix=(), uncertain="")
    return CausePart(
        cause=told.cause,
        confidence=told.confidence,
        evidence=[*map(text, told.evidence)],
        excluded=[ExcludedPart(cause=cause, why=text(why)) for cause, why in told.excluded],
        also=list(told.also),
        fix=[*map(text, told.fix)],
        uncertain=text(told.uncertain) or None,
    )


def finding(part: CausePart) -> Finding:
    """The finding of a document."""
    return Finding(
        part.cause,
        part.confidence,
        tuple(part.evidence),
        tuple((one.cause, one.why) for one in part.excluded),
        tuple(part.also),
        tuple(part.fix),
        part.uncertain or "",
    )


def in_a_line(cause: str, confidence: str, evidence: Sequence[str], also: Sequence[str]) -> str:
    """`cause: silent (likely): 3 handshake messages left, nothing came back; also possible: nat_forgot`."""
    line = f"cause: {cause} ({confidence})"
    line += f": {'; '.join(evidence)}" if evidence else ""
    return line + (f"; also possible: {', '.join(also)}" if also else "")
