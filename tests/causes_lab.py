"""Every cause made real, in two builds that differ where there are two: a tunnel between two hosts with a router in
between, and what breaks it.

    here ---- router ---- there ---- behind (some)
    192.0.2.2         198.51.100.2   10.50.0.2       outside
    10.9.0.1                 10.9.0.2                inside

`here` is where somebody asks why. `World` builds; each `Scene` is a function that has it build a tunnel and break it.
Where what breaks can't be had (a host whose clock goes back, a WireGuard under load), a process at the far side sends
the messages that such a host sends, with the keys of the real one: those scenes say so (`emulated`).
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.lab import eventually, keypair
from wg_exporter.causes.cause import Cause
from wg_exporter.cli import ask
from wg_exporter.cli.netlab import LabError, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import Keys, Lab, Namespace, WireGuard

HERE, THERE, BEHIND = "10.9.0.1", "10.9.0.2", "10.50.0.2"
HOST, ROUTER, FAR_ROUTER, FAR = "192.0.2.2", "192.0.2.1", "198.51.100.1", "198.51.100.2"
PORT = 51820
DATA = "@th,64,8 4"  # a UDP payload that begins with 4: WireGuard's data, and no handshake (protocol, 5.4)
RESPONSES = "@th,64,8 2"
ROOT = Path(__file__).parents[1]


class World:
    """Two hosts, a router, and the tunnel between them once `up` was called."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.here, self.router, self.there = (lab.namespace(name) for name in ("here", "router", "there"))
        self.near_link, self.router_near = lab.link(self.here, self.router, f"{HOST}/30", f"{ROUTER}/30")
        self.router_far, self.far_link = lab.link(self.router, self.there, f"{FAR_ROUTER}/30", f"{FAR}/30")
        self.sysctl(self.router, "net.ipv4.ip_forward=1")
        self.here.ip("route", "add", "default", "via", ROUTER)
        self.there.ip("route", "add", "default", "via", FAR_ROUTER)
        self.keys, self.far_keys = keypair(), keypair()
        self.peers = ""  # more sections of the near device
        self.config = ""  # more lines of the exporter's configuration
        self.hosts = ""  # more lines of /etc/hosts, for whoever looks from here
        self.socket = ""  # that of an exporter, if one runs
        self.asks: Path | None = None  # and its configuration
        self.device: WireGuard
        self.far: WireGuard

    @property
    def name(self) -> str:
        """The near device."""
        return self.lab.prefix + "here"

    def up(
        self,
        *,
        endpoint: str = f"{FAR}:{PORT}",
        allowed: str = f"{THERE}/32",
        keepalive: int = 0,
        far_allowed: str = f"{HERE}/32",
        far_endpoint: str = "",
        far_keepalive: int = 0,
        far_port: int = PORT,
        far_peer: str = "",
        psk: tuple[str, str] = ("", ""),
        addresses: tuple[str, ...] = (f"{HERE}/24",),
        shake: bool = True,
        mtu: int = 1420,
    ) -> None:
        """Both ends of the tunnel, and one packet through it. `far_peer`: the key that the far side has of us."""
        self.device = self.lab.wireguard(
            self.here,
            "here",
            _conf(self.keys, PORT, self.far_keys.public, "there", endpoint, allowed, keepalive, psk[0]) + self.peers,
            addresses,
            mtu=mtu,
        )
        self.far = self.lab.wireguard(
            self.there,
            "there",
            _conf(
                self.far_keys, far_port, far_peer or self.keys.public, "here", far_endpoint, far_allowed, far_keepalive,
                psk[1],
            ),
            [f"{THERE}/24"],
            mtu=mtu,
        )  # fmt: skip
        if shake:
            eventually(self.ping, within=15, every=0.2)

    def ping(self, address: str = THERE, namespace: Namespace | None = None) -> bool:
        """Whether an echo comes back, within a second."""
        try:
            (namespace or self.here).run(["ping", "-c", "1", "-W", "1", address])
        except LabError:
            return False
        return True

    def flow(self, address: str = THERE, namespace: Namespace | None = None, every: float = 1.0) -> None:
        """Users' packets, whatever comes back."""
        self.lab.start(["ping", "-n", "-q", "-i", str(every), address], log="flow", namespace=namespace or self.here)

    def python(self, namespace: Namespace, script: str, *arguments: str) -> None:
        """Some other program, in a namespace, until the lab ends."""
        command = [sys.executable, "-c", script, *arguments]
        self.lab.start(command, log="python", namespace=namespace, env={"PYTHONPATH": str(ROOT)})

    def filter(
        self, namespace: Namespace, hook: str, rule: str, *, policy: str = "accept", kind: str = "filter"
    ) -> None:
        """A rule of nftables."""
        script = (
            f"add table inet fault\n"
            f"add chain inet fault {hook} {{ type {kind} hook {hook} priority 0; policy {policy}; }}\n"
            + "".join(f"add rule inet fault {hook} {one}\n" for one in rule.split("; ") if one)
        )
        namespace.run(["nft", "-f", "-"], stdin=script)

    def sysctl(self, namespace: Namespace, *settings: str) -> None:
        """In that namespace alone."""
        namespace.run(["sysctl", "-q", "-w", *settings])

    def kill_far(self) -> None:
        """The far daemon dies, and its device with it; a kernel device is deleted."""
        if self.far.process is None:
            self.there.ip("link", "delete", self.far.name)
            return
        self.far.process.kill()
        self.far.process.wait()

    def wg(self, *arguments: str, far: bool = False, stdin: str = "") -> None:
        """`wg set` of a device."""
        device = self.far if far else self.device
        device.namespace.run(["wg", "set", device.name, *arguments], stdin=stdin)

    def describe(self, endpoint: str, allowed: str = f"{THERE}/32") -> None:
        """What the file of the near device says, other than it is."""
        text = _conf(self.keys, PORT, self.far_keys.public, "there", endpoint, allowed, 0, "")
        self.device.conf.write_text(text)

    def behind(self) -> None:
        """A host behind the far side."""
        behind = self.lab.namespace("behind")
        self.lab.link(self.there, behind, "10.50.0.1/24", f"{BEHIND}/24")
        behind.ip("route", "add", "default", "via", "10.50.0.1")
        self.sysctl(self.there, "net.ipv4.ip_forward=1")
        self.here.ip("route", "add", "10.50.0.0/24", "dev", self.name)

    def serve(self) -> None:
        """An exporter that runs on the near host, with a Unix socket to ask."""
        self.socket = str(self.lab.directory / "http.sock")
        config = self.lab.write("exporter.yml", self.exporter_config())
        flags = [f"--web.unix-socket={self.socket}", "--storage.path=", "--web.listen-address=127.0.0.1:9586"]
        command = [sys.executable, "-m", "wg_exporter.cli", "serve", f"--config.file={config}", *flags]
        self.lab.start(command, log="exporter", namespace=self.here)
        self.asks = config

    def state(self) -> str:
        """How that exporter says that the peer is; empty while it does not."""
        try:
            found = ask.status(self.socket)
        except ask.NotAskedError:
            return ""
        return next((str(peer.health.state or "") for row in found.devices for peer in row.peers), "")

    def exporter_config(self) -> str:
        """For whoever looks from `here`."""
        return (
            f'interfaces: {{include: ["{self.name}"]}}\nnames: ["{self.lab.directory}/{self.name}.conf"]\n{self.config}'
        )


def _conf(keys: Keys, port: int, peer: str, name: str, endpoint: str, allowed: str, keepalive: int, psk: str) -> str:
    lines = [f"# friendly_name = {name}", f"PublicKey = {peer}", f"AllowedIPs = {allowed}"]
    lines += [f"Endpoint = {endpoint}"] if endpoint else []
    lines += [f"PersistentKeepalive = {keepalive}"] if keepalive else []
    lines += [f"PresharedKey = {psk}"] if psk else []
    return f"[Interface]\nPrivateKey = {keys.private}\nListenPort = {port}\n\n[Peer]\n" + "\n".join(lines) + "\n"


class Scene(NamedTuple):
    """How something is broken, in words, and what it has to be called. `also`: what may be named beside it.

    `quick`: one of those that every run of the tests has.
    """

    cause: Cause
    words: str
    build: Callable[[World], None]
    quick: bool = False
    also: tuple[Cause, ...] = ()
    emulated: bool = False

    @property
    def id(self) -> str:
        """A name for a test."""
        return self.build.__name__.strip("_")


SCENES: list[Scene] = []


def scene(
    cause: Cause, words: str, *, quick: bool = False, also: tuple[Cause, ...] = (), emulated: bool = False
) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Enter a scene."""

    def enter(build: Callable[[World], None]) -> Callable[[World], None]:
        SCENES.append(Scene(cause, words, build, quick, also, emulated))
        return build

    return enter


# --- nothing leaves ---------------------------------------------------------------------------------------------------


@scene(Cause.INTERFACE_GONE, "its daemon was killed; a file still describes it", quick=True)
def gone_killed(world: World) -> None:
    world.up()
    assert world.device.process
    world.device.process.kill()
    world.device.process.wait()


@scene(Cause.INTERFACE_GONE, "`wg-quick down`: the interface was deleted")
def gone_deleted(world: World) -> None:
    world.up()
    world.here.ip("link", "delete", world.name)


@scene(Cause.INTERFACE_DOWN, "`ip link set down`", quick=True)
def down(world: World) -> None:
    world.up()
    world.here.ip("link", "set", world.name, "down")


@scene(Cause.DAEMON_HANGS, "the daemon of the interface is stopped (SIGSTOP)")
def hangs(world: World) -> None:
    world.up()
    assert world.device.process
    world.device.process.send_signal(signal.SIGSTOP)


@scene(Cause.PEER_MISSING, "`wg set peer remove`, and the file still has it")
def missing(world: World) -> None:
    world.up()
    world.wg("peer", world.far_keys.public, "remove")


@scene(Cause.NO_ENDPOINT, "no endpoint in the file, and the far side is off")
def no_endpoint(world: World) -> None:
    world.up(endpoint="", shake=False)
    world.kill_far()


@scene(Cause.NO_ENDPOINT, "a phone that has not called yet: the far side has no endpoint of us either")
def never_called(world: World) -> None:
    world.up(endpoint="", shake=False)


@scene(Cause.NO_ROUTE, "the default route is gone", quick=True)
def no_default_route(world: World) -> None:
    world.up()
    world.here.ip("route", "delete", "default")


@scene(Cause.NO_ROUTE, "a route of the type `unreachable` to the endpoint")
def unreachable_route(world: World) -> None:
    world.up()
    world.here.ip("route", "add", "unreachable", FAR)


@scene(Cause.ROUTE_LOOP, "a full tunnel without fwmark: 0.0.0.0/1 and 128.0.0.0/1 lead into it", quick=True)
def full_tunnel(world: World) -> None:
    world.up(allowed="0.0.0.0/0", shake=False)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        world.here.ip("route", "add", half, "dev", world.name)


@scene(Cause.ROUTE_LOOP, "a rule that sends all unmarked packets into the tunnel, and no fwmark set")
def rule_without_mark(world: World) -> None:
    world.up(allowed="0.0.0.0/0", shake=False)
    world.here.ip("route", "add", "default", "dev", world.name, "table", "100")
    world.here.ip("rule", "add", "not", "fwmark", "51820", "table", "100")


@scene(Cause.OUTPUT_FILTERED, "an output rule drops UDP to port 51820", quick=True)
def output_dropped(world: World) -> None:
    world.up(shake=False)
    world.filter(world.here, "output", f"udp dport {PORT} counter drop")


@scene(Cause.OUTPUT_FILTERED, "a policy of drop on output that lets only TCP out")
def output_policy(world: World) -> None:
    world.up(shake=False)
    world.filter(
        world.here,
        "output",
        f'oifname "lo" accept; oifname "{world.name}" accept; meta l4proto tcp accept',
        policy="drop",
    )


@scene(Cause.OUTPUT_FILTERED, "the same with iptables, and a counter that grows")
def output_iptables(world: World) -> None:
    world.up(shake=False)
    world.here.run(["iptables", "-A", "OUTPUT", "-p", "udp", "--dport", str(PORT), "-j", "DROP"])


@scene(Cause.NO_ADDRESS, "the interface has no address")
def no_address(world: World) -> None:
    world.up()
    world.here.ip("address", "flush", "dev", world.name)
    world.here.ip("route", "replace", f"{THERE}/32", "dev", world.name)


@scene(Cause.INNER_FILTERED, "an output rule drops what goes into the tunnel", quick=True)
def inner_output(world: World) -> None:
    world.up()
    world.filter(world.here, "output", f'oifname "{world.name}" counter drop')


@scene(Cause.INNER_FILTERED, "an input rule drops what comes out of the tunnel")
def inner_input(world: World) -> None:
    world.up()
    world.filter(world.here, "input", f'iifname "{world.name}" drop')


# --- it leaves and is refused -----------------------------------------------------------------------------------------


@scene(Cause.PORT_UNREACHABLE, "the far daemon is gone", quick=True)
def far_daemon_gone(world: World) -> None:
    world.up()
    world.kill_far()
    _forget_session(world)


@scene(Cause.PORT_UNREACHABLE, "the far side listens on another port")
def far_other_port(world: World) -> None:
    world.up(far_port=51999, shake=False)


@scene(Cause.HOST_UNREACHABLE, "the far host is off: the router gets no answer from it (host unreachable)")
def far_host_off(world: World) -> None:
    world.up(shake=False)
    world.there.ip("link", "set", world.far_link, "down")


@scene(Cause.HOST_UNREACHABLE, "the router has no route there (network unreachable)", quick=True)
def far_network_gone(world: World) -> None:
    world.up(shake=False)
    world.router.ip("address", "flush", "dev", world.router_far)


@scene(Cause.PROHIBITED, "the router's firewall rejects it (administratively prohibited)", quick=True)
def rejected(world: World) -> None:
    world.up(shake=False)
    world.filter(world.router, "forward", "meta l4proto udp reject with icmp type admin-prohibited")


@scene(Cause.PROHIBITED, "a route of the type `prohibit` at the router")
def prohibit_route(world: World) -> None:
    world.up(shake=False)
    world.router.ip("route", "add", "prohibit", FAR)


# --- it leaves and nothing comes back ---------------------------------------------------------------------------------


@scene(Cause.DNS_MOVED, "the name of the endpoint resolves to another address, the old one is silent")
def dns_moved(world: World) -> None:
    world.up(shake=False)
    world.describe(f"vpn.lab.example:{PORT}")
    world.hosts = "203.0.113.9 vpn.lab.example\n"
    world.filter(world.router, "forward", "meta l4proto udp drop")


@scene(Cause.SILENT, "a filter on the way drops everything")
def silent_filter(world: World) -> None:
    world.up(shake=False)
    world.filter(world.router, "forward", "meta l4proto udp drop")


@scene(Cause.SILENT, "the far side does not have our public key", quick=True)
def silent_stranger(world: World) -> None:
    world.up(far_peer=keypair().public, shake=False)


# --- something comes back and is not taken ----------------------------------------------------------------------------


@scene(Cause.PRESHARED_KEY, "the preshared keys differ")
def preshared_differs(world: World) -> None:
    world.up(psk=(_psk(), _psk()), shake=False)


@scene(Cause.PRESHARED_KEY, "only the far side has one")
def preshared_there_only(world: World) -> None:
    world.up(psk=("", _psk()), shake=False)


@scene(Cause.INPUT_FILTERED, "an input rule drops UDP from port 51820", quick=True)
def input_dropped(world: World) -> None:
    world.up(shake=False)
    world.filter(world.here, "input", f"udp sport {PORT} counter drop")


@scene(Cause.INPUT_FILTERED, "a policy of drop on input that knows no established connections")
def input_policy(world: World) -> None:
    world.up(shake=False)
    world.filter(
        world.here, "input", f'iifname "lo" accept; iifname "{world.name}" accept; tcp dport 22 accept', policy="drop"
    )


@scene(Cause.OUTER_REVERSE_PATH, "answers come by another cable than the route there, and rp_filter is strict")
def outer_reverse_path(world: World) -> None:
    second = world.lab.namespace("second")
    near, _ = world.lab.link(world.here, second, "203.0.113.2/30", "203.0.113.1/30")
    far, _ = world.lab.link(world.router, second, "203.0.113.5/30", "203.0.113.6/30")
    second.ip("route", "add", HOST, "via", "203.0.113.2")
    second.ip("route", "add", "default", "via", "203.0.113.5")
    world.sysctl(second, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
    for link in ("all", *(name.split("@")[0] for name in _links(second))):
        world.sysctl(second, f"net.ipv4.conf.{link}.rp_filter=0")
    world.up(shake=False)
    # From the far side, what goes to us takes the second way.
    world.router.ip("rule", "add", "iif", world.router_far, "table", "200")
    world.router.ip("route", "add", HOST, "via", "203.0.113.6", "dev", far, "table", "200")
    world.sysctl(world.here, "net.ipv4.conf.all.rp_filter=1", f"net.ipv4.conf.{near}.rp_filter=1")


@scene(Cause.UNDER_LOAD, "the far side answers with cookie replies", emulated=True)
def under_load(world: World) -> None:
    world.up(shake=False)
    world.kill_far()
    world.python(world.there, _COOKIES)


@scene(Cause.ROAMED, "the far side has another address, and the firewall here only lets the old one in")
def roamed(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=1)
    world.filter(world.here, "input", f"ip saddr {FAR} accept; udp dport {PORT} counter drop")
    world.there.ip("address", "add", "198.51.100.6/30", "dev", world.far_link)
    world.router.ip("address", "add", "198.51.100.5/30", "dev", world.router_far)
    world.there.ip("address", "delete", f"{FAR}/30", "dev", world.far_link)
    world.there.ip("route", "replace", "default", "via", "198.51.100.5")
    _forget_session(world)
    _forget_far_session(world)


# --- the far side calls, and gets nowhere -----------------------------------------------------------------------------


@scene(Cause.OLD_KEY, "our key was changed, and the far side still has the old one")
def old_key(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.wg("private-key", "/dev/stdin", stdin=keypair().private)
    _forget_far_session(world)


@scene(Cause.UNKNOWN_CALLER, "the far side has a new key, and nobody told us", quick=True)
def unknown_caller(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.wg("private-key", "/dev/stdin", far=True, stdin=keypair().private)
    _forget_session(world)


@scene(Cause.CLOCK_BACK, "the clock of the far side went back by an hour", emulated=True)
def clock_back(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    _forget_far_session(world)
    time.sleep(1)  # so that a stamp of now was taken
    world.kill_far()
    world.python(world.there, _CALLS, world.far_keys.private, world.keys.public, "-3600")


@scene(Cause.RESPONSES_LOST, "the router drops all that goes there")
def one_way(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.filter(world.router, "forward", f"ip saddr {HOST} meta l4proto udp drop")
    _forget_far_session(world)
    _forget_session(world)


@scene(Cause.RESPONSES_LOST, "the far side's own firewall lets nothing in")
def one_way_there(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.filter(world.there, "input", f"udp dport {PORT} drop")
    _forget_far_session(world)
    _forget_session(world)


# --- the session is fine, and the data is not -------------------------------------------------------------------------


@scene(Cause.DATA_FILTERED, "the router drops data packets, both ways")
def data_dropped_on_the_way(world: World) -> None:
    world.up()
    world.filter(world.router, "forward", f"meta l4proto udp {DATA} drop")


@scene(Cause.DATA_FILTERED, "a rule of this host drops data packets that leave", quick=True)
def data_dropped_here(world: World) -> None:
    world.up()
    world.filter(world.here, "output", f"udp dport {PORT} {DATA} counter drop")


@scene(Cause.NOT_ALLOWED_HERE, "the allowed IPs here do not hold the target", quick=True)
def not_allowed_here(world: World) -> None:
    world.up()
    world.wg("peer", world.far_keys.public, "allowed-ips", "10.9.9.9/32")
    world.config = f"peers: [{{public_key: {world.far_keys.public}, target: {THERE}}}]\n"


@scene(Cause.OWNED_BY_ANOTHER, "another peer got the same allowed IP")
def owned_by_another(world: World) -> None:
    world.up()
    world.wg("peer", keypair().public, "allowed-ips", f"{THERE}/32")


@scene(Cause.NOT_ALLOWED_THERE, "the allowed IPs of the far side do not hold our address")
def not_allowed_there(world: World) -> None:
    world.up(far_allowed="10.9.0.77/32", shake=False)


@scene(Cause.NOT_ALLOWED_THERE, "the firewall of the far side drops all that comes out of the tunnel")
def far_firewall(world: World) -> None:
    world.up()
    world.filter(world.there, "input", f'iifname "{world.far.name}" drop')


@scene(Cause.ROUTED_ELSEWHERE, "a route to the target leads out of another interface", quick=True)
def routed_elsewhere(world: World) -> None:
    world.up()
    world.sysctl(world.here, "net.ipv4.conf.all.rp_filter=0", f"net.ipv4.conf.{world.name}.rp_filter=0")
    world.here.ip("route", "add", f"{THERE}/32", "via", ROUTER)


@scene(Cause.ROUTED_ELSEWHERE, "a rule leads it into another table")
def ruled_elsewhere(world: World) -> None:
    world.up()
    world.sysctl(world.here, "net.ipv4.conf.all.rp_filter=0", f"net.ipv4.conf.{world.name}.rp_filter=0")
    world.here.ip("route", "add", "default", "via", ROUTER, "table", "100")
    world.here.ip("rule", "add", "to", THERE, "table", "100")


@scene(Cause.INNER_REVERSE_PATH, "a route to the target leads elsewhere, and strict rp_filter drops the answers")
def inner_reverse_path(world: World) -> None:
    world.up()
    world.here.ip("route", "add", f"{THERE}/32", "via", ROUTER)
    world.sysctl(world.here, f"net.ipv4.conf.{world.name}.rp_filter=1")


@scene(Cause.NOT_FORWARDED, "the far side does not forward to the host behind it")
def not_forwarded(world: World) -> None:
    world.up(allowed=f"{THERE}/32, 10.50.0.0/24")
    world.behind()
    world.sysctl(world.there, "net.ipv4.ip_forward=0")
    world.config = f"peers: [{{public_key: {world.far_keys.public}, target: {BEHIND}}}]\n"


@scene(Cause.NOT_FORWARDED, "the host behind it is off")
def behind_is_off(world: World) -> None:
    world.up(allowed=f"{THERE}/32, 10.50.0.0/24")
    world.behind()
    world.there.ip("link", "set", "to-behind", "down")
    world.config = f"peers: [{{public_key: {world.far_keys.public}, target: {BEHIND}}}]\n"


@scene(Cause.ECHOES_FILTERED, "the target drops echoes, which it answered before; an exporter runs")
def echoes_dropped(world: World) -> None:
    world.up(keepalive=25)
    world.serve()
    eventually(lambda: world.state() == "up", within=40, every=0.5)
    time.sleep(6)
    world.filter(world.there, "input", "icmp type echo-request drop")
    world.python(world.there, _SERVES)
    world.python(world.here, _TALKS, THERE)
    eventually(lambda: world.state() == "degraded", within=90, every=0.5)


@scene(Cause.LOSSY, "the router drops a fifth of all packets")
def lossy(world: World) -> None:
    world.up()
    world.filter(world.router, "forward", "meta l4proto udp numgen random mod 100 < 20 drop")


@scene(Cause.LOSSY, "the near cable drops a third of what leaves")
def lossy_here(world: World) -> None:
    world.up()
    world.filter(world.router, "prerouting", f'iifname "{world.router_near}" numgen inc mod 3 0 drop')


@scene(Cause.MTU, "a link of 1400 in between, and packet-too-big is filtered")
def mtu_hole(world: World) -> None:
    world.up()
    for namespace, link in ((world.router, world.router_far), (world.there, world.far_link)):
        namespace.ip("link", "set", link, "mtu", "1400")
    world.filter(world.router, "output", "icmp type destination-unreachable drop")


@scene(Cause.MTU, "the interface's MTU is larger than the route to the endpoint carries", quick=True)
def mtu_above_route(world: World) -> None:
    world.up(mtu=1500)


@scene(Cause.NAT_FORGOT, "a NAT before the far side forgot it, which sends no keepalives")
def nat_forgot(world: World) -> None:
    world.sysctl(
        world.router, "net.netfilter.nf_conntrack_udp_timeout=1", "net.netfilter.nf_conntrack_udp_timeout_stream=1"
    )
    world.filter(world.router, "postrouting", f'oifname "{world.router_near}" masquerade', kind="nat")
    world.filter(world.router, "input", "meta l4proto udp drop")
    world.up(endpoint="", far_endpoint=f"{HOST}:{PORT}", shake=False)
    eventually(lambda: world.ping(HERE, world.there), within=15, every=0.2)
    time.sleep(32)


# --- nothing is wrong -------------------------------------------------------------------------------------------------


@scene(Cause.FINE, "busy: users' packets all the time", quick=True)
def fine_busy(world: World) -> None:
    world.up(keepalive=25)
    world.flow(every=0.05)


@scene(Cause.FINE, "idle: nobody has sent for a while", quick=True)
def fine_idle(world: World) -> None:
    world.up(shake=False)


@scene(Cause.FINE, "a host that drops echoes, and answers all else")
def fine_without_echoes(world: World) -> None:
    world.up(keepalive=25)
    world.filter(world.there, "input", "icmp type echo-request drop")
    world.python(world.there, _SERVES)
    world.python(world.here, _TALKS, THERE)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _psk() -> str:
    return run(["wg", "genpsk"]).strip()


def _links(namespace: Namespace) -> list[str]:
    return [line.split(": ")[1] for line in namespace.ip("-o", "link", "show").splitlines()]


def _forget_session(world: World) -> None:
    """The near side has to shake hands again: a session of before would send data for three minutes."""
    peer = world.far_keys.public
    keep = world.device.namespace.run(["wg", "show", world.device.name, "allowed-ips"])
    allowed = next(line.split("\t")[1] for line in keep.splitlines() if line.startswith(peer)).replace(" ", ",")
    endpoints = world.device.namespace.run(["wg", "show", world.device.name, "endpoints"]).splitlines()
    endpoint = next(line.split("\t")[1] for line in endpoints if line.startswith(peer))
    world.wg("peer", peer, "remove")
    world.wg("peer", peer, "allowed-ips", allowed, "endpoint", endpoint)


def _forget_far_session(world: World) -> None:
    """The far side has to shake hands again."""
    with contextlib.suppress(LabError):
        world.there.run(["wg", "setconf", world.far.name, str(world.far.conf)])


# A WireGuard under load, as far as it answers (protocol, 5.4.7): a cookie reply to each initiation.
_COOKIES = f"""
import os, socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("{FAR}", {PORT}))
while True:
    data, sender = sock.recvfrom(2048)
    if len(data) == 148 and data[0] == 1:
        sock.sendto(b"\\x03\\0\\0\\0" + data[4:8] + os.urandom(56), sender)
"""

# The far side with its own key and a clock that is off by so many seconds: it calls every two seconds.
_CALLS = f"""
import base64, socket, sys, time
from tests.initiator import initiation, party
caller, to, off = party(sys.argv[1]), base64.b64decode(sys.argv[2]), float(sys.argv[3])
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("{FAR}", {PORT}))
while True:
    sock.sendto(initiation(caller, to, time.time() + off), ("{HOST}", {PORT}))
    time.sleep(2)
"""

_SERVES = f"""
import socket
server = socket.create_server(("{THERE}", 8000))
while True:
    connection, _ = server.accept()
    while data := connection.recv(65536):
        connection.sendall(data)
"""

_TALKS = """
import socket, sys, time
while True:
    try:
        with socket.create_connection((sys.argv[1], 8000), timeout=3) as connection:
            while True:
                connection.sendall(b"x" * 4000)
                connection.recv(65536)
                time.sleep(0.1)
    except OSError:
        time.sleep(0.2)
"""
