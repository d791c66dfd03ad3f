"""What a rule is: what its cause means, how it is told, what to do, and what it says of the facts."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wg_exporter.causes import seen
from wg_exporter.causes.cause import Confidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.causes.cause import Cause
    from wg_exporter.causes.facts import Facts


class Holds(NamedTuple):
    """The cause fits. `evidence` are sentences for a person, `fix` replaces that of the rule, and `apart` says what
    would decide between it and others that fit.
    """

    confidence: Confidence
    evidence: tuple[str, ...]
    fix: tuple[str, ...] = ()
    apart: str = ""


class Excluded(NamedTuple):
    """The cause does not fit, and why not, in a sentence."""

    why: str


Judgement: TypeAlias = "Holds | Excluded | None"
"""None = not known: too little was looked at, or it says nothing either way."""


class Rule(NamedTuple):
    """One line of the table.

    meaning: what is wrong, for a person.
    told_by: which facts prove it.
    fix: what to do, a line for each step. Names in braces stand for the real ones, quoted for a shell (`names`).
    judge: what it says of the facts.
    """

    cause: Cause
    meaning: str
    told_by: str
    fix: tuple[str, ...]
    judge: Callable[[Facts], Judgement]


def certain(*evidence: str, fix: tuple[str, ...] = ()) -> Holds:
    """Nothing else gives this evidence."""
    return Holds(Confidence.CERTAIN, evidence, fix)


def likely(*evidence: str, apart: str = "", fix: tuple[str, ...] = ()) -> Holds:
    """Something else could give this evidence, and is much rarer."""
    return Holds(Confidence.LIKELY, evidence, fix, apart)


def possible(*evidence: str, apart: str, fix: tuple[str, ...] = ()) -> Holds:
    """Others give this evidence as well."""
    return Holds(Confidence.POSSIBLE, evidence, fix, apart)


_NOT_KNOWN = {"endpoint": "ENDPOINT", "address": "ADDRESS", "port": "PORT", "target": "TARGET", "listen_port": "PORT"}


# A name that can stand in a command as it is. Of others the key is taken: quoting would be right, and unreadable.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def names(facts: Facts | None) -> dict[str, str]:
    """What stands in a fix for the names in braces, quoted for a shell; without facts, words in capitals."""
    if facts is None:
        return _NOT_KNOWN | {
            "interface": "INTERFACE",
            "peer": "PEER",
            "key": "PUBLIC_KEY",
            "entry": "",
            "underlay": "",
            "conf": "FILE",
            "device": "DEVICE",
            "next_hop": "NEXT_HOP",
            "name": "NAME",
        }
    address, port = seen.split(facts.endpoint or "")
    path = facts.host.to_endpoint if facts.host else None
    known = {
        "interface": facts.key[1],
        "peer": facts.name if _PLAIN.fullmatch(facts.name) else facts.key[2],
        "key": facts.key[2],
        "endpoint": facts.endpoint or "",
        "address": address,
        "port": port,
        "target": facts.target or "",
        "listen_port": str(facts.listen_port or ""),
        "conf": facts.conf_path or f"/etc/wireguard/{facts.key[1]}.conf",
        "device": path.interface if path else "",
        "next_hop": path.next_hop if path else "",
        "name": facts.dns_name or "",
    }
    quoted = {word: shlex.quote(text) for word, text in known.items() if text}
    return names(None) | quoted | {"entry": facts.entry, "underlay": facts.underlay_entry}


def fill(lines: tuple[str, ...], facts: Facts | None) -> tuple[str, ...]:
    """The lines with the real names in them."""
    words = names(facts)
    return tuple(line.format_map(words) for line in lines)


def literal(text: str) -> str:
    """Text from elsewhere for a line that `fill` fills: what it holds in braces stays as it is."""
    return text.replace("{", "{{").replace("}", "}}")
