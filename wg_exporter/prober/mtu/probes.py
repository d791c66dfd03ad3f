"""The vocabulary of MTU probing: what a state machine wants sent, what can come back, and how long to wait for it.

The machines (`pairs`, `search`, `locate`, `oracle`, `route`) know sizes and times and no packets; the transport knows
packets and decides nothing. These rows are all that passes between them. A machine hands out `Want`s. `PathMtu` gives
each a number and makes it a `Send`. The transport answers with that number once it is sure that an answer belongs to
the probe (`wire.in_flight`). An answer with number None is dropped: a stranger's too-big proves nothing. A loss is no
answer: machines decide that by time.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from wg_exporter.probed import SendError

SMALL = 100
"""The size of a small probe in bytes: below any MTU, and large enough for a token."""

LEAST_IPV4 = 552
"""Bytes. A too-big that claims less is not believed over IPv4, as in Linux (net.ipv4.route.min_pmtu)."""

LEAST_IPV6 = 1280
"""Bytes. No IPv6 link may be smaller (RFC 8200, 5), and a claim below it must not be acted on (RFC 8201, 4)."""

PADDING = 16
"""Bytes. Inner packets are padded to a multiple of it, so sizes in between look the same from outside."""

NEVER = float("inf")


class Layer(StrEnum):
    """On which side of the encryption a packet travels."""

    INNER = "inner"
    OUTER = "outer"


class ProbeKind(StrEnum):
    """The kind of packet to send, or of question to this host."""

    ROUTE = "route"  # look up the route to the endpoint, with the device's fwmark (rtnetlink RTM_GETROUTE)
    INNER_ECHO = "inner_echo"
    INNER_UDP = "inner_udp"  # to a closed port of the target
    OUTER_ECHO = "outer_echo"  # to the endpoint's address, with the device's fwmark


class Want(NamedTuple):
    """A packet that a machine wants sent, or a question to this host. `size` is the whole IP packet in bytes.

    `ttl` 0 = the system's default. `tag` is the machine's own name for it.
    """

    kind: ProbeKind
    size: int
    tag: int = 0
    ttl: int = 0


class Send(NamedTuple):
    """What the transport has to send now. `probe` is its number, unique within one peer.

    `size` is the whole IP packet in bytes. Nobody may fragment it, this host included.
    """

    probe: int
    kind: ProbeKind
    size: int
    ttl: int = 0


class Passed(NamedTuple):
    """An echo was answered after `rtt` seconds. `fragment`: bytes of the answer's largest fragment; None = whole."""

    probe: int | None
    rtt: float
    fragment: int | None = None


class TooBig(NamedTuple):
    """ICMP fragmentation needed or ICMPv6 packet too big. `mtu` is the claim, anything from 0 to 2**32 - 1."""

    probe: int | None
    reporter: str
    mtu: int
    layer: Layer


class LocalTooBig(NamedTuple):
    """This host refused to send the probe for its size (EMSGSIZE). `mtu` is what it would take, 0 = it didn't say."""

    probe: int | None
    mtu: int


class Refused(NamedTuple):
    """An ICMP error about a UDP datagram, from behind the tunnel: the whole datagram got through."""

    probe: int | None


class TimeExceeded(NamedTuple):
    """The probe's TTL ran out at the router `hop`: up to there it fitted."""

    probe: int | None
    hop: str


class Route(NamedTuple):
    """The route to the endpoint. `egress` is the MTU of the interface or route, `cached` that of a PMTU exception.

    `via` is anything that changes when the route does (device and gateway).
    """

    probe: int | None
    egress: int
    cached: int | None
    via: str


class NotSent(NamedTuple):
    """The probe could not be sent, for another reason than its size: it says nothing about the path."""

    probe: int | None
    reason: SendError


Answer = Passed | TooBig | LocalTooBig | Refused | TimeExceeded | Route | NotSent


class Machine(Protocol):
    """One part of the probing, which `PathMtu` runs. `now` is monotonic seconds."""

    def poll(self, now: float) -> list[Want]:
        """What to send now. Here a machine also decides which probes are lost by now."""

    def next_time(self) -> float:
        """When to poll again, `NEVER` if only an answer can change anything."""

    def handle(self, want: Want, answer: Answer, now: float) -> None:
        """Take the answer to `want`, which this machine asked for."""


def known_size(claim: int, size: int, *, ipv6: bool) -> bool:
    """Whether a packet of `size` can have met a link with MTU `claim`. Attackers and bugs claim 0, 68 and 65535."""
    return (LEAST_IPV6 if ipv6 else LEAST_IPV4) <= claim < size


class Patience:
    """How long to wait before a probe is lost: twice the worst of the last round trips, and 200 ms.

    With the full timeout a search through a silent hole would take half a minute. An answer that comes later than this
    still counts while its probe is remembered.
    """

    def __init__(self, longest: float) -> None:
        """`longest` is the timeout of probes in seconds: never wait longer."""
        self._longest = longest
        self._rtts: deque[float] = deque(maxlen=8)

    def learn(self, rtt: float) -> None:
        """Take a round trip in seconds."""
        self._rtts.append(rtt)

    def wait(self) -> float:
        """Seconds from sending until a probe counts as lost."""
        guess = 2 * max(self._rtts) + 0.2 if self._rtts else 1.0
        return min(max(guess, 0.3), self._longest)
