"""The verdict on a tunnel's MTU, and the MTU to set: an ordered table over one frozen row of findings.

The first rule that holds gives the verdict. The order matters: what can't be judged comes before what is wrong, and
what loses packets comes before what only slows them down. A full-size packet that came back proves that nothing is
lost, but not that nothing is fragmented: WireGuard in the kernel sends its IPv4 packets without DF.

Large echoes that are lost prove nothing by themselves: hosts and firewalls drop them, or let only so many bytes of
echoes pass, while TCP and UDP of the same size pass too. It is a hole if one of these says so as well:

- full-size UDP is lost towards the peer (`locate.Ways`);
- the byte counters (`oracle`);
- what passes inside and what passes outside differ by what WireGuard adds, to the padding. A limit for echoes is the
  same number inside and outside, or there is only one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wg_exporter.probed import Verdict
from wg_exporter.prober.mtu.locate import Direction
from wg_exporter.prober.mtu.oracle import Oracle
from wg_exporter.prober.mtu.pairs import SILENT, Big
from wg_exporter.prober.mtu.probes import PADDING
from wg_exporter.wireguard import OVERHEAD_IPV4, OVERHEAD_IPV6

if TYPE_CHECKING:
    from collections.abc import Callable

    from wg_exporter.probed import SendError


LEAST_IPV4, LEAST_IPV6 = 576, 1280  # bytes: what every host must be able to receive (RFC 791, 3.1; RFC 8200, 5)


class Tunnel(NamedTuple):
    """What has to be known of a tunnel to judge it. `mtu` is the interface's, in bytes.

    `endpoint` is the peer's outer address without its port, empty = not known; `target` is the inner address that is
    probed. `roams`: the endpoint may become an IPv6 address. `ipv6_inside`: the device has IPv6 addresses other than
    link-local ones.
    """

    interface: str
    mtu: int
    endpoint: str
    target: str
    roams: bool = False
    ipv6_inside: bool = False

    @property
    def ipv6_outside(self) -> bool:
        """Whether the endpoint in use is an IPv6 address."""
        return ":" in self.endpoint

    @property
    def overhead(self) -> int:
        """What WireGuard adds to an inner packet on the way to this endpoint, in bytes."""
        return OVERHEAD_IPV6 if self.ipv6_outside else OVERHEAD_IPV4

    @property
    def least(self) -> int:
        """The smallest MTU that may be set, in bytes: below it the kernel takes addresses off, or IP does not work."""
        return LEAST_IPV6 if self.ipv6_inside else LEAST_IPV4

    @property
    def needed(self) -> int:
        """The outer size that a full inner packet needs, in bytes."""
        return self.mtu + self.overhead


class Findings(NamedTuple):
    """All that probing has brought about one tunnel; sizes are IP packets in bytes, None = not known.

    `silent` counts the small probes lost in a row; `ever`: one was answered once. `alive`: something was received
    lately (`alive.Received`; None: read for too short a time). `refused`: the MTU with which this host refused the full
    size (0: it didn't say). `unsent`: why it sends no probes of any size. `inner_claim`: the believed MTU of a
    packet-too-big from inside the tunnel. `fragment`: the fragment size of full-size answers. `inner`: the largest
    inner size that passed, in steps of 16 unless `inner_exact`. `route`: what this host's route to the endpoint
    carries. `learnt`: the path MTU that its kernel keeps for the endpoint. `outer`: the path MTU by outer probes,
    `outer_full`: a probe as large as a full packet of the tunnel passed (False: too big for the path). `hop`: the
    router that said so. `lossy`: small echoes beside the large ones were lost too. `spotty`: some large ones came back.
    `agreeing`: the largest sizes that pass inside and outside differ by what WireGuard adds.
    """

    tunnel: Tunnel
    big: Big = Big.UNKNOWN
    silent: int = 0
    ever: bool = False
    alive: bool | None = None
    refused: int | None = None
    unsent: SendError | None = None
    inner_claim: int | None = None
    fragment: int | None = None
    direction: Direction = Direction.UNKNOWN
    oracle: Oracle | None = None
    inner: int | None = None
    inner_exact: bool = False
    route: int | None = None
    learnt: int | None = None
    outer: int | None = None
    outer_full: bool | None = None
    hop: str = ""
    lossy: bool = False
    spotty: bool = False
    agreeing: bool = False

    @property
    def quiet(self) -> bool:
        """Whether small probes aren't answered at present."""
        return self.silent >= SILENT

    @property
    def arrives(self) -> bool:
        """Whether full-size packets are known to get through."""
        return (self.big is Big.PASSED and not self.quiet) or self.oracle is Oracle.ARRIVES

    @property
    def in_fragments(self) -> bool:
        """Whether this host itself sends full-size packets in fragments."""
        return _too_small(self.route, self) or _too_small(self.learnt, self)

    @property
    def hearsay(self) -> bool:
        """Whether it does so only for a path MTU that its kernel was told, and no probe of our own was told one."""
        return self.in_fragments and not _too_small(self.route, self) and self.outer_full is not False

    @property
    def counted(self) -> bool:
        """Whether the byte counters told of full-size packets, and so that the peer, which never answered, is alive."""
        return not self.ever and self.oracle in (Oracle.ARRIVES, Oracle.LOST)

    @property
    def hole(self) -> bool:
        """Whether full-size packets are proven to be lost for their size."""
        if self.oracle is not None and self.oracle is not Oracle.INCONCLUSIVE:
            return self.oracle is Oracle.LOST
        proven = self.direction is Direction.TOWARDS or self.agreeing
        return proven and self.big is Big.HOLE and not self.spotty and not self.quiet


def _unsure(seen: Findings) -> bool:
    if seen.quiet:
        return seen.ever or (not seen.counted and (seen.alive is None or seen.oracle is Oracle.INCONCLUSIVE))
    if seen.refused is not None:
        return False
    lossy = seen.lossy and seen.big is Big.HOLE and not seen.hole and seen.inner_claim is None
    return seen.big is Big.UNSURE or lossy


def _too_small(size: int | None, seen: Findings) -> bool:
    return size is not None and size < seen.tunnel.needed


class Rule(NamedTuple):
    """One verdict: when it holds, and what to tell a person; `advice.words` has the fields of `sentence`."""

    verdict: Verdict
    holds: Callable[[Findings], bool]
    sentence: str


RULES = (
    Rule(
        Verdict.UNKNOWN,
        lambda seen: seen.big is Big.UNKNOWN and seen.refused is None and not seen.quiet,
        "{unknown}",
    ),
    Rule(
        Verdict.UNREACHABLE,
        lambda seen: seen.quiet and seen.alive is False and not seen.counted,
        "{target} answers nothing, and nothing but handshakes came from the peer at {endpoint} for 25 seconds: it "
        "can't be reached, with packets of any size. Check its endpoint, its keys and the firewalls between.",
    ),
    Rule(
        Verdict.INCONCLUSIVE,
        _unsure,
        "{target} answers too little to tell: {why}. {floor}Find the cause of the loss on the way to {endpoint} first.",
    ),
    Rule(
        Verdict.INTERFACE_ABOVE_ROUTE,
        lambda seen: seen.refused is not None,
        "{interface} has an MTU of {mtu}, but this host's route to {target} carries {refused}. {fix}",
    ),
    Rule(
        Verdict.INNER_PATH_SMALLER,
        lambda seen: seen.inner_claim is not None and not seen.arrives,
        "Inside the tunnel, the way to {target} carries {claim}-byte packets{hop}; {interface} sends up to {mtu}. "
        "{fix}",
    ),
    Rule(
        Verdict.BLACKHOLE,
        lambda seen: seen.hole,
        "Packets {above} are lost without a word {way} {target}; {path}. {fix}",
    ),
    Rule(
        Verdict.FRAGMENTED_LOCAL,
        lambda seen: seen.arrives and seen.in_fragments,
        "This host's route to {endpoint} carries {route}-byte packets{hop}; {interface} sends up to {needed}, in "
        "fragments. {local}",
    ),
    Rule(
        Verdict.FRAGMENTED_PATH,
        lambda seen: seen.arrives and seen.outer_full is False and not seen.tunnel.ipv6_outside,
        "The path to {endpoint} carries {outer}-byte packets{hop}; {interface} sends up to {needed}. {fix}",
    ),
    Rule(
        Verdict.REMOTE_SMALLER,
        lambda seen: seen.arrives and seen.fragment is not None,
        "The far side's MTU is {fragment} to {fragment_to}, {interface} has {mtu}: full-size answers of {target} come "
        "in fragments. {fix}",
    ),
    Rule(
        Verdict.FILTERED_LARGE,
        lambda seen: seen.big is Big.HOLE and not seen.quiet,
        "Small echoes are answered by {target}, those {above} are not{spotty}. {large}",
    ),
    Rule(
        Verdict.FILTERED,
        lambda seen: seen.quiet and not seen.ever,
        "{target} answers no probe, but the peer is alive: {oracle}",
    ),
    Rule(Verdict.OK, lambda seen: seen.arrives, "Full-size packets of {mtu} bytes get through to {target}{whole}."),
)


def rule(findings: Findings) -> Rule:
    """The first rule that holds; that of `inconclusive` if none does."""
    return next((rule for rule in RULES if rule.holds(findings)), RULES[2])


def judge(findings: Findings) -> Verdict:
    """The one verdict that holds."""
    return rule(findings).verdict


def outer_path(findings: Findings) -> tuple[int | None, int]:
    """The path MTU to the endpoint in bytes, None = not known, and by how much it may be larger.

    The second is 0 if the first is exact, and 15 if it is known from inner packets alone, which are padded to 16. This
    host's own route counts too: nothing larger leaves in one piece.
    """
    known = [size for size in (findings.outer, findings.route) if size is not None]
    if findings.outer is not None or _too_small(findings.route, findings):
        return min(known), 0
    if findings.hole and findings.big is Big.HOLE and findings.inner_claim is None and findings.inner is not None:
        return findings.inner + findings.tunnel.overhead, PADDING - 1
    return None, 0


def recommended(findings: Findings) -> int | None:
    """The inner MTU to set in bytes, so that all is well even if the far side is left as it is; None if none is known.

    It is never above the present MTU, as room for more is no fault to repair, and never so low that IPv4 or, where the
    device has IPv6 addresses, IPv6 would not work.
    """
    return _above_least(fitting(findings), findings)


def recommended_together(findings: Findings) -> int | None:
    """The inner MTU to set on both sides in bytes, which may be a little more; None if none is known."""
    return _above_least(fitting(findings, together=True), findings)


def _above_least(mtu: int | None, findings: Findings) -> int | None:
    return None if mtu is None or mtu < findings.tunnel.least else mtu


def fitting(findings: Findings, *, together: bool = False) -> int | None:
    """The largest inner packet that is known to get through, None if nothing is known to.

    The far side pads its packets to 16 bytes, but not past its own MTU. So unless both are set `together`, or its MTU
    is known to be no larger, what fits outside is rounded down.
    """
    verdict, tunnel = judge(findings), findings.tunnel
    if verdict in (Verdict.UNKNOWN, Verdict.UNREACHABLE, Verdict.INCONCLUSIVE, Verdict.FILTERED_LARGE):
        return None
    if verdict is Verdict.OK:
        return tunnel.mtu
    outer, slack = outer_path(findings)
    by_outer = None
    if outer is not None and not slack:
        by_outer = outer - (OVERHEAD_IPV6 if tunnel.roams else tunnel.overhead)
        if not together and (by_outer < tunnel.mtu or findings.big is Big.HOLE):
            by_outer -= by_outer % PADDING
    if verdict in (Verdict.INTERFACE_ABOVE_ROUTE, Verdict.INNER_PATH_SMALLER) or findings.big is Big.HOLE:
        size = _least_of_what_passed(findings, by_outer)
        return size if size is None or findings.fragment is None else min(size, findings.fragment)
    if verdict is Verdict.BLACKHOLE and (by_outer is None or by_outer >= tunnel.mtu):
        return None  # the oracle says that full-size packets are lost, and no size is known to pass
    told = verdict is Verdict.FILTERED and findings.oracle is None  # nothing of full-size packets
    if by_outer is None and (told or (verdict is Verdict.FRAGMENTED_LOCAL and findings.hearsay)):
        return None
    return min(size for size in (tunnel.mtu, by_outer, findings.fragment) if size is not None)


def _least_of_what_passed(findings: Findings, by_outer: int | None) -> int | None:
    """The smaller of the sizes that passed inside and outside. Padding hides up to 15 bytes from inner probes alone."""
    inner = findings.inner
    if inner is None or by_outer is None:
        return inner
    hidden = findings.big is Big.HOLE and not findings.inner_exact and inner < by_outer < inner + PADDING
    return by_outer if hidden else min(inner, by_outer)
