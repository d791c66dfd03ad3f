"""The words: causes, a closed set, and how sure one is. The `cause` label of `wireguard_peer_cause` is one of them."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Cause(StrEnum):
    """Why a tunnel does not work; or that it does."""

    # Nothing leaves this host.
    INTERFACE_GONE = "interface_gone"
    INTERFACE_DOWN = "interface_down"
    DAEMON_HANGS = "daemon_hangs"
    PEER_MISSING = "peer_missing"
    NO_SOCKET = "no_socket"  # its UDP port is not open, or another has it
    NO_ENDPOINT = "no_endpoint"  # none is known here, and nobody calls
    NO_ROUTE = "no_route"  # to the endpoint
    ROUTE_LOOP = "route_loop"  # the endpoint's route leads into the tunnel itself
    OUTPUT_FILTERED = "output_filtered"  # a filter of this host drops the outer packets
    NO_ADDRESS = "no_address"  # the interface has none to send from
    INNER_FILTERED = "inner_filtered"  # a filter of this host keeps packets from the tunnel

    # It leaves and is refused.
    PORT_UNREACHABLE = "port_unreachable"
    HOST_UNREACHABLE = "host_unreachable"  # or its network
    PROHIBITED = "prohibited"  # administratively

    # It leaves, and nothing comes back.
    DNS_MOVED = "dns_moved"
    SILENT = "silent"

    # Something comes back, and is not taken.
    PRESHARED_KEY = "preshared_key"
    INPUT_FILTERED = "input_filtered"
    OUTER_REVERSE_PATH = "outer_reverse_path"  # rp_filter drops what comes back outside the tunnel
    UNDER_LOAD = "under_load"  # cookie replies come
    ROAMED = "roamed"  # it calls from another address, and that is dropped here

    # The far side calls, and gets nowhere.
    OLD_KEY = "old_key"  # what it sends is made for another public key than ours
    UNKNOWN_CALLER = "unknown_caller"  # its key is no peer's
    CLOCK_BACK = "clock_back"  # its stamp is older than one that was accepted
    RESPONSES_LOST = "responses_lost"  # one way: our answers do not reach it

    # The session is fine, and the data is not.
    DATA_FILTERED = "data_filtered"  # handshakes pass, data does not
    NOT_ALLOWED_HERE = "not_allowed_here"  # no peer here has the address
    OWNED_BY_ANOTHER = "owned_by_another"  # another peer here has it
    NOT_ALLOWED_THERE = "not_allowed_there"  # the far side does not take our addresses from us
    ROUTED_ELSEWHERE = "routed_elsewhere"  # a route or rule here
    INNER_REVERSE_PATH = "inner_reverse_path"  # rp_filter drops what comes out of the tunnel
    NOT_FORWARDED = "not_forwarded"  # the peer answers, and what is behind it does not
    ECHOES_FILTERED = "echoes_filtered"  # it is alive
    LOSSY = "lossy"
    SLOW = "slow"
    NAT_FORGOT = "nat_forgot"  # keepalive is missing
    MTU = "mtu"

    # Nothing is wrong.
    FINE = "fine"
    IDLE = "idle"

    # Too little could be looked at to say anything. Never a metric.
    UNKNOWN = "unknown"

    @property
    def fault(self) -> bool:
        """Whether it is one: something is wrong, and it is known what."""
        return self not in {Cause.FINE, Cause.IDLE, Cause.UNKNOWN}


class Confidence(StrEnum):
    """How sure a cause is."""

    CERTAIN = "certain"  # nothing else gives this evidence
    LIKELY = "likely"  # something else could, and is much rarer
    POSSIBLE = "possible"  # others fit as well; they are named beside it


class Finding(NamedTuple):
    """What was found out about one peer. `evidence`, `fix` and `uncertain` are for a person; `fix` has lines that begin
    with a command, in backquotes, or a sentence. `also` are causes that fit too; `uncertain` says what would decide, or
    what could not be looked at.
    """

    cause: Cause
    confidence: Confidence
    evidence: tuple[str, ...] = ()
    excluded: tuple[tuple[Cause, str], ...] = ()
    also: tuple[Cause, ...] = ()
    fix: tuple[str, ...] = ()
    uncertain: str = ""
