"""What scenes of tests/causes_lab.py are built in: a tunnel between two hosts with a router in between.

    here ---- router ---- there ---- behind (some)
    192.0.2.2         198.51.100.2   10.50.0.2       outside
    2001:db8:1::2     2001:db8:2::2                  outside, where a scene wants IPv6
    10.9.0.1                 10.9.0.2                inside

`here` is where somebody asks why. An exporter may watch there: it is there before the fault, and expects the peer up.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import eventually, keypair
from wg_exporter.cli import ask
from wg_exporter.cli.netlab import LabError

if TYPE_CHECKING:
    from tests.lab import Keys, Lab, Namespace, WireGuard
    from wg_exporter.status.rows import PeerRow

HERE, THERE, BEHIND = "10.9.0.1", "10.9.0.2", "10.50.0.2"
HOST, ROUTER, FAR_ROUTER, FAR = "192.0.2.2", "192.0.2.1", "198.51.100.1", "198.51.100.2"
HOST_6, ROUTER_6, FAR_ROUTER_6, FAR_6 = "2001:db8:1::2", "2001:db8:1::1", "2001:db8:2::1", "2001:db8:2::2"
PORT = 51820
ROOT = Path(__file__).parents[1]
OWN_HOSTS = 'test -z "$HOSTS" || mount --bind "$HOSTS" /etc/hosts; exec "$@"'
"""A shell script that runs a command with the /etc/hosts of the variable HOSTS."""

SEEN = 60.0  # seconds within which an exporter on a busy machine has seen that a tunnel works

# The exporter learns what is usual before it calls anything slow. That takes ten minutes, and here less.
_LEARNING = """
from wg_exporter.health import quality
quality.LEARNING_SECONDS = {seconds}
from wg_exporter.cli.entry import main
main()
"""


class World:
    """Two hosts, a router, and the tunnel between them once `up` was called.

    `watched`: an exporter is to run from before the fault on. `up` starts it, and waits until it has seen the tunnel;
    a scene that builds more first calls `up(begin=False)`, then `begin` itself.
    """

    def __init__(self, lab: Lab, *, watched: bool = False) -> None:
        self.lab = lab
        self.here, self.router, self.there = (lab.namespace(name) for name in ("here", "router", "there"))
        self.near_link, self.router_near = lab.link(self.here, self.router, f"{HOST}/30", f"{ROUTER}/30")
        self.router_far, self.far_link = lab.link(self.router, self.there, f"{FAR_ROUTER}/30", f"{FAR}/30")
        self.sysctl(self.router, "net.ipv4.ip_forward=1")
        self.here.ip("route", "add", "default", "via", ROUTER)
        self.there.ip("route", "add", "default", "via", FAR_ROUTER)
        self.keys, self.far_keys = keypair(), keypair()
        self.watched = watched
        self.began = 0.0  # monotonic seconds: what is broken is broken from then on
        self.peer_key = self.far_keys.public  # that of the peer `there`, as it is configured here
        self.peers = ""  # more sections of the near device
        self.config = ""  # more lines of the exporter's configuration
        self.hosts = ""  # more lines of /etc/hosts, for whoever looks from here
        self.socket = ""  # that of an exporter, if one runs
        self.learns = 0.0  # seconds after which it knows what is usual; 0 = as it does
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
        peer: str = "",
        far_allowed: str = f"{HERE}/32",
        far_endpoint: str = "",
        far_keepalive: int = 0,
        far_port: int = PORT,
        far_peer: str = "",
        psk: tuple[str, str] = ("", ""),
        addresses: tuple[str, ...] = (f"{HERE}/24",),
        works: bool = True,
        shake: bool = True,
        begin: bool = True,
        mtu: int = 1420,
    ) -> None:
        """Both ends of the tunnel, and one packet through it, so that there is a session (`shake`). `works`: it would
        pass at all. `peer` is the key that this side has of the other, `far_peer` the key that the far side has of us:
        other than their own, if given.
        """
        self.peer_key = peer or self.far_keys.public
        self.device = self.lab.wireguard(
            self.here,
            "here",
            _conf(self.keys, PORT, self.peer_key, "there", endpoint, allowed, keepalive, psk[0]) + self.peers,
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
        if works and shake:
            eventually(self.ping, within=30, every=0.2)
        if begin:
            self.begin(works=works)

    def begin(self, *, works: bool = True) -> None:
        """What breaks is broken from here on. Whoever watches has seen the tunnel, and that it works, if it did."""
        if self.watched:
            self.serve()
            eventually(self._seen_well if works else self.row, within=SEEN, every=0.5)
        self.began = time.monotonic()

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

    def ipv6(self) -> None:
        """Addresses and routes of IPv6 outside, beside those of IPv4."""
        links = (
            (self.here, self.near_link, HOST_6),
            (self.router, self.router_near, ROUTER_6),
            (self.router, self.router_far, FAR_ROUTER_6),
            (self.there, self.far_link, FAR_6),
        )
        for namespace, link, address in links:
            namespace.ip("address", "add", f"{address}/64", "dev", link, "nodad")
        self.sysctl(self.router, "net.ipv6.conf.all.forwarding=1")
        self.here.ip("-6", "route", "add", "default", "via", ROUTER_6)
        self.there.ip("-6", "route", "add", "default", "via", FAR_ROUTER_6)

    def kill(self, *, far: bool = False) -> None:
        """A daemon dies, and its device with it; a kernel device is deleted."""
        device = self.far if far else self.device
        if device.process is None:
            device.namespace.ip("link", "delete", device.name)
            return
        device.process.kill()
        device.process.wait()

    def wg(self, *arguments: str, far: bool = False, stdin: str = "") -> None:
        """`wg set` of a device."""
        device = self.far if far else self.device
        device.namespace.run(["wg", "set", device.name, *arguments], stdin=stdin)

    def describe(self, endpoint: str, allowed: str = f"{THERE}/32") -> None:
        """What the file of the near device says, other than it is."""
        text = _conf(self.keys, PORT, self.peer_key, "there", endpoint, allowed, 0, "")
        self.device.conf.write_text(text)

    def behind(self) -> Namespace:
        """A host behind the far side."""
        behind = self.lab.namespace("behind")
        self.lab.link(self.there, behind, "10.50.0.1/24", f"{BEHIND}/24")
        behind.ip("route", "add", "default", "via", "10.50.0.1")
        self.sysctl(self.there, "net.ipv4.ip_forward=1")
        self.here.ip("route", "add", "10.50.0.0/24", "dev", self.name)
        return behind

    def aim(self, target: str) -> None:
        """The exporter's configuration names this address inside the tunnel. Before `up`."""
        self.config += f"peers: [{{public_key: {self.far_keys.public}, target: {target}}}]\n"

    def forget_session(self) -> None:
        """The near side has to shake hands again: a session of before would send data for three minutes."""
        peer, run = self.peer_key, self.device.namespace.run
        keep = run(["wg", "show", self.device.name, "allowed-ips"])
        allowed = next(line.split("\t")[1] for line in keep.splitlines() if line.startswith(peer)).replace(" ", ",")
        endpoints = run(["wg", "show", self.device.name, "endpoints"]).splitlines()
        endpoint = next(line.split("\t")[1] for line in endpoints if line.startswith(peer))
        self.wg("peer", peer, "remove")
        self.wg("peer", peer, "allowed-ips", allowed, "endpoint", endpoint)

    def forget_far_session(self) -> None:
        """The far side has to shake hands again."""
        with contextlib.suppress(LabError):
            self.there.run(["wg", "setconf", self.far.name, str(self.far.conf)])

    # --- an exporter that runs here ---

    def serve(self) -> None:
        """An exporter that runs on the near host, with a Unix socket to ask."""
        self.socket = str(self.lab.directory / "http.sock")
        config = self.lab.write("exporter.yml", self.exporter_config())
        hosts = self.hosts_file()
        hosts.chmod(0o644)  # it is looked up in by a process without any right
        flags = [f"--web.unix-socket={self.socket}", "--storage.path=", "--web.listen-address=127.0.0.1:9586"]
        program = ["-c", _LEARNING.format(seconds=self.learns)] if self.learns else ["-m", "wg_exporter.cli"]
        argv = [sys.executable, *program, "serve", f"--config.file={config}", *flags]
        env = {"HOSTS": str(hosts), "PYTHONPATH": str(ROOT)}
        self.lab.start(
            ["unshare", "-m", "sh", "-c", OWN_HOSTS, "sh", *argv], log="exporter", namespace=self.here, env=env
        )
        self.asks = config

    def row(self) -> PeerRow | None:
        """What that exporter says of the peer; None while it does not."""
        try:
            found = ask.status(self.socket)
        except ask.NotAskedError:
            return None
        rows = (peer for row in found.devices for peer in row.peers)
        return next((peer for peer in rows if peer.peer.public_key == self.peer_key), None)

    def state(self) -> str:
        """How it says that the peer is; empty while it does not."""
        row = self.row()
        return str(row.health.state or "") if row else ""

    def exporter_config(self) -> str:
        """For whoever looks from `here`."""
        names = f'names: ["{self.lab.directory}/{self.name}.conf"]\n'
        expect = "expect: [{state: up}]\n" if self.watched else ""
        return f'interfaces: {{include: ["{self.name}"]}}\n{names}{expect}{self.config}'

    def hosts_file(self) -> Path:
        """An /etc/hosts for whoever looks from `here`."""
        return self.lab.write("hosts", f"127.0.0.1 localhost\n{self.hosts}")

    def _seen_well(self) -> bool:
        row = self.row()
        answered = row is not None and row.echoes is not None and row.echoes.sent > row.echoes.lost
        return row is not None and answered and str(row.health.state) in {"up", "degraded"}


def _conf(keys: Keys, port: int, peer: str, name: str, endpoint: str, allowed: str, keepalive: int, psk: str) -> str:
    lines = [f"# friendly_name = {name}", f"PublicKey = {peer}", f"AllowedIPs = {allowed}"]
    lines += [f"Endpoint = {endpoint}"] if endpoint else []
    lines += [f"PersistentKeepalive = {keepalive}"] if keepalive else []
    lines += [f"PresharedKey = {psk}"] if psk else []
    return f"[Interface]\nPrivateKey = {keys.private}\nListenPort = {port}\n\n[Peer]\n" + "\n".join(lines) + "\n"
