"""Paths with a fault: a tunnel from `a` to `b` over the routers `r` and `s`, which reads as its topology.

    path = Path(lab, outer="ipv4").narrow(1433).drop_fragments()
    assert "mtu = 1433" in path.ping(path.endpoint, 1434)

        a ---------- r ---------- s ---------- b ---------- c
        .1  192.0.2  .2  198.51.100  .2  203.0.113  .2   10.1.0 .2, only with `behind`
        2001:db8:1:: .2  2001:db8:2::    2001:db8:3::

The idea: **the fault is in the middle**, between two routers, so that both ends have whole interfaces and learn of it
as they would on the internet. All addresses are TEST-NETs and nothing leaves the namespaces. Inside the tunnel, `a` is
10.0.0.1 and fd00:9::1, `b` is 10.0.0.2 and fd00:9::2.

WireGuard in the kernel sends its IPv4 packets without DF, wireguard-go with it. With `df=False`, wireguard-go behaves
as the kernel does: its UDP socket is opened, when its device goes up, under `net.ipv4.ip_no_pmtu_disc=1` (ip(7)).

Nothing here knows the prober: tests/test_lab_paths.py proves each fault with ping alone.
"""

from __future__ import annotations

import itertools
import subprocess
from copy import copy
from typing import TYPE_CHECKING, Literal, Self

from wg_exporter.cli.netlab import Keys, WireGuard, keypair, run

if TYPE_CHECKING:
    from wg_exporter.cli.netlab import Lab, Namespace

Family = Literal["ipv4", "ipv6"]
Way = Literal["towards", "back", "both"]  # seen from `a`

PORT = 51820
HEADERS = {"ipv4": 28, "ipv6": 48}  # of an echo: what `ping -s` doesn't count
LINKS = {
    "ipv4": ("192.0.2.{}/30", "198.51.100.{}/30", "203.0.113.{}/30"),
    "ipv6": ("2001:db8:1::{}/64", "2001:db8:2::{}/64", "2001:db8:3::{}/64"),
}
INSIDE = {"ipv4": "10.0.0.{}/24", "ipv6": "fd00:9::{}/64"}
BEHIND = {"ipv4": "10.1.0.{}/24", "ipv6": "fd00:a::{}/64"}
NO_WAIT = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
FORWARDING = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
TWIN = "198.18.0.{}/30"
ALLOWED = ("10.0.0.{0}/32", "10.{0}.0.0/24", "fd00:9::{0}/128")


def family_of(address: str) -> Family:
    """Which one an address belongs to."""
    return "ipv6" if ":" in address else "ipv4"


class Path:
    """Four namespaces in a row and a WireGuard device at each end, up, with an MTU of `mtu`; not yet shaken."""

    def __init__(
        self,
        lab: Lab,
        *,
        outer: Family = "ipv4",
        inner: tuple[Family, ...] = ("ipv4", "ipv6"),
        mtu: int = 1420,
        df: bool = False,
        fwmark: int = 0,
        everything: bool = False,
    ) -> None:
        """`df` as wireguard-go is by nature; WireGuard in the kernel doesn't heed it. `fwmark` is that of the near
        device; with `everything` its peer may be sent any address. Raises LabError."""
        self.lab = lab
        self.outer: Family = outer
        self.inner = inner
        self.fwmark = fwmark
        self.a, self.r, self.s, self.b = (_namespace(lab, name, forwards=name in "rs") for name in "arsb")
        self.endpoint = _plain(LINKS[outer][2].format(2))  # the far side's outer address
        self._lay_links()
        self.near_keys, self.far_keys = keypair(), keypair()
        behind = [BEHIND[family].format(0) for family in BEHIND]
        allowed = ["0.0.0.0/0", "::/0"] if everything else [*(a.format(2) for a in ALLOWED), *behind]
        mark = f"FwMark = {fwmark}\n" if fwmark else ""
        near = f"{mark}{_peer(self.far_keys, allowed)}Endpoint = {_bracketed(self.endpoint)}:{PORT}\n"
        far = _peer(self.near_keys, [a.format(1) for a in ALLOWED])
        self.near = self._device(self.a, 1, self.near_keys, near, mtu, df=df)
        self.far = self._device(self.b, 2, self.far_keys, far, mtu, df=df)
        if outer == "ipv6":  # the first solicitation of a neighbour is lost, and the next comes a second later
            self.ping(self.endpoint, wait=5)

    def hop(self, number: Literal[1, 2]) -> str:
        """The address with which a router answers `a`: 1 is `r`, 2 is `s`."""
        return _plain(LINKS[self.outer][number - 1].format(2))

    def near_target(self, family: Family = "ipv4") -> str:
        """The near side's inner address."""
        return _plain(INSIDE[family].format(1))

    def target(self, family: Family = "ipv4") -> str:
        """The far side's inner address."""
        return _plain(INSIDE[family].format(2))

    # Faults. Each returns the path, so that they can be written in a row.

    def narrow(self, mtu: int) -> Self:
        """The link between the routers carries no more than this."""
        self.r.ip("link", "set", "to-s", "mtu", str(mtu))
        self.s.ip("link", "set", "to-r", "mtu", str(mtu))
        return self

    def narrow_exit(self, mtu: int) -> Self:
        """The first link carries no more than this, and `a` knows it."""
        self.a.ip("link", "set", "to-r", "mtu", str(mtu))
        self.r.ip("link", "set", "to-a", "mtu", str(mtu))
        return self

    def set_mtu(self, mtu: int, *, far: bool = True) -> Self:
        """The MTU of the devices, as a person would set it."""
        for device in (self.near, self.far) if far else (self.near,):
            device.namespace.ip("link", "set", "dev", device.name, "mtu", str(mtu))
        return self

    def far_mtu(self, mtu: int) -> Self:
        """The MTU of the far device alone."""
        self.far.namespace.ip("link", "set", "dev", self.far.name, "mtu", str(mtu))
        return self

    def drop_too_big(self) -> Self:
        """Nobody hears of the narrow link."""
        for router in (self.r, self.s):
            for hook in ("output", "forward"):
                self._rule(router, hook, "icmp type destination-unreachable icmp code 4 drop")
                self._rule(router, hook, "icmpv6 type packet-too-big drop")
        return self

    def drop_fragments(self) -> Self:
        """Fragments of packets don't get through, either way."""
        for router in (self.r, self.s):
            self._rule(router, "forward", "ip frag-off & 0x3fff != 0 drop")
            self._rule(router, "forward", "exthdr frag exists drop")
        return self

    def hole(self, size: int, way: Way = "both") -> Self:
        """Outer packets of more than `size` bytes vanish."""
        return self._each_way(way, f"meta length > {size} drop")

    def loss(self, percent: float, way: Way = "towards", *, length: int = 0) -> Self:
        """The tunnel's packets are lost at random; of `length` bytes alone, if given. `lost` counts them."""
        only = f"meta length {length} " if length else ""
        dice = f"meta l4proto udp {only}numgen random mod 1000 < {round(percent * 10)}"
        return self._each_way(way, f"{dice} counter drop")

    def lost(self) -> int:
        """How many packets `loss` has dropped."""
        return _packets(self.r, "fault")

    def cut(self) -> Self:
        """Nothing gets through at all."""
        return self._rule(self.r, "forward", "drop")

    def filter_icmp(self, where: Literal["inner", "outer"]) -> Self:
        """`b` neither answers nor refuses anything, inside the tunnel or outside."""
        device = self.far.name if where == "inner" else "to-s"
        for asks in ("icmp type echo-request", "icmpv6 type echo-request"):  # not neighbour discovery
            self._rule(self.b, "input", f"iifname {device} {asks} drop")
        for refuses in ("icmp type destination-unreachable", "icmpv6 type destination-unreachable"):
            self._rule(self.b, "output", f"oifname {device} {refuses} drop")
        return self

    def drop_echoes(self, size: int, where: Literal["inner", "outer"] = "inner") -> Self:
        """`b` drops echoes of more than `size` bytes, inside the tunnel or outside, and nothing else."""
        device = self.far.name if where == "inner" else "to-s"
        for asks in ("icmp type echo-request", "icmpv6 type echo-request"):
            self._rule(self.b, "input", f"iifname {device} {asks} meta length > {size} drop")
        return self

    def behind(self, mtu: int, family: Family = "ipv4") -> str:
        """A host `c` behind the peer, reached by a link that carries no more than `mtu`; its address."""
        c = _namespace(self.lab, "c")
        _sysctl(self.b, *FORWARDING)
        address = [BEHIND[family].format(n) for n in (1, 2)]
        _ip(self.b, f"link add to-c type veth peer name to-b netns {c.name}", _address(address[0], "to-c"))
        self.b.ip("link", "set", "to-c", "mtu", str(mtu), "up")
        _ip(c, _address(address[1], "to-b"), f"link set to-b mtu {mtu} up")
        _ip(c, f"route add default via {_plain(address[0])}")
        self.a.ip("route", "add", _plain(address[1]), "dev", self.near.name)
        return _plain(address[1])

    def firewall_behind(self, size: int) -> Self:
        """`b` forwards no echoes of more than `size` bytes, and refuses all datagrams. IPv4 only."""
        self._rule(self.b, "forward", f"icmp type echo-request meta length > {size} drop")
        return self._rule(self.b, "forward", "ip protocol udp reject with icmp type admin-prohibited")

    def twin(self) -> Path:
        """A second tunnel from `a` with the same inner addresses, to `d`, which hangs on `s` too. IPv4 outside only."""
        twin = copy(self)
        twin.b = _namespace(self.lab, "d")
        twin.endpoint = _plain(TWIN.format(2))
        _ip(self.s, f"link add to-d type veth peer name to-s netns {twin.b.name}", _address(TWIN.format(1), "to-d"))
        _ip(self.s, "link set to-d up")
        _ip(
            twin.b,
            _address(TWIN.format(2), "to-s"),
            "link set to-s up",
            f"route add default via {_plain(TWIN.format(1))}",
        )
        _ip(self.r, f"route add {TWIN.format(0)} via {_plain(LINKS['ipv4'][1].format(2))}")
        twin.near_keys, twin.far_keys = keypair(), keypair()
        near = f"{_peer(twin.far_keys, [a.format(2) for a in ALLOWED])}Endpoint = {twin.endpoint}:{PORT}\n"
        far = _peer(twin.near_keys, [a.format(1) for a in ALLOWED])
        twin.near = self._device(self.a, 1, twin.near_keys, near, 1420, name="a2", port=PORT + 1)
        twin.far = self._device(twin.b, 2, twin.far_keys, far, 1420)
        return twin

    def hole_to_twin(self, size: int) -> Self:
        """The same as `hole`, for the link to `d` alone."""
        return self._rule(self.s, "forward", f"oifname to-d meta length > {size} drop")

    def take_everything(self) -> Self:
        """Routes as wg-quick(8) makes them for 0.0.0.0/0 and ::/0: all but the tunnel's own packets go into it."""
        for family in ("-4", "-6"):
            run(
                ["ip", family, "-n", self.a.name, "-batch", "-"],
                stdin=f"route add default dev {self.near.name} table {self.fwmark}\n"
                f"rule add not fwmark {self.fwmark} table {self.fwmark}\n"
                "rule add table main suppress_prefixlength 0\n",
            )
        return self

    def delay(self, ms: float, jitter: float = 0, *extra: str) -> Self:
        """Every packet takes so many milliseconds longer, each way. Needs netem, which a kernel may lack."""
        options = ["delay", f"{ms}ms", *([f"{jitter}ms"] if jitter else []), *extra]
        for router, device in ((self.r, "to-s"), (self.s, "to-r")):
            router.run(["tc", "qdisc", "replace", "dev", device, "root", "netem", "limit", "10000", *options])
        return self

    def mend(self) -> Self:
        """Removes all faults but sizes and delays."""
        for namespace in (self.r, self.s, self.b):
            namespace.run(["nft", "-f", "-"], stdin="add table inet fault\ndelete table inet fault\n")
        return self

    # Evidence, from tools that everyone trusts.

    def ping(self, address: str, size: int = 100, *, df: bool = True, wait: float = 1, device: str = "") -> str:
        """What `ping` in `a` prints for one packet of `size` bytes; it may well be that nothing came back."""
        options = ["-M", "do" if df else "dont", "-s", str(size - HEADERS[family_of(address)])]
        options += ["-I", device] if device else []
        argv = ["ping", "-n", "-c", "1", "-W", str(wait), *options, address]
        done = subprocess.run(self.a.inside(argv), capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def passes(self, address: str, size: int, *, device: str = "") -> bool:
        """One of three such packets is answered (a tunnel loses its first ones, until it has shaken and learnt)."""
        return any(" 0% packet loss" in self.ping(address, size, wait=0.5, device=device) for _ in range(3))

    def count(self, namespace: Namespace, hook: str, match: str) -> None:
        """Count the packets that match, from now on."""
        self._rule(namespace, hook, f"{match} counter", table="count")

    def counted(self, namespace: Namespace) -> int:
        """How many there were."""
        return _packets(namespace, "count")

    def route(self, address: str) -> str:
        """What `a` says of the way to an address; a learnt path MTU shows as `mtu` and `expires`."""
        return " ".join(self.a.ip("route", "get", address).split())

    def _lay_links(self) -> None:
        row = (self.a, self.r, self.s, self.b)
        for near, far in itertools.pairwise(row):
            near.ip("link", "add", f"to-{far.short}", "type", "veth", "peer", f"to-{near.short}", "netns", far.name)
        nets = LINKS[self.outer]
        for i, namespace in enumerate(row):
            ends = [(nets[i - 1].format(2), f"to-{row[i - 1].short}")] if i else []
            ends += [(nets[i].format(1), f"to-{row[i + 1].short}")] if i < 3 else []
            up = [line for address, end in ends for line in (_address(address, end), f"link set {end} up")]
            _ip(namespace, *up)
            # The routers know the far network of the other one, the ends go by their router.
            to = {0: (nets[0].format(2), "default"), 1: (nets[1].format(2), nets[2].format(0))}.get(i) or {
                2: (nets[1].format(1), nets[0].format(0)),
                3: (nets[2].format(1), "default"),
            }[i]
            _ip(namespace, f"{'-6 ' if self.outer == 'ipv6' else ''}route add {to[1]} via {_plain(to[0])}")

    def _device(
        self,
        namespace: Namespace,
        number: int,
        keys: Keys,
        peer: str,
        mtu: int,
        *,
        df: bool = False,
        name: str = "",
        port: int = PORT,
    ) -> WireGuard:
        conf = f"[Interface]\nPrivateKey = {keys.private}\nListenPort = {port}\n{peer}"
        addresses = [INSIDE[family].format(number) for family in self.inner]
        if not df:
            _sysctl(namespace, "net.ipv4.ip_no_pmtu_disc=1")
        device = self.lab.wireguard(namespace, name or namespace.short, conf, addresses, mtu=mtu)
        if not df:
            _sysctl(namespace, "net.ipv4.ip_no_pmtu_disc=0")
        return device

    def _each_way(self, way: Way, rule: str) -> Self:
        for one, match in (("towards", "iifname to-a"), ("back", "oifname to-a")):
            if way in (one, "both"):
                self._rule(self.r, "forward", f"{match} {rule}")
        return self

    def _rule(self, namespace: Namespace, hook: str, rule: str, *, table: str = "fault") -> Self:
        chain = f"add chain inet {table} {hook} {{ type filter hook {hook} priority -450; }}"
        script = f"add table inet {table}\n{chain}\nadd rule inet {table} {hook} {rule}\n"
        namespace.run(["nft", "-f", "-"], stdin=script)
        return self


def _namespace(lab: Lab, name: str, *, forwards: bool = False) -> Namespace:
    """One whose IPv6 works at once: link-local addresses would be tentative for a second, and neighbours silent."""
    namespace = lab.namespace(name)
    _sysctl(namespace, *NO_WAIT, *(FORWARDING if forwards else ()))
    return namespace


def _packets(namespace: Namespace, table: str) -> int:
    words = namespace.run(["nft", "list", "table", "inet", table]).split()
    return sum(int(words[i + 2]) for i, word in enumerate(words) if word == "counter")


def _peer(keys: Keys, allowed: list[str]) -> str:
    return f"[Peer]\nPublicKey = {keys.public}\nAllowedIPs = {', '.join(allowed)}\n"


def _ip(namespace: Namespace, *lines: str) -> None:
    """Several `ip` commands in one process: starting them is what takes the time."""
    six = [line for line in lines if line.startswith("-6 ")]
    four = [line for line in lines if line not in six]
    for option, batch in (("-4", four), ("-6", [line[3:] for line in six])):
        if batch:
            family = [] if option == "-4" else ["-6"]
            run(["ip", *family, "-n", namespace.name, "-batch", "-"], stdin="\n".join(batch) + "\n")


def _address(cidr: str, device: str) -> str:
    return f"address add {cidr} dev {device}" + (" nodad" if ":" in cidr else "")


def _sysctl(namespace: Namespace, *settings: str) -> None:
    namespace.run(["sysctl", "-qw", *settings])


def _plain(cidr: str) -> str:
    return cidr.partition("/")[0]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
