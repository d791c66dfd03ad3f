"""What is told of an event, and to whom: strangers, who ask over TCP, get no more than the status document tells them.

So for them endpoints are as `metrics: endpoint` says; the evidence of causes is left out unless that is `full`, as it
holds addresses; what went wrong at a reload or in a process of ours is left out; and of interfaces that the
configuration hides, or of namespaces that it does not name, there is nothing.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from wg_exporter.events import Event, Kind
from wg_exporter.events.words import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_OTHERS = re.compile("[^\\x00-\\x7f]+")
_PRIVATE = frozenset({Kind.RELOAD, Kind.PROCESS})


class Audience(NamedTuple):
    """Who asks. `endpoints`: `full`, `address` (without the port) or `off`; `shown` says of namespace and interface
    whether they are shown at all.
    """

    endpoints: str = "full"
    shown: Callable[[str, str], bool] | None = None
    private: bool = True


OWNER = Audience()
"""Whoever runs the exporter."""


def told(events: Iterable[Event], to: Audience) -> Iterator[Event]:
    """The events as this audience may see them."""
    for one in events:
        if to.private:
            yield one
        elif not one.interface or to.shown is None or to.shown(one.netns, one.interface):
            yield _reduced(one, to.endpoints)


def lines(events: Iterable[Event]) -> bytes:
    """The events as JSON, a line each, with `text`, the event in words. ASCII, so that no name drives a terminal."""
    return b"".join(map(_line, events))


def _line(one: Event) -> bytes:
    data = msgspec.json.encode(one)[:-1] + b',"text":' + msgspec.json.encode(sentence(one)) + b"}\n"
    return data if data.isascii() else _OTHERS.sub(_escaped, data.decode()).encode("ascii")


def _escaped(found: re.Match[str]) -> str:
    """Characters of a string, as JSON has them in ASCII (RFC 8259, 7)."""
    return json.dumps(found[0])[1:-1]


def _reduced(one: Event, endpoints: str) -> Event:
    if one.kind is Kind.ROAMING and endpoints != "full":
        return replace(one, before=_address(one.before, endpoints), after=_address(one.after, endpoints))
    if one.kind in _PRIVATE or (one.kind is Kind.CAUSE and endpoints != "full"):
        return replace(one, evidence="")
    return one


def _address(endpoint: str, wish: str) -> str:
    """As `status.plain.endpoint` tells it."""
    return "" if wish == "off" else endpoint.rpartition(":")[0].strip("[]")
