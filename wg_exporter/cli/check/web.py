"""The web configuration and the addresses: TLS, passwords, and who reaches the port without either."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wg_exporter.cli.check.config import octal, of_problem
from wg_exporter.cli.check.finding import Check, Judged, Kind, NotKnown, Severity, Where

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wg_exporter.cli.check.facts import Facts

DAY = 86400.0
SOON = 14 * DAY
"""What renews certificates does so a month before their end, mostly: after this nobody has."""
SHORT = 5
"""Certificates for a few days have this part of their life left."""
WEAKEST_COST, STRONGEST_COST = 10, 14
"""Of bcrypt. 10 is what htpasswd -C 10 and all examples of exporters have; 15 takes two seconds and more, and the first
request after a start waits for it.
"""

UNUSABLE = Kind(
    "web-config-unusable",
    Severity.ERROR,
    "The web configuration has a mistake. The exporter does not start with it; one that runs answers every request "
    "over "
    "TCP with 500.",
    "Correct the line; docs/web-configuration.md has all keys.",
)
TLS_UNUSABLE = Kind(
    "tls-unusable",
    Severity.ERROR,
    "The certificate, its key or the certificates of signers are missing, can't be read, or don't belong together.",
    "Correct the path, or make the file anew.",
)
EXPIRED = Kind(
    "tls-expired",
    Severity.ERROR,
    "The certificate is not valid now: Prometheus refuses it, and every scrape fails.",
    "Renew it; the exporter takes the new file by itself.",
)
EXPIRES = Kind(
    "tls-expires",
    Severity.WARNING,
    "The certificate ends within 14 days, or within a fifth of its life if that is less: what should renew it has not.",
    "Renew it, and look at what should have done so.",
)
KEY_READABLE = Kind(
    "tls-key-readable",
    Severity.ERROR,
    "Every user of this host can read the private key of the certificate.",
    "`chmod 600` the file, and make a new key, as this one is known.",
)
READABLE = Kind(
    "web-config-readable",
    Severity.WARNING,
    "Every user of this host can read the hashes of the passwords, and try passwords on them as fast as he likes.",
    "`chmod 600` the file. The exporter reads it as root.",
)
WEAK = Kind(
    "password-weak",
    Severity.WARNING,
    "The hash of a password has a bcrypt cost below 10: whoever gets it finds a short password quickly.",
    "Make a new one: `htpasswd -nBC 10 USER`.",
)
SLOW = Kind(
    "password-slow",
    Severity.WARNING,
    "The hash of a password has a bcrypt cost above 14: it takes seconds to check, and a scrape may time out.",
    "Make a new one: `htpasswd -nBC 10 USER`.",
)
OPEN = Kind(
    "open-to-all",
    Severity.WARNING,
    "The exporter listens on all addresses without TLS, or without a password: whoever reaches the port learns who "
    "connects from where, and when.",
    "Listen on an address that only Prometheus reaches (`--web.listen-address`), or set TLS and a password "
    "(`--web.config.file`).",
)


def _unusable(facts: Facts) -> Iterator[Judged]:
    for problem in facts.web.problems if facts.web else ():
        yield of_problem(UNUSABLE, problem)


def _tls(facts: Facts) -> Iterator[Judged]:
    if facts.web is None:
        return
    if facts.web.tls_unseen:
        yield NotKnown("certificate and key", facts.web.tls_unseen)
    if facts.web.tls_problem:
        yield TLS_UNUSABLE.at(Where(facts.web.file.path), facts.web.tls_problem)


def _certificate(facts: Facts) -> Iterator[Judged]:
    found = facts.web.certificate if facts.web else None
    if found is None:
        return
    where, now = Where(found.path), facts.clock.wall
    left, life = found.not_after - now, found.not_after - found.not_before
    if now < found.not_before:
        what = f"it is not valid before {_date(found.not_before)}"
        yield EXPIRED.at(where, what, "is the clock of this host right? Else make a new one")
    elif left <= 0:
        yield EXPIRED.at(where, f"it ended on {_date(found.not_after)}")
    elif left < min(SOON, life / SHORT):
        yield EXPIRES.at(where, f"it ends in {_span(left)}, on {_date(found.not_after)}")


def _key(facts: Facts) -> Iterator[Judged]:
    key = facts.web.key if facts.web else None
    if key and not key.problem and key.mode & 0o004 and not key.enclosed:
        what = f"every user can read the private key ({octal(key.mode)})"
        yield KEY_READABLE.at(Where(key.path), what, f"chmod 600 {key.path}, and make a new key, as this one is known")


def _readable(facts: Facts) -> Iterator[Judged]:
    if facts.web and facts.web.costs:
        file = facts.web.file
        if not file.problem and file.mode & 0o004 and not file.enclosed:
            what = f"every user can read the hashes of the passwords ({octal(file.mode)})"
            yield READABLE.at(Where(file.path), what, f"chmod 600 {file.path}")


def _costs(facts: Facts) -> Iterator[Judged]:
    for user, cost in facts.web.costs if facts.web else ():
        kind = WEAK if cost < WEAKEST_COST else SLOW if cost > STRONGEST_COST else None
        if kind and facts.web:
            fix = f"make a new one: htpasswd -nBC {WEAKEST_COST} {user}"
            yield kind.at(Where(facts.web.file.path), f"the hash of {user}'s password has cost {cost}", fix)


def _open(facts: Facts) -> Iterator[Judged]:
    assert facts.host is not None  # noqa: S101 - for the type checker
    if facts.host.flags_unseen:
        yield NotKnown("addresses and web configuration", facts.host.flags_unseen)
        return
    web = facts.web
    if web and (web.problems or (web.tls and web.asks)):
        return
    lacks = "without TLS and a password" if not web or not (web.tls or web.asks) else None
    lacks = lacks or ("without a password" if web and web.tls else "without TLS")
    for listen in facts.host.listen:
        if listen.guessed:
            yield NotKnown("who reaches the port", "no exporter was asked; name its addresses: --web.listen-address")
        elif listen.everywhere:
            yield OPEN.at(Where(address=listen.address), f"it listens on all addresses, {lacks}")


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _span(seconds: float) -> str:
    return f"{seconds / DAY:.0f} days" if seconds >= 2 * DAY else f"{seconds / 3600:.0f} hours"


CHECKS = (
    Check("web configuration", (UNUSABLE,), _unusable, host=False),
    Check("certificate and key", (TLS_UNUSABLE,), _tls, host=False),
    Check("how long the certificate is valid", (EXPIRED, EXPIRES), _certificate, host=False),
    Check("costs of passwords", (WEAK, SLOW), _costs, host=False),
    Check("who can read the key of the certificate", (KEY_READABLE,), _key),
    Check("who can read the web configuration", (READABLE,), _readable),
    Check("who reaches the port", (OPEN,), _open),
)
