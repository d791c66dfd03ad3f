"""Two gateways to one far site, each with a tunnel of its own, an exporter and a keepalived: who has the address?

    far ---- 192.0.2.0/30 ---- one ---+
     |                                | 198.51.100.0/24, where the address is
     +------ 192.0.2.4/30 ---- two ---+

`one` has the higher priority, so the address is there while its tunnel works. keepalived is the real one, with VRRPv3
and an advertisement every 0.1 s; it follows the exporter's track file by inotify.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, keypair, start_exporter
from wg_exporter.daemon.tracking import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.lab import Exporter, Keys, Lab, Namespace, WireGuard

ADDRESS = "198.51.100.254"
BOTH = "input", "output"

_KEEPALIVED = """\
global_defs {{
    router_id {name}
    vrrp_version 3
    script_user root
}}
track_file tunnel {{
    file "{file}"
    weight 0
}}
vrrp_instance site {{
    state BACKUP
    interface {interface}
    virtual_router_id 51
    priority {priority}
    advert_int 0.1
    virtual_ipaddress {{
        {address}/24 dev {interface}
    }}
    track_file {{
        tunnel
    }}
}}
"""

_FAR = """\
[Interface]
PrivateKey = {own.private}
ListenPort = {port}

[Peer]
PublicKey = {peer.public}
AllowedIPs = {address}/32
"""

_GATEWAY = """\
[Interface]
PrivateKey = {own.private}
ListenPort = 51820

[Peer]
PublicKey = {peer.public}
AllowedIPs = {address}/32
Endpoint = {endpoint}:{port}
PersistentKeepalive = 25
"""


class Gateway(NamedTuple):
    """One of the two: its namespace, its tunnel, what runs there, and the port of its tunnel at the far site."""

    namespace: Namespace
    device: WireGuard
    peer: str  # the public key of the far site
    exporter: Exporter
    track: Path
    lan: str
    port: int
    config: str

    def another_exporter(self) -> AbstractContextManager[Exporter]:
        """One like the first, which has to have ended."""
        return _exporter(self.exporter.log_path.parent, self.namespace, self.config)

    @property
    def file(self) -> Path:
        """The track file of its tunnel."""
        return self.track / file_name(("", self.device.name, self.peer))

    @property
    def keepalived(self) -> Path:
        """What its keepalived has logged."""
        return self.namespace.lab.directory / f"keepalived-{self.namespace.short}.log"

    def has_address(self) -> bool:
        return ADDRESS in self.namespace.ip("-4", "-o", "address", "show", "dev", self.lan)


class Site(NamedTuple):
    """The far site and its gateways, one of which has the address."""

    far: Namespace
    one: Gateway
    two: Gateway

    def cut(self, gateway: Gateway) -> float:
        """Nothing goes through the tunnel of this gateway any more. Returns when (monotonic seconds)."""
        chains = "".join(
            f" chain {hook} {{\n type filter hook {hook} priority 0;\n udp {side} {gateway.port} drop\n }}\n"
            for hook, side in (("input", "dport"), ("output", "sport"))
        )
        self.far.run(["nft", "-f", "-"], stdin=f"table inet cut {{\n{chains}}}\n")
        return time.monotonic()

    def mend(self) -> None:
        self.far.run(["nft", "delete", "table", "inet", "cut"])

    def lose(self, percent: int) -> None:
        """So much is lost in each direction, of both tunnels, at random."""
        chains = "".join(
            f" chain {hook} {{\n type filter hook {hook} priority 0;\n"
            f" meta l4proto udp numgen random mod 100 < {percent} drop\n }}\n"
            for hook in BOTH
        )
        self.far.run(["nft", "-f", "-"], stdin=f"table inet lossy {{\n{chains}}}\n")

    def moved(self, to: Gateway, within: float = 20.0) -> float:
        """When the address was seen at this gateway (monotonic seconds), and then at no other."""
        try:
            eventually(to.has_address, within=within, every=0.005)
        except AssertionError as error:
            said = [gateway.keepalived.read_text()[-3000:] for gateway in (self.one, self.two)]
            raise AssertionError("\n\n".join([str(error), *said])) from None
        when = time.monotonic()
        other = self.one if to is self.two else self.two
        eventually(lambda: not other.has_address(), within=30)
        return when


def keepalived_or_skip() -> None:
    if not shutil.which("keepalived"):
        pytest.skip("keepalived: no such command; apt-get install keepalived")


@contextlib.contextmanager
def site(lab: Lab, directory: Path, fast: str = "{interval: 100ms, multiplier: 6}") -> Iterator[Site]:
    """All of it, with the address at `one`."""
    far, one, two = (lab.namespace(name) for name in ("far", "one", "two"))
    lans = lab.link(one, two, "198.51.100.1/24", "198.51.100.2/24")
    with contextlib.ExitStack() as stack:
        gateways = [
            stack.enter_context(_gateway(lab, directory, far, namespace, number, lan, fast))
            for number, (namespace, lan) in enumerate(zip((one, two), lans, strict=True))
        ]
        found = Site(far, *gateways)
        for gateway in gateways:
            eventually(lambda gateway=gateway: gateway.file.exists() and gateway.file.read_bytes() == b"0\n", within=30)
        for gateway in gateways:
            _keepalived(lab, directory, gateway, priority=150 if gateway.namespace is one else 100)
        found.moved(found.one, within=30)
        yield found


@contextlib.contextmanager
def _gateway(
    lab: Lab, directory: Path, far: Namespace, namespace: Namespace, number: int, lan: str, fast: str
) -> Iterator[Gateway]:
    ours, theirs = keypair(), keypair()
    port, name = 51820 + number, namespace.short
    outside = f"192.0.2.{4 * number + 1}"
    lab.link(far, namespace, f"{outside}/30", f"192.0.2.{4 * number + 2}/30")
    inside = [f"10.{number}.0.{host}" for host in (1, 2)]
    lab.wireguard(far, f"f{name}", _far(theirs, ours, port, inside[1]), [f"{inside[0]}/24"])
    conf = _GATEWAY.format(own=ours, peer=theirs, address=inside[0], endpoint=outside, port=port)
    device = lab.wireguard(namespace, name, conf, [f"{inside[1]}/24"])
    track = directory / f"track-{name}"
    config = f"""\
interfaces: {{include: [{device.name}]}}
names: []
track_files: {track}
peers:
  - {{public_key: {theirs.public}, interface: {device.name}, name: far, fast: {fast}}}
"""
    with _exporter(directory, namespace, config) as exporter:
        yield Gateway(namespace, device, theirs.public, exporter, track, lan, port, config)


def _exporter(directory: Path, namespace: Namespace, config: str) -> AbstractContextManager[Exporter]:
    socket = f"--web.unix-socket={directory / namespace.short}.sock"
    return start_exporter(socket, directory=directory, config=config, namespace=namespace)


def _far(own: Keys, peer: Keys, port: int, address: str) -> str:
    return _FAR.format(own=own, peer=peer, port=port, address=address)


def _keepalived(lab: Lab, directory: Path, gateway: Gateway, priority: int) -> None:
    name = gateway.namespace.short
    text = _KEEPALIVED.format(name=name, file=gateway.file, interface=gateway.lan, priority=priority, address=ADDRESS)
    config = lab.write(f"keepalived-{name}.conf", text)
    # Of all its parts, also of those that are not used: it takes a file that is locked for another one that runs.
    parts = ("pid", "vrrp_pid", "checkers_pid", "bfd_pid")
    files = [f"--{part}={directory / name}.{part}" for part in parts]
    command = ["keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp", f"--use-file={config}", *files]
    lab.start(command, log=f"keepalived-{name}.log", namespace=gateway.namespace)
