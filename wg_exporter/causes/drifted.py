"""Where the running device differs from its file (`wg_exporter.drift`), as far as it concerns one peer: in words, and
which causes it explains. Whether the file or the device is right nobody knows here, so it proves nothing by itself.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from wg_exporter.causes.cause import Cause
from wg_exporter.causes.facts import Drift
from wg_exporter.drift.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wg_exporter.causes.facts import Facts
    from wg_exporter.drift.kinds import Difference
    from wg_exporter.drift.kinds import Drift as OfDevice
    from wg_exporter.model import PeerKey

MOST = 64  # differences that are looked at for one peer
LONGEST = 200  # characters of a value in a sentence: allowed IPs may be many

FIX = "`wg-exporter drift {interface}` shows all that differs from the file, with the commands that load it."

EXPLAINS: Mapping[Cause, frozenset[Kind]] = {
    Cause.PEER_MISSING: frozenset({Kind.PEER_MISSING}),
    Cause.NO_SOCKET: frozenset({Kind.LISTEN_PORT}),
    Cause.NO_ENDPOINT: frozenset({Kind.ENDPOINT, Kind.LISTEN_PORT, Kind.PRIVATE_KEY, Kind.PEER_EXTRA}),
    Cause.NO_ROUTE: frozenset({Kind.ENDPOINT, Kind.FWMARK}),
    Cause.ROUTE_LOOP: frozenset({Kind.ENDPOINT, Kind.FWMARK}),
    Cause.OUTPUT_FILTERED: frozenset({Kind.LISTEN_PORT, Kind.FWMARK}),
    Cause.NO_ADDRESS: frozenset({Kind.ADDRESS}),
    Cause.PORT_UNREACHABLE: frozenset({Kind.ENDPOINT}),
    Cause.HOST_UNREACHABLE: frozenset({Kind.ENDPOINT}),
    Cause.PROHIBITED: frozenset({Kind.ENDPOINT}),
    Cause.SILENT: frozenset({Kind.ENDPOINT, Kind.PRIVATE_KEY, Kind.PEER_EXTRA}),
    Cause.NAT_FORGOT: frozenset({Kind.LISTEN_PORT, Kind.PRIVATE_KEY, Kind.PEER_EXTRA}),
    Cause.PRESHARED_KEY: frozenset({Kind.PRESHARED_KEY}),
    Cause.INPUT_FILTERED: frozenset({Kind.LISTEN_PORT}),
    Cause.OUTER_REVERSE_PATH: frozenset({Kind.FWMARK}),
    Cause.OLD_KEY: frozenset({Kind.PRIVATE_KEY}),
    Cause.UNKNOWN_CALLER: frozenset({Kind.PEER_EXTRA}),
    Cause.RESPONSES_LOST: frozenset({Kind.ENDPOINT, Kind.PRESHARED_KEY}),
    Cause.NOT_ALLOWED_HERE: frozenset({Kind.ALLOWED_IPS}),
    Cause.OWNED_BY_ANOTHER: frozenset({Kind.ALLOWED_IPS}),
    Cause.NOT_ALLOWED_THERE: frozenset({Kind.ADDRESS}),
    Cause.ROUTED_ELSEWHERE: frozenset({Kind.ADDRESS, Kind.FWMARK}),
    Cause.INNER_REVERSE_PATH: frozenset({Kind.ADDRESS}),
    Cause.MTU: frozenset({Kind.MTU}),
}
"""Of each cause, the differences that may be why. A cause that is not here has nothing to do with the file."""

_WORDS: Mapping[Kind, str] = {
    Kind.ALLOWED_IPS: "allowed IPs",
    Kind.ENDPOINT: "endpoint",
    Kind.KEEPALIVE: "persistent keepalive",
    Kind.PRESHARED_KEY: "preshared key",
    Kind.PRIVATE_KEY: "private key",
    Kind.LISTEN_PORT: "UDP port",
    Kind.FWMARK: "fwmark",
    Kind.MTU: "MTU",
    Kind.ADDRESS: "address",
}


def of_peer(drift: OfDevice, key: PeerKey) -> tuple[Drift, ...]:
    """What concerns a peer: its own differences, those of the device, and which peers the file has beside it."""
    of_it = [one for one in drift.differences if one.public_key in {"", key[2]}]
    others = (one for one in drift.differences if one.kind is Kind.PEER_MISSING and one.public_key != key[2])
    rows = islice(chain(of_it, others), MOST)
    return tuple(Drift(one.kind.value, _line(one, drift.path, key[1]), one.public_key) for one in rows)


def _line(one: Difference, path: str, interface: str) -> str:
    if one.kind is Kind.PEER_MISSING:
        return f"{path} has {f'it as {one.name}' if one.name else 'it'}, and {interface} does not"
    if one.kind is Kind.PEER_EXTRA:
        return f"{interface} has it, and {path} does not"
    return f"{_WORDS[one.kind]}: {_short(one.file)} in {path}, {_short(one.device)} on {interface}"


def _short(value: str) -> str:
    return f"{value[:LONGEST]} ..." if len(value) > LONGEST else value or "none"


def explaining(cause: Cause, facts: Facts) -> tuple[str, ...]:
    """The differences that may be why, each as evidence."""
    kinds = EXPLAINS.get(cause, frozenset())
    own = (one for one in facts.drift or () if one.kind in kinds and one.key in {"", facts.key[2]})
    return tuple(f"{facts.key[1]} differs from its file: {one.line}" for one in own)


def described(facts: Facts, public_key: str) -> str:
    """Of a key that no peer of the device has: what says that the file has it; empty if it does not."""
    rows = (one for one in facts.drift or () if one.kind == Kind.PEER_MISSING and one.key == public_key)
    return next((one.line for one in rows), "")
