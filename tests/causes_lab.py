"""Every cause made real, in two builds that differ: a tunnel of tests/causes_world.py, and what breaks it.

Each `Scene` is a function that has a world build a tunnel and break it. Where what breaks can't be had (a host whose
clock goes back, a WireGuard under load), a process sends what such a host sends, with the keys of the real one: those
scenes say so (`emulated`).
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.causes_others import (
    CALLS,
    COOKIES,
    DELAYS,
    FLOODS,
    HANGS,
    HOLDS_PORT,
    SERVES,
    TAKES,
    TALKS,
)
from tests.causes_world import BEHIND, FAR, FAR_6, HERE, HOST, HOST_6, PORT, ROUTER, THERE, World
from tests.lab import SOCKETS, eventually, keypair
from wg_exporter.causes.cause import Cause
from wg_exporter.cli.netlab import LabError, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import Namespace

DATA = "@th,64,8 4"  # a UDP payload that begins with 4: WireGuard's data, and no handshake (protocol, 5.4)

# Why the exporter alone can't name a cause: it opens nothing with a private key, and sends nothing but its probes.
KEY = "needs the private key"
PACKET = "needs a packet that provokes an answer"


class Scene(NamedTuple):
    """How something is broken, in words, and what it has to be called. `also`: what may be named beside it.

    `quick`: one of those that every run of the tests has. `alone`: why the exporter alone can't name it; empty = it
    does. `asks`: an exporter has to run, as `diagnose` itself sees too little of the past.
    """

    cause: Cause
    words: str
    build: Callable[[World], None]
    quick: bool = False
    also: tuple[Cause, ...] = ()
    emulated: bool = False
    alone: str = ""
    asks: bool = False

    @property
    def id(self) -> str:
        """A name for a test."""
        return self.build.__name__.strip("_")


SCENES: list[Scene] = []


def scene(
    cause: Cause,
    words: str,
    *,
    quick: bool = False,
    also: tuple[Cause, ...] = (),
    emulated: bool = False,
    alone: str = "",
    asks: bool = False,
) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Enter a scene."""

    def enter(build: Callable[[World], None]) -> Callable[[World], None]:
        SCENES.append(Scene(cause, words, build, quick, also, emulated, alone, asks))
        return build

    return enter


# --- nothing leaves ---------------------------------------------------------------------------------------------------


@scene(Cause.INTERFACE_GONE, "its daemon was killed; a file still describes it", quick=True)
def gone_killed(world: World) -> None:
    world.up()
    world.kill()


@scene(Cause.INTERFACE_GONE, "`wg-quick down`: the interface was deleted")
def gone_deleted(world: World) -> None:
    world.up()
    world.here.ip("link", "delete", world.name)


@scene(Cause.INTERFACE_DOWN, "`ip link set down`", quick=True)
def down(world: World) -> None:
    world.up()
    world.here.ip("link", "set", world.name, "down")


@scene(Cause.INTERFACE_DOWN, "it was never brought up, and the far side calls all the time")
def never_up(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2, shake=False, begin=False)
    world.here.ip("link", "set", world.name, "down")
    world.begin(works=False)


@scene(Cause.DAEMON_HANGS, "the daemon of the interface is stopped (SIGSTOP)")
def hangs(world: World) -> None:
    world.up()
    assert world.device.process
    world.device.process.send_signal(signal.SIGSTOP)


@scene(Cause.DAEMON_HANGS, "the daemon takes questions and never answers, and no packet passes", emulated=True)
def hangs_busy(world: World) -> None:
    world.up()
    world.kill()
    socket = SOCKETS / f"{world.name}.sock"
    socket.unlink(missing_ok=True)
    world.python(world.here, HANGS, world.name, str(socket))
    eventually(socket.exists, within=30)
    world.here.ip("address", "add", f"{HERE}/24", "dev", world.name)
    world.here.ip("link", "set", world.name, "up")


@scene(Cause.PEER_MISSING, "`wg set peer remove`, and the file still has it")
def missing(world: World) -> None:
    world.up()
    world.wg("peer", world.far_keys.public, "remove")


@scene(Cause.PEER_MISSING, "another file was loaded (`wg setconf`), in which the peer has another key")
def missing_reloaded(world: World) -> None:
    world.up()
    other = world.device.conf.read_text().replace(world.peer_key, keypair().public)
    world.here.run(["wg", "setconf", world.name, "/dev/stdin"], stdin=other)


@scene(Cause.NO_SOCKET, "`wg set listen-port` to one that another service has: its own is closed, and it gets none")
def port_lost(world: World) -> None:
    world.up()
    held = world.lab.directory / "held"
    world.python(world.here, HOLDS_PORT, str(PORT + 1), str(held))
    eventually(held.exists, within=30)
    with contextlib.suppress(LabError):  # it says that the address is in use
        world.wg("listen-port", str(PORT + 1))


@scene(Cause.NO_SOCKET, "its file was loaded again, with the port of another WireGuard interface")
def port_of_another_device(world: World) -> None:
    other = f"[Interface]\nPrivateKey = {keypair().private}\nListenPort = {PORT + 1}\n"
    world.lab.wireguard(world.here, "twin", other)
    world.up()
    text = world.device.conf.read_text().replace(f"ListenPort = {PORT}\n", f"ListenPort = {PORT + 1}\n")
    world.device.conf.write_text(text)
    with contextlib.suppress(LabError):
        world.here.run(["wg", "setconf", world.name, str(world.device.conf)])


@scene(Cause.NO_ENDPOINT, "no endpoint in the file, and the far side is off")
def no_endpoint(world: World) -> None:
    world.up(endpoint="", works=False)
    world.kill(far=True)


@scene(Cause.NO_ENDPOINT, "a phone that has not called yet: the far side has no endpoint of us either")
def never_called(world: World) -> None:
    world.up(endpoint="", works=False)


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
    world.up(allowed="0.0.0.0/0", works=False)
    for half in ("0.0.0.0/1", "128.0.0.0/1"):
        world.here.ip("route", "add", half, "dev", world.name)


@scene(Cause.ROUTE_LOOP, "a rule that sends all unmarked packets into the tunnel, and no fwmark set")
def rule_without_mark(world: World) -> None:
    world.up(allowed="0.0.0.0/0", works=False)
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


@scene(Cause.OUTPUT_FILTERED, "the same with iptables-legacy, of which nftables knows nothing")
def output_legacy(world: World) -> None:
    world.up(shake=False)
    world.here.run(["iptables-legacy", "-A", "OUTPUT", "-p", "udp", "--dport", str(PORT), "-j", "DROP"])


@scene(Cause.NO_ADDRESS, "the interface has no address")
def no_address(world: World) -> None:
    world.up()
    world.here.ip("address", "flush", "dev", world.name)
    world.here.ip("route", "replace", f"{THERE}/32", "dev", world.name)


@scene(Cause.NO_ADDRESS, "only its IPv6 address is left, and users send to IPv4")
def no_address_of_that_family(world: World) -> None:
    world.up(addresses=(f"{HERE}/24", "fd00:9::1/64"))
    world.here.ip("address", "delete", f"{HERE}/24", "dev", world.name)
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
    world.kill(far=True)
    world.forget_session()


@scene(Cause.PORT_UNREACHABLE, "the far side listens on another port")
def far_other_port(world: World) -> None:
    world.up(far_port=51999, works=False)


@scene(Cause.HOST_UNREACHABLE, "the far host is off: the router gets no answer from it (host unreachable)")
def far_host_off(world: World) -> None:
    world.up(shake=False)
    world.there.ip("link", "set", world.far_link, "down")


@scene(Cause.HOST_UNREACHABLE, "the router has no route there (network unreachable)", quick=True)
def far_network_gone(world: World) -> None:
    world.up(shake=False)
    world.router.ip("address", "flush", "dev", world.router_far)


@scene(Cause.HOST_UNREACHABLE, "the gateway is off: it does not answer ARP", quick=True)
def gateway_off(world: World) -> None:
    world.up(shake=False)
    world.router.ip("address", "flush", "dev", world.router_near)
    world.here.ip("neigh", "flush", "dev", world.near_link)


@scene(Cause.HOST_UNREACHABLE, "the cable of this host is pulled out")
def cable_out(world: World) -> None:
    world.up()
    world.router.ip("link", "set", world.router_near, "down")
    world.forget_session()


@scene(Cause.HOST_UNREACHABLE, "the far host is on a link of this host, and off: it does not answer ARP")
def neighbour_off(world: World) -> None:
    world.here.ip("address", "add", "203.0.113.2/24", "dev", world.near_link)
    world.up(endpoint=f"203.0.113.7:{PORT}", works=False)


@scene(Cause.HOST_UNREACHABLE, "the same over IPv6: it does not answer NDP", quick=True)
def neighbour6_off(world: World) -> None:
    world.here.ip("address", "add", f"{HOST_6}/64", "dev", world.near_link, "nodad")
    world.up(endpoint=f"[2001:db8:1::7]:{PORT}", works=False)


@scene(Cause.HOST_UNREACHABLE, "the same with a link-local address, on one of two links that could have it")
def link_local_off(world: World) -> None:
    first = world.lab.namespace("a-first")
    near, far = world.lab.link(world.here, first, "203.0.113.2/30", "203.0.113.1/30")
    first.ip("address", "add", "fe80::7/64", "dev", far, "nodad")
    eventually(lambda: "tentative" not in world.here.ip("-6", "address", "show"), within=30)
    assert near < world.near_link
    world.up(endpoint=f"[fe80::7%{world.near_link}]:{PORT}", works=False)


@scene(Cause.HOST_UNREACHABLE, "the gateway of IPv6 is off: it does not answer NDP")
def gateway6_off(world: World) -> None:
    world.here.ip("address", "add", f"{HOST_6}/64", "dev", world.near_link, "nodad")
    world.here.ip("route", "add", "2001:db8:2::/64", "via", "2001:db8:1::1")
    world.up(endpoint=f"[2001:db8:2::2]:{PORT}", works=False)


@scene(Cause.PROHIBITED, "the router's firewall rejects it (administratively prohibited)", quick=True)
def rejected(world: World) -> None:
    world.up(shake=False)
    world.filter(world.router, "forward", "meta l4proto udp reject with icmp type admin-prohibited")


# Linux sends some five of these errors, and then none while packets go on (ip_error in net/ipv4/route.c): who looks
# later sees only that what we send is lost.
@scene(Cause.PROHIBITED, "a route of the type `prohibit` at the router", also=(Cause.RESPONSES_LOST,))
def prohibit_route(world: World) -> None:
    world.up(shake=False)
    world.router.ip("route", "add", "prohibit", FAR)


# --- it leaves and nothing comes back ---------------------------------------------------------------------------------


@scene(Cause.DNS_MOVED, "the name of the endpoint resolves to another address, the old one is silent")
def dns_moved(world: World) -> None:
    world.hosts = "203.0.113.9 vpn.lab.example\n"
    world.up(shake=False, begin=False)
    world.describe(f"vpn.lab.example:{PORT}")
    world.begin()
    world.filter(world.router, "forward", "meta l4proto udp drop")


@scene(Cause.DNS_MOVED, "the name has two other addresses now, and at the old one nothing listens any more")
def dns_moved_away(world: World) -> None:
    world.hosts = "203.0.113.9 vpn.lab.example\n2001:db8:99::9 vpn.lab.example\n"
    world.up(shake=False, begin=False)
    world.describe(f"vpn.lab.example:{PORT}")
    world.begin()
    world.kill(far=True)
    world.forget_session()


@scene(Cause.SILENT, "a filter on the way drops everything")
def silent_filter(world: World) -> None:
    world.up(shake=False)
    world.filter(world.router, "forward", "meta l4proto udp drop")


@scene(Cause.SILENT, "the far side does not have our public key", quick=True)
def silent_stranger(world: World) -> None:
    world.up(far_peer=keypair().public, works=False)


# --- something comes back and is not taken ----------------------------------------------------------------------------


@scene(Cause.PRESHARED_KEY, "the preshared keys differ")
def preshared_differs(world: World) -> None:
    world.up(psk=(_psk(), _psk()), works=False)


@scene(Cause.PRESHARED_KEY, "only the far side has one")
def preshared_there_only(world: World) -> None:
    world.up(psk=("", _psk()), works=False)


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
    for link in ("all", *_links(second)):
        world.sysctl(second, f"net.ipv4.conf.{link}.rp_filter=0")
    world.up(shake=False)
    # From the far side, what goes to us takes the second way.
    world.router.ip("rule", "add", "iif", world.router_far, "table", "200")
    world.router.ip("route", "add", HOST, "via", "203.0.113.6", "dev", far, "table", "200")
    world.sysctl(world.here, "net.ipv4.conf.all.rp_filter=1", f"net.ipv4.conf.{near}.rp_filter=1")


@scene(Cause.OUTER_REVERSE_PATH, "a full tunnel by fwmark as of wg-quick, strict rp_filter, and no src_valid_mark")
def outer_reverse_path_of_a_mark(world: World) -> None:
    world.aim(THERE)
    world.up(allowed="0.0.0.0/0", shake=False, begin=False)
    world.wg("fwmark", "51820")
    world.here.ip("route", "add", "default", "dev", world.name, "table", "51820")
    world.here.ip("rule", "add", "not", "fwmark", "51820", "table", "51820")
    world.here.ip("rule", "add", "table", "main", "suppress_prefixlength", "0")
    world.sysctl(world.here, "net.ipv4.conf.all.src_valid_mark=1")
    world.begin()
    world.sysctl(
        world.here,
        "net.ipv4.conf.all.src_valid_mark=0",
        "net.ipv4.conf.all.rp_filter=1",
        f"net.ipv4.conf.{world.near_link}.rp_filter=1",
    )


@scene(Cause.UNDER_LOAD, "the far side answers with cookie replies", emulated=True)
def under_load(world: World) -> None:
    world.up(shake=False)
    world.kill(far=True)
    world.python(world.there, COOKIES, FAR)
    world.forget_session()


@scene(Cause.UNDER_LOAD, "the far side has only IPv6 outside, and answers with cookie replies", emulated=True)
def under_load_over_ipv6(world: World) -> None:
    world.ipv6()
    world.up(endpoint=f"[{FAR_6}]:{PORT}", shake=False)
    world.kill(far=True)
    world.python(world.there, COOKIES, FAR_6)
    world.forget_session()


@scene(Cause.ROAMED, "the far side has another address, and the firewall here only lets the old one in", alone=KEY)
def roamed(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=1)
    world.filter(world.here, "input", f"ip saddr {FAR} accept; udp dport {PORT} counter drop")
    world.there.ip("address", "add", "198.51.100.6/30", "dev", world.far_link)
    world.router.ip("address", "add", "198.51.100.5/30", "dev", world.router_far)
    world.there.ip("address", "delete", f"{FAR}/30", "dev", world.far_link)
    world.there.ip("route", "replace", "default", "via", "198.51.100.5")
    world.forget_session()
    world.forget_far_session()


@scene(Cause.ROAMED, "the far side calls by IPv6 now, and the firewall here only lets its IPv4 in", alone=KEY)
def roamed_to_ipv6(world: World) -> None:
    world.ipv6()
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=1)
    world.filter(world.here, "input", f"ip saddr {FAR} accept; udp dport {PORT} counter drop")
    world.filter(world.router, "forward", f"ip daddr {FAR} drop; ip saddr {FAR} drop")
    world.forget_session()
    world.forget_far_session()
    world.wg("peer", world.keys.public, "endpoint", f"[{HOST_6}]:{PORT}", far=True)


# --- the far side calls, and gets nowhere -----------------------------------------------------------------------------


@scene(Cause.OLD_KEY, "our key was changed, and the far side still has the old one")
def old_key(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.wg("private-key", "/dev/stdin", stdin=keypair().private)
    world.forget_far_session()


@scene(Cause.OLD_KEY, "the far side was set up with the key of another host of ours")
def key_of_another_host(world: World) -> None:
    world.up(far_peer=keypair().public, far_endpoint=f"{HOST}:{PORT}", far_keepalive=2, works=False)


@scene(Cause.UNKNOWN_CALLER, "the far side has a new key, and nobody told us", quick=True, alone=KEY)
def unknown_caller(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.wg("private-key", "/dev/stdin", far=True, stdin=keypair().private)
    world.forget_session()


@scene(Cause.UNKNOWN_CALLER, "its key was written down wrong here, and never worked", alone=KEY)
def key_written_wrong(world: World) -> None:
    world.up(peer=keypair().public, far_endpoint=f"{HOST}:{PORT}", far_keepalive=2, works=False)


@scene(Cause.CLOCK_BACK, "the clock of the far side went back by an hour", emulated=True, alone=KEY)
def clock_back(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.forget_far_session()
    time.sleep(1)  # so that a stamp of now was taken
    world.kill(far=True)
    world.python(world.there, CALLS, world.far_keys.private, world.keys.public, "-3600")


@scene(Cause.CLOCK_BACK, "a board without a clock chip was started again: there it is 1970", emulated=True, alone=KEY)
def clock_of_1970(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.forget_far_session()
    time.sleep(1)  # so that a stamp of now was taken
    world.kill(far=True)
    world.python(world.there, CALLS, world.far_keys.private, world.keys.public, str(60 - time.time()))


@scene(Cause.RESPONSES_LOST, "the router drops all that goes there")
def one_way(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.filter(world.router, "forward", f"ip saddr {HOST} meta l4proto udp drop")
    world.forget_far_session()
    world.forget_session()


@scene(Cause.RESPONSES_LOST, "the far side's own firewall lets nothing in")
def one_way_there(world: World) -> None:
    world.up(far_endpoint=f"{HOST}:{PORT}", far_keepalive=2)
    world.filter(world.there, "input", f"udp dport {PORT} drop")
    world.forget_far_session()
    world.forget_session()


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
    world.aim(THERE)
    world.up()
    world.wg("peer", world.far_keys.public, "allowed-ips", "10.9.9.9/32")


@scene(Cause.NOT_ALLOWED_HERE, "a network behind the far side is routed into the tunnel, and no peer has it")
def network_not_allowed_here(world: World) -> None:
    world.aim(BEHIND)
    world.up(begin=False)
    world.behind()
    world.begin(works=False)


@scene(Cause.OWNED_BY_ANOTHER, "another peer got the same allowed IP")
def owned_by_another(world: World) -> None:
    world.aim(THERE)
    world.up()
    world.wg("peer", keypair().public, "allowed-ips", f"{THERE}/32")


@scene(Cause.OWNED_BY_ANOTHER, "another peer has a narrower network, in which the target is")
def owned_by_a_narrower(world: World) -> None:
    world.aim(THERE)
    world.up(allowed="10.9.0.0/24")
    world.wg("peer", keypair().public, "allowed-ips", f"{THERE}/31")


@scene(Cause.NOT_ALLOWED_THERE, "the allowed IPs of the far side do not hold our address", alone=PACKET)
def not_allowed_there(world: World) -> None:
    world.up()
    world.wg("peer", world.keys.public, "allowed-ips", "10.9.0.77/32", far=True)


@scene(Cause.NOT_ALLOWED_THERE, "the firewall of the far side drops all that comes out of the tunnel", alone=PACKET)
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


@scene(
    Cause.INNER_REVERSE_PATH,
    "a route to the target leads elsewhere, and strict rp_filter drops the answers",
    also=(Cause.ROUTED_ELSEWHERE,),
)
def inner_reverse_path(world: World) -> None:
    world.up()
    world.here.ip("route", "add", f"{THERE}/32", "via", ROUTER)
    world.sysctl(world.here, f"net.ipv4.conf.{world.name}.rp_filter=1")


@scene(Cause.INNER_REVERSE_PATH, "a rule leads what comes from our address inside elsewhere, and rp_filter is strict")
def inner_reverse_path_by_source(world: World) -> None:
    world.up()
    world.here.ip("route", "add", "default", "via", ROUTER, "table", "100")
    world.here.ip("rule", "add", "from", HERE, "table", "100")
    world.sysctl(world.here, f"net.ipv4.conf.{world.name}.rp_filter=1")


@scene(Cause.NOT_FORWARDED, "the far side does not forward to the host behind it", alone=PACKET)
def not_forwarded(world: World) -> None:
    _reaches_behind(world)
    world.sysctl(world.there, "net.ipv4.ip_forward=0")


@scene(Cause.NOT_FORWARDED, "the host behind it is off", alone=PACKET)
def behind_is_off(world: World) -> None:
    _reaches_behind(world)
    world.there.ip("link", "set", "to-behind", "down")


@scene(Cause.ECHOES_FILTERED, "the target drops echoes, which it answered before; an exporter runs", asks=True)
def echoes_dropped(world: World) -> None:
    world.up(keepalive=25)
    world.filter(world.there, "input", "icmp type echo-request drop")
    world.python(world.there, SERVES, THERE)
    world.python(world.here, TALKS, THERE)
    eventually(lambda: world.state() == "degraded", within=90, every=0.5)


@scene(
    Cause.ECHOES_FILTERED, "a host behind the far side drops echoes now; users reach it; an exporter runs", asks=True
)
def echoes_dropped_behind(world: World) -> None:
    behind = _reaches_behind(world)
    world.filter(behind, "input", "icmp type echo-request drop")
    world.python(behind, SERVES, BEHIND)
    world.python(world.here, TALKS, BEHIND)
    eventually(lambda: world.state() == "degraded", within=90, every=0.5)


@scene(Cause.LOSSY, "the router drops a fifth of all packets")
def lossy(world: World) -> None:
    world.up()
    world.filter(world.router, "forward", "meta l4proto udp numgen random mod 100 < 20 drop")


@scene(Cause.LOSSY, "the near cable drops a third of what leaves")
def lossy_here(world: World) -> None:
    world.up()
    world.filter(world.router, "prerouting", f'iifname "{world.router_near}" numgen inc mod 3 0 drop')


@scene(Cause.SLOW, "a line of 2 Mbit/s that users fill; an exporter knows what is usual (of 30 s)", asks=True)
def slow_full_line(world: World) -> None:
    shape = ["root", "tbf", "rate", "2mbit", "burst", "4kb", "limit", "300kb"]
    world.router.run(["tc", "qdisc", "add", "dev", world.router_far, *shape])
    _learned(world)
    world.python(world.there, TAKES, THERE)
    world.python(world.here, FLOODS, THERE, "32768")


@scene(
    Cause.SLOW, "a relay on the way holds each packet for 80 ms; an exporter knows what is usual (of 30 s)", asks=True
)
def slow_longer_way(world: World) -> None:
    flag = world.lab.directory / "slower"
    world.python(world.router, DELAYS, ROUTER, FAR, str(PORT), "0.08", str(flag))
    _learned(world, endpoint=f"{ROUTER}:{PORT}")
    flag.touch()


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
    world.filter(world.router, "postrouting", f'oifname "{world.router_near}" masquerade', kind="nat")
    world.filter(world.router, "input", "meta l4proto udp drop")
    _forgotten(world)


@scene(Cause.NAT_FORGOT, "a firewall before the far side forgot it: it lets in only what was asked for from inside")
def firewall_forgot(world: World) -> None:
    world.filter(world.router, "forward", f'iifname "{world.router_near}" ct state new drop')
    _forgotten(world)


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
    world.up(keepalive=25, begin=False)
    world.filter(world.there, "input", "icmp type echo-request drop")
    world.python(world.there, SERVES, THERE)
    world.python(world.here, TALKS, THERE)
    world.begin(works=False)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _psk() -> str:
    return run(["wg", "genpsk"]).strip()


def _links(namespace: Namespace) -> list[str]:
    return [line.split(": ")[1].split("@")[0] for line in namespace.ip("-o", "link", "show").splitlines()]


def _reaches_behind(world: World) -> Namespace:
    """The far side forwards to the host behind it, which stands for the peer."""
    world.aim(BEHIND)
    world.up(allowed=f"{THERE}/32, 10.50.0.0/24", begin=False)
    behind = world.behind()
    eventually(lambda: world.ping(BEHIND), within=30, every=0.2)
    world.begin()
    return behind


def _learned(world: World, *, endpoint: str = f"{FAR}:{PORT}") -> None:
    """An exporter knows what round trip is usual."""
    world.learns = 30.0
    world.config += "probe: {interval: 1s}\nhealth: {window: 1m}\n"
    world.up(endpoint=endpoint, begin=False)
    world.begin()
    time.sleep(world.learns + 15)  # it reads every fifth of the window
    world.began = time.monotonic()


def _forgotten(world: World) -> None:
    """The far side calls once and then never again; what is on the way has forgotten it soon after."""
    world.sysctl(
        world.router, "net.netfilter.nf_conntrack_udp_timeout=1", "net.netfilter.nf_conntrack_udp_timeout_stream=1"
    )
    world.up(endpoint="", far_endpoint=f"{HOST}:{PORT}", works=False, begin=False)
    eventually(lambda: world.ping(HERE, world.there), within=30, every=0.2)
    world.begin(works=False)
    time.sleep(32)
