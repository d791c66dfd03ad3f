"""Which exposition format and which coding a client wants: pure functions over two request headers.

prometheus_client's `choose_encoder` is not used, because it ignores q-values (the first media type that it knows wins),
takes `q=0`, a refusal, for a wish, and returns an encoder of its own. Asked for OpenMetrics 2.0 or for an `escaping`,
it labels a body of another version with what was asked. Here the answer is one of two formats, whose Content-Type never
depends on what the client wrote.

Source: RFC 9110, sections 12.4.2 (qvalue), 12.5.1 (Accept) and 12.5.3 (Accept-Encoding).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

_QVALUE = re.compile(r"0(\.[0-9]{0,9})?|1(\.0{0,9})?")  # RFC 9110 has three digits; some clients print a float
_MAX_PARTS = 64  # of a header or an element; the rest is ignored, so that no client can cost much time
_VERSION = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){0,2}")

# The ranges that the text format satisfies, the most specific first: the q-value of the first that is there counts.
_TEXT_RANGES = ("text/plain", "text/*", "*/*")
_OPENMETRICS = "application/openmetrics-text"


class Format(StrEnum):
    """The exposition formats: Prometheus text 0.0.4 and OpenMetrics 1.0.0."""

    TEXT = "text"
    OPENMETRICS = "openmetrics"

    @property
    def content_type(self) -> str:
        """The exact Content-Type. Prometheus 3 refuses a scrape whose type it does not know."""
        if self is Format.OPENMETRICS:
            return "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return "text/plain; version=0.0.4; charset=utf-8"


class _Range(NamedTuple):
    """One element of an Accept header. `position` counts from 0."""

    kind: str
    parameters: dict[str, str]
    q: float
    position: int


def choose_format(accept: str) -> Format:
    """The format for an Accept header (several headers joined by commas; empty = none was sent).

    OpenMetrics only for a client that names it and wants it more than text; the earlier wins at equal q. A version
    above 1.0.0 is answered with 1.0.0, which every such client reads. Without anything acceptable the answer is text:
    a scrape that works beats 406. Never raises.
    """
    ranges = _ranges(accept)
    openmetrics = _best([r for r in ranges if r.kind == _OPENMETRICS and _known_version(r.parameters.get("version"))])
    text = next((best for kind in _TEXT_RANGES if (best := _best([r for r in ranges if r.kind == kind]))), None)
    if openmetrics is None or openmetrics.q == 0:
        return Format.TEXT
    if text is None or (-openmetrics.q, openmetrics.position) < (-text.q, text.position):
        return Format.OPENMETRICS
    return Format.TEXT


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether to compress for an Accept-Encoding header (empty = none was sent).

    True if the client accepts gzip, by name or by `*`, with a q above 0 that is not below that of `identity`. A client
    that refuses both gets the plain body: a scrape that works beats 406. Never raises.
    """
    q = {r.kind: r.q for r in reversed(_ranges(accept_encoding))}
    gzip = q.get("gzip", q.get("x-gzip", q.get("*", 0.0)))
    return gzip > 0 and gzip >= q.get("identity", 0.0)


def _ranges(header: str) -> list[_Range]:
    """The elements of a header, without those that have an unreadable q-value."""
    ranges = []
    for position, element in enumerate(header.split(",", _MAX_PARTS)[:_MAX_PARTS]):
        kind, *rest = (part.strip(" \t") for part in element.split(";", _MAX_PARTS)[:_MAX_PARTS])
        parameters = {}
        for parameter in rest:
            name, _, value = parameter.partition("=")
            parameters[name.strip(" \t").lower()] = value.strip(" \t").strip('"')
        q = parameters.get("q", "1")
        if kind and _QVALUE.fullmatch(q):
            ranges.append(_Range(kind.lower(), parameters, float(q), position))
    return ranges


def _best(ranges: list[_Range]) -> _Range | None:
    """The range that is wanted most, the first of them at equal q."""
    return max(ranges, key=lambda r: (r.q, -r.position), default=None)


def _known_version(version: str | None) -> bool:
    """Whether a client that wants this OpenMetrics version reads 1.0.0: no version, 0.0.1 or anything newer."""
    if version is None:
        return True
    if not _VERSION.fullmatch(version):
        return False
    return [int(number) for number in version.split(".")] >= [0, 0, 1]
