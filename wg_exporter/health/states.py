"""The words for a peer's health: states and reasons, both closed sets, and the row that has them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from wg_exporter.probed import Verdict


class State(StrEnum):
    """How a peer is. Exactly one holds, once there is evidence: the first, in the order of `rules.RULES`."""

    UP = "up"
    IDLE = "idle"
    DEGRADED = "degraded"
    DOWN = "down"
    NEVER = "never"


class Reason(StrEnum):
    """Why a peer is down or degraded."""

    INTERFACE_GONE = "interface_gone"
    INTERFACE_DOWN = "interface_down"
    UNREADABLE = "unreadable"
    MISSING = "missing"
    NOT_SENT = "not_sent"
    ONE_WAY = "one_way"
    HANDSHAKE_UNANSWERED = "handshake_unanswered"
    DATA_UNANSWERED = "data_unanswered"
    NEVER_HEARD = "never_heard"
    STALE_HANDSHAKE = "stale_handshake"
    NOT_ALLOWED = "not_allowed"
    NOT_ROUTED = "not_routed"
    MTU_BLACKHOLE = f"mtu_{Verdict.BLACKHOLE}"
    MTU_INTERFACE_ABOVE_ROUTE = f"mtu_{Verdict.INTERFACE_ABOVE_ROUTE}"
    MTU_INNER_PATH_SMALLER = f"mtu_{Verdict.INNER_PATH_SMALLER}"
    MTU_FRAGMENTED_LOCAL = f"mtu_{Verdict.FRAGMENTED_LOCAL}"
    MTU_FRAGMENTED_PATH = f"mtu_{Verdict.FRAGMENTED_PATH}"
    PROBES_BLOCKED = "probes_blocked"
    TARGET_SILENT = "target_silent"
    LOSSY = "lossy"
    SLOW = "slow"


class Obstacle(NamedTuple):
    """What keeps users' packets from a peer though probes may pass: why, and one line that says what it is."""

    reason: Reason | None
    line: str


UNKNOWN = Obstacle(None, "")
"""Nobody knows at the moment: it is as it was."""


class PeerHealth(NamedTuple):
    """How one peer is. `state` is None until there is evidence, `reason` None unless it is degraded or down.

    `changes` counts changes of state and `down_seconds` the time spent down, both since the exporter started.
    `changed_at` is when the state last changed (wall clock, seconds since the epoch), 0.0 before a change was seen.
    `evidence` is one line for a person: what the reason follows from, as it was at `reason_at` (wall clock).
    """

    state: State | None = None
    reason: Reason | None = None
    changes: int = 0
    down_seconds: float = 0.0
    changed_at: float = 0.0
    evidence: str = ""
    reason_at: float = 0.0


NOT_JUDGED = PeerHealth()


class Change(NamedTuple):
    """A peer's state changed or was found for the first time (`before` is None), or only its reason did (`before` and
    `after` are the same).
    """

    netns: str
    interface: str
    public_key: str
    name: str
    before: State | None
    after: State
    reason: Reason | None
    evidence: str
