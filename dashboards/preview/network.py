"""The network that the previews of the dashboards show: `python dashboards/preview/network.py OUT [MINUTES]`, as root.

Three gateways, each a network namespace with an exporter inside, and the hosts that dial them:

    berlin   office (loaded)   warehouse (14 % loss)   branch (its cable is pulled, put back, pulled)
             packets are counted, and office and branch have fast echoes
    paris    store (full-size packets vanish)   phone (idle, roams)   laptop (never came)
    oslo     hq   backup (both well)

A Prometheus in a namespace of its own scrapes the three, and evaluates `alerts/*.yml` of this checkout. What it stored
is left in OUT/data; `collect.py` asks it. All else is removed at the end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from wg_exporter.cli.netlab import Keys, Lab, Namespace, WireGuard, keypair  # noqa: E402  after the path is set

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "wgv-"
KEEPALIVE = "PersistentKeepalive = 10\n"
GATEWAYS = {
    "berlin": ("office", "warehouse", "branch"),
    "paris": ("store", "phone", "laptop"),
    "oslo": ("hq", "backup"),
}
ROAMING = ("phone", "laptop")  # nobody expects them
FAST = ("office", "branch")  # machines move their traffic


class Site(NamedTuple):
    """A host that dials a gateway: numbers in the addresses, its keys, and where it runs."""

    name: str
    gateway: int
    number: int
    keys: Keys
    namespace: Namespace

    @property
    def inside(self) -> str:
        """Its address inside the tunnel."""
        return f"10.{self.gateway}.0.{self.number}"

    @property
    def cable(self) -> tuple[str, str]:
        """The addresses of the cable, at the gateway and here."""
        start = 16 * self.gateway + 4 * (self.number - 2)
        return f"192.0.2.{start + 1}", f"192.0.2.{start + 2}"


class Network:
    """The gateways and sites, running."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.sites: dict[str, Site] = {}
        self.devices: dict[str, WireGuard] = {}
        self.monitor = lab.namespace("monitor")
        for number, (name, sites) in enumerate(GATEWAYS.items(), 1):
            self._gateway(number, name, sites)

    def _gateway(self, number: int, name: str, sites: tuple[str, ...]) -> None:
        host, keys = self.lab.namespace(name), keypair()
        self.lab.link(host, self.monitor, f"198.51.100.{4 * number + 1}/30", f"198.51.100.{4 * number + 2}/30")
        made = [Site(site, number, index, keypair(), self.lab.namespace(site)) for index, site in enumerate(sites, 2)]
        device = self.lab.wireguard(host, name, _gateway_conf(keys, made), [f"10.{number}.0.1/24"])
        for site in made:
            self.sites[site.name] = site
            here, there = site.cable
            self.lab.link(host, site.namespace, f"{here}/30", f"{there}/30")
            if site.name != "laptop":
                conf = _site_conf(site, keys)
                self.devices[site.name] = self.lab.wireguard(site.namespace, site.name, conf, [f"{site.inside}/24"])
        config = f"interfaces: {{include: [{device.name}]}}\nnames: [{device.conf}]\nhealth: {{down_after: 25s}}\n"
        config += "accounting: {enabled: true}\n"
        fast = [{"public_key": site.keys.public, "fast": {}} for site in made if site.name in FAST]
        config += f"peers: {json.dumps(fast)}\n"  # JSON is YAML
        command = [
            sys.executable,
            "-m",
            "wg_exporter.cli",
            "serve",
            f"--web.listen-address=198.51.100.{4 * number + 1}:9586",
        ]
        path = self.lab.write(f"{name}.yml", config)
        self.lab.start([*command, f"--config.file={path}"], log=f"{name}.log", namespace=host)

    def nft(self, site: str, rule: str) -> None:
        """A rule for what arrives at a site over its cable."""
        chain = "add table inet f; add chain inet f in { type filter hook input priority 0; }; "
        self.sites[site].namespace.run(["nft", f"{chain}add rule inet f in udp dport 51820 {rule}"])

    def cable(self, site: str, state: str) -> None:
        """Pulls or puts back the cable of a site."""
        host = self.sites[site].namespace
        host.ip("link", "set", f"to-{list(GATEWAYS)[self.sites[site].gateway - 1]}", state)

    def ping(self, site: str, *options: str) -> None:
        """Traffic from a site to its gateway until the end."""
        address = f"10.{self.sites[site].gateway}.0.1"
        self.lab.start(["ping", "-q", *options, address], log="ping.log", namespace=self.sites[site].namespace)

    def roam(self, site: str, port: int) -> None:
        """The site is heard from another port."""
        device = self.devices[site]
        device.namespace.run(["wg", "set", device.name, "listen-port", str(port)])
        self.ping(site, "-c", "3")


def _gateway_conf(keys: Keys, sites: list[Site]) -> str:
    parts = [f"[Interface]\nPrivateKey = {keys.private}\nListenPort = 51820\n"]
    for site in sites:
        fixed = "" if site.name in ROAMING else f"Endpoint = {site.cable[1]}:51820\n{KEEPALIVE}"
        parts.append(
            f"[Peer]\n# friendly_name = {site.name}\nPublicKey = {site.keys.public}\n"
            f"AllowedIPs = {site.inside}/32\n{fixed}"
        )
    return "\n".join(parts)


def _site_conf(site: Site, gateway: Keys) -> str:
    return (
        f"[Interface]\nPrivateKey = {site.keys.private}\nListenPort = 51820\n\n[Peer]\nPublicKey = {gateway.public}\n"
        f"AllowedIPs = 10.{site.gateway}.0.0/16\nEndpoint = {site.cable[0]}:51820\n"
    )


def _prometheus(network: Network, out: Path) -> None:
    targets = [
        {"targets": [f"198.51.100.{4 * number + 1}:9586"], "labels": {"instance": f"gw-{name}:9586"}}
        for number, name in enumerate(GATEWAYS, 1)
    ]
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(ROOT / "alerts" / "*.rules.yml")],
        "scrape_configs": [{"job_name": "wireguard", "static_configs": targets}],
    }
    path = out / "prometheus.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    command = [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={out / 'data'}",
        "--web.listen-address=127.0.0.1:9090",
    ]
    network.lab.start(command, log="prometheus.log", namespace=network.monitor, env={"GOMAXPROCS": "1"})


def _events(network: Network) -> list[tuple[float, Callable[[], None]]]:
    """What happens at which part of the time."""
    return [
        (0.25, lambda: network.cable("branch", "down")),
        (0.3, lambda: network.roam("phone", 40001)),
        (0.4, lambda: network.cable("branch", "up")),
        (0.6, lambda: network.roam("phone", 40002)),
        (0.75, lambda: network.cable("branch", "down")),
    ]


def main(out: Path, minutes: float) -> None:
    """Runs the network for so long."""
    out.mkdir(parents=True, exist_ok=True)
    with Lab(PREFIX, out / "lab") as lab:
        lab.close()  # what a killed run left
        network = Network(lab)
        _prometheus(network, out)
        network.sites["office"].namespace.run(
            [
                "tc",
                "qdisc",
                "add",
                "dev",
                "to-berlin",
                "root",
                "tbf",
                "rate",
                "900kbit",
                "burst",
                "4kb",
                "latency",
                "400ms",
            ]
        )
        network.nft("warehouse", "numgen random mod 100 < 14 drop")
        network.nft("store", "meta length > 1400 drop")
        network.ping("office", "-i", "0.5", "-s", "6000")
        for site in ("warehouse", "branch", "store", "hq", "backup"):
            network.ping(site, "-i", "0.7", "-s", "700")
        network.ping("phone", "-c", "3")
        start = time.monotonic()
        for part, event in _events(network):
            time.sleep(max(0.0, start + 60 * minutes * part - time.monotonic()))
            event()
        time.sleep(max(0.0, start + 60 * minutes - time.monotonic()))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), float(sys.argv[2]) if len(sys.argv) > 2 else 25)
