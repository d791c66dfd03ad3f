"""The row of everything that a cause may be decided from.

The daemon fills in what it knows from counters, the watcher, the reader and DNS. `wg-exporter diagnose` adds what it
alone may do: it provokes a handshake, opens the caller's message with the private key, asks the firewall, pings.
None = not known: nobody looked, or nobody could. No rule takes None for an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.model import Backend

if TYPE_CHECKING:
    from wg_exporter.health.states import Reason, State
    from wg_exporter.inspected import Inspected
    from wg_exporter.model import Device, Link, PeerKey
    from wg_exporter.probed import SendError, Verdict
    from wg_exporter.sighted import Callers, Sighting


class Opened(NamedTuple):
    """An initiation that the reader opened with the device's private key. Times are seconds since the epoch.

    `key` is the caller's static public key; `peer` the name of the peer here that has it, empty if none does.
    `stamp` is the caller's clock (TAI64N, leap seconds taken off), `at` ours when it arrived.
    """

    key: str
    stamp: float
    at: float
    peer: str = ""
    sender: str = ""  # "address:port", IPv6 in brackets


class Filter(NamedTuple):
    """A rule of this host's firewall that drops or rejects packets of this tunnel.

    `hook` is one of `output` and `input` (outer packets), `inner_output` and `inner_input` (inner ones that this host
    sends itself, and their answers; what it forwards for others is not looked at).
    `rule` is its text, `where` the table and chain, `remove` the command that takes it out. `grew` is by how many
    packets its counter grew while we looked, None without a counter. `data_only`: it leaves handshakes alone.
    """

    hook: str
    rule: str
    where: str
    remove: str = ""
    grew: int | None = None
    data_only: bool = False


class Echo(NamedTuple):
    """Echoes to one address, and how many came back."""

    to: str
    sent: int
    answered: int
    refused: SendError | None = None  # why this host did not send them


class Drift(NamedTuple):
    """A difference between the running device and its file: a word of `wireguard_config_drift`, and a sentence. `key`
    is the public key of the peer that it is about; empty = the device.
    """

    kind: str
    line: str
    key: str = ""


class Facts(NamedTuple):
    """What is known of one peer.

    `state` is how the peer is *now*: who provoked a handshake and knows better than the last state leaves it None.
    Counted bytes and handshakes are by how much the counters grew within `seconds`.
    """

    key: PeerKey
    name: str = ""  # what commands call it; empty = the start of its key
    entry: str = ""  # what leads a command into the device's namespace, with a space at its end
    underlay_entry: str = ""  # and into that of the outer packets

    # What is configured here.
    backend: Backend | None = None
    opaque: bool | None = None  # byte counters do not count messages as WireGuard does
    listen_port: int | None = None
    fwmark: int | None = None
    endpoint: str | None = None  # "address:port", IPv6 in brackets; empty = none
    keepalive: int | None = None  # seconds, 0 = off
    allowed_ips: tuple[str, ...] | None = None
    target: str | None = None  # the address inside the tunnel; empty = none
    mtu: int | None = None
    interface_up: bool | None = None  # administratively
    expected: bool | None = None
    conf_path: str = ""
    conf_endpoint: str | None = None  # what the file says: "host:port"; empty = none
    owner: str | None = None  # whose allowed IPs hold the target: a public key, empty = nobody's; as `host.owner`
    owner_name: str = ""  # what that peer is called
    drift: tuple[Drift, ...] | None = None  # how the device differs from its file (`drifted`); None = from none

    # What health says, by counters and probes.
    state: State | None = None
    reason: Reason | None = None
    obstacle: str = ""  # what keeps users' packets from it, in words, as the reason says (not_routed, not_allowed)
    heard_seconds: float | None = None  # since something came that a working session sends; inf = never
    data_seconds: float | None = None  # since data or a keepalive came, no handshake; inf = never
    shaken_seconds: float | None = None  # since the last handshake; inf = never
    initiations: int | None = None  # of ours, by the counters, unanswered
    inbound_initiations: int | None = None  # of the peer's, by the counters, without a session after them

    # Growth of the counters while it was watched.
    seconds: float | None = None
    sent_bytes: int | None = None
    received_bytes: int | None = None
    handshakes: int | None = None
    echoes_sent: int | None = None  # of those whose fate is known: sent some seconds ago, into the interface
    entered_packets: int | None = None  # into the interface, from users and probes, for any of its peers
    left_packets: int | None = None  # out of the interface, to users and as answers to probes, from any of its peers

    # Of all other peers of the device within `seconds`: did anything come from them?
    others_received: int | None = None  # bytes
    others: int | None = None  # how many other peers it has (`diagnose`: that are expected up)

    # The wire.
    sighting: Sighting | None = None
    callers: Callers | None = None
    seen_before: Sighting | None = None  # what `sighting` was when `before` was looked at; None: it began later
    seen_then: Sighting | None = None  # and when `host` was; None: as it is now

    # This host; `before` was looked at before `host`, so that counters can be compared.
    host: Inspected | None = None
    before: Inspected | None = None

    # Names. `dns_problem`: why nothing is known (a time-out, SERVFAIL); NXDOMAIN is resolved to nothing.
    dns_name: str | None = None
    resolved: tuple[str, ...] | None = None
    dns_problem: str = ""

    # Probes.
    echo: Echo | None = None  # to the target, in the last minutes
    silent_seconds: float | None = None  # since the first echo was sent that no answer has followed
    loss: float | None = None  # 0 to 1
    round_trip: float | None = None  # seconds
    usual_round_trip: float | None = None
    verdict: Verdict | None = None
    recommended_mtu: int | None = None

    # What only `diagnose` finds.
    provoked: bool | None = None  # whether an inner packet was sent so that a handshake should follow
    provoke_refused: SendError | None = None  # why this host refused it
    session: bool | None = None  # whether a handshake was completed since
    answered: bool | None = None  # whether inner data came back
    knocked: bool | None = None  # whether the target refused what was sent to a closed port of it, so it is there
    outer_ping: Echo | None = None  # of the endpoint's address, outside the tunnel
    other_inner: tuple[Echo, ...] | None = None  # other addresses inside: the peer's own, and behind it
    opened: tuple[Opened, ...] | None = None  # the oldest first; of the endpoint and of strangers
    filters: tuple[Filter, ...] | None = None  # of nftables; None = the ruleset could not be read
    unread_filters: tuple[str, ...] = ()  # rules that may drop packets of the tunnel and can't be read, in words
    clock: float | None = None  # ours, seconds since the epoch
    not_looked: tuple[str, ...] = ()  # what could not be looked at, in words


def packets_entered(device: Device, link: Link | None) -> int | None:
    """How many packets this host has put into a device so far, with those that its daemon did not read in time.

    None where nobody can know: the kernel counts at its device what left it again, handshakes too, and nothing that an
    output filter dropped (drivers/net/wireguard/socket.c and net/ipv4/ip_tunnel_core.c, iptunnel_xmit).
    """
    if link is None or device.backend is not Backend.USERSPACE:
        return None
    return link.tx_packets + link.tx_dropped
