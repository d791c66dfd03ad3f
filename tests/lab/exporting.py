"""What the tests of the running program share: a network to watch, and what it serves held against `wg` and `ip`.

`Metrics` reads a scrape with prometheus_client's own parser, so that what these tests understand is what others do, and
refuses a series that is there twice. `star` is the network: a hub with two spokes, each in a namespace of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.lab import Keys, Lab, WireGuard, eventually, keypair, lab_prefix, missing
from wg_exporter.cli.netlab import LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Exporter, Namespace

OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

# What may differ between two scrapes of a network at rest.
VOLATILE = ("process_", "wireguard_exporter_source_duration_seconds")

_SHAKES = itertools.count()

Labels = dict[str, str]
Series = tuple[str, frozenset[tuple[str, str]]]


class Metrics:
    """One scrape. Raises AssertionError if a series is there twice, and what the parser raises if it is not valid."""

    def __init__(self, text: str, *, openmetrics: bool = False) -> None:
        self.text = text
        self.series: dict[Series, float] = {}
        for family in (parse_openmetrics if openmetrics else parse_text)(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.series, f"twice: {key}"
                self.series[key] = sample.value

    def all(self, name: str, /, **labels: str) -> list[tuple[Labels, float]]:
        """Every sample of a metric that has these labels."""
        return [
            (dict(have), value)
            for (metric, have), value in self.series.items()
            if metric == name and labels.items() <= dict(have).items()
        ]

    def one(self, name: str, /, **labels: str) -> float:
        """The value of the only such sample."""
        found = self.all(name, **labels)
        assert len(found) == 1, f"{len(found)} samples of {name}{labels}, and not one"
        return found[0][1]

    def labels(self, name: str, /, **labels: str) -> Labels:
        """All labels of the only such sample."""
        self.one(name, **labels)
        return self.all(name, **labels)[0][0]

    def names(self) -> set[str]:
        """The names of all metrics."""
        return {name for name, _ in self.series}

    def lasting(self) -> dict[Series, float]:
        """All but what changes from scrape to scrape."""
        return {key: value for key, value in self.series.items() if not key[0].startswith(VOLATILE)}


def scrape(exporter: Exporter, path: str = "/metrics") -> Metrics:
    """What a scrape gives; it must succeed."""
    answer = exporter.get(path)
    assert answer.status == 200, answer.text
    return Metrics(answer.text)


def until(exporter: Exporter, name: str, value: float, /, *, within: float = 30, **labels: str) -> Metrics:
    """The first scrape in which the only such sample has this value; fails after `within` seconds."""

    def look() -> Metrics | None:
        metrics = scrape(exporter)
        return metrics if [found for _, found in metrics.all(name, **labels)] == [value] else None

    return eventually(look, within=within, every=0.1)


class PeerDump(NamedTuple):
    """One line of `wg show IFACE dump` without its preshared key. `handshake` is in seconds since the epoch."""

    public_key: str
    endpoint: str
    allowed_ips: str
    handshake: int
    rx_bytes: int
    tx_bytes: int
    keepalive: int


class DeviceDump(NamedTuple):
    """`wg show IFACE dump` without its private key."""

    public_key: str
    listen_port: str
    peers: tuple[PeerDump, ...]


def dump(device: WireGuard) -> DeviceDump:
    """What wg(8) says of a device, peers by key, for wireguard-go has no order; nothing and off are written our way."""
    first, *rest = device.namespace.run(["wg", "show", device.name, "dump"]).splitlines()
    _private, public_key, listen_port, _fwmark = first.split("\t")
    peers = []
    for line in rest:
        key, _preshared, endpoint, allowed, handshake, rx, tx, keepalive = line.split("\t")
        shown = [part.replace("(none)", "") for part in (endpoint, allowed)]
        peers.append(PeerDump(key, *shown, *map(int, (handshake, rx, tx, keepalive.replace("off", "0")))))
    return DeviceDump(public_key, listen_port, tuple(sorted(peers)))


def served(metrics: Metrics, interface: str) -> DeviceDump:
    """The same device as /metrics has it, peers by key."""
    info = metrics.labels("wireguard_interface_info", interface=interface)

    def number(name: str, key: str) -> int:
        return int(metrics.one(f"wireguard_peer_{name}", interface=interface, public_key=key))

    return DeviceDump(
        info["public_key"],
        info["listen_port"],
        tuple(
            sorted(
                PeerDump(
                    (key := labels["public_key"]),
                    labels["endpoint"],
                    labels["allowed_ips"],
                    number("last_handshake_timestamp_seconds", key),
                    number("receive_bytes_total", key),
                    number("transmit_bytes_total", key),
                    number("persistent_keepalive_seconds", key),
                )
                for labels, _ in metrics.all("wireguard_peer_info", interface=interface)
            )
        ),
    )


def link_counters(namespace: Namespace, name: str) -> dict[str, int]:
    """`ip -s -j link` under the names of our metrics, with `up` and `mtu_bytes`."""
    (link,) = json.loads(namespace.ip("-s", "-j", "link", "show", name))
    sides = (("receive", link["stats64"]["rx"]), ("transmit", link["stats64"]["tx"]))
    counters = {
        f"{side}_{what}_total": values[what]
        for side, values in sides
        for what in ("bytes", "packets", "errors", "dropped")
    }
    return counters | {"up": int("UP" in link["flags"]), "mtu_bytes": link["mtu"]}


class Star(NamedTuple):
    """A hub and two spokes, 10.0.0.1 - 10.0.0.3, all three namespaces configured: by name, by path and by pid.

    `near` has a preshared key and two allowed IPs at the hub, `far` a persistent keepalive of an hour.
    """

    lab: Lab
    hub: WireGuard
    near: WireGuard
    far: WireGuard
    keys: dict[str, Keys]
    preshared: str

    def ping(self, count: int = 1) -> None:
        """Packets from both spokes through the hub's tunnels and back."""
        for spoke in (self.near, self.far):
            try:
                spoke.namespace.run(["ping", "-c", str(count), "-i", "0.01", "-W", "3", "10.0.0.1"])
            except LabError:
                # The wireguard-go of Debian 13 at times loses its first answer over IPv6, and is asked again after 5 s.
                spoke.namespace.run(["ping", "-c", str(count), "-i", "0.2", "-w", "12", "10.0.0.1"])

    def shake(self, spoke: WireGuard) -> None:
        """One more handshake with the hub, which a spoke that knows nothing any more has to make.

        With other bytes each time: counters that begin anew and end where they were look as if nothing had come.
        """
        spoke.namespace.run(["wg", "setconf", spoke.name, str(spoke.conf)])
        spoke.namespace.run(["ping", "-c", "1", "-W", "3", "-s", str(72 + 16 * next(_SHAKES)), "10.0.0.1"])

    def secrets(self) -> list[str]:
        """Every secret key of the network, base64."""
        return [*(keys.private for keys in self.keys.values()), self.preshared]

    def config(self, more: str = "") -> str:
        """An exporter configuration for these devices alone, which probes nobody unless `more` says how."""
        assert self.far.process
        quiet = "" if "probe:" in more else "probe: {enabled: false}\n"
        return f"""\
interfaces:
  include: ["{self.lab.prefix}*"]
namespaces:
  - {{name: centre, netns: {self.hub.namespace.name}}}
  - {{name: nearby, path: /run/netns/{self.near.namespace.name}}}
  - {{name: remote, pid: {self.far.process.pid}}}
{quiet}""" + (more or f'names: ["{self.lab.directory}/*.conf"]\n')


def star(lab: Lab) -> Star:
    """Builds the network, not yet shaken."""
    hub, near, far = (lab.namespace(name) for name in ("hub", "near", "far"))
    lab.link(hub, near, "192.0.2.1/30", "192.0.2.2/30")
    lab.link(hub, far, "2001:db8::1/64", "2001:db8::2/64")
    keys = {name: keypair() for name in ("hub", "near", "far")}
    preshared = run(["wg", "genpsk"]).strip()
    hub_conf = f"""\
[Interface]
PrivateKey = {keys["hub"].private}
ListenPort = 51820

[Peer]
# friendly_name = near
PublicKey = {keys["near"].public}
PresharedKey = {preshared}
AllowedIPs = 10.0.0.2/32, fd00::2/128

[Peer]
# friendly_name = far
PublicKey = {keys["far"].public}
AllowedIPs = 10.0.0.3/32
PersistentKeepalive = 3600
"""
    device = lab.wireguard(hub, "hub", hub_conf, ["10.0.0.1/24"])

    def spoke(namespace: Namespace, address: str, endpoint: str, more: str = "") -> WireGuard:
        conf = f"""\
[Interface]
PrivateKey = {keys[namespace.short].private}

[Peer]
# friendly_name = hub
PublicKey = {keys["hub"].public}
{more}AllowedIPs = 10.0.0.1/32
Endpoint = {endpoint}:51820
"""
        return lab.wireguard(namespace, namespace.short, conf, [address])

    return Star(
        lab,
        device,
        spoke(near, "10.0.0.2/24", "192.0.2.1", f"PresharedKey = {preshared}\n"),
        spoke(far, "10.0.0.3/24", "[2001:db8::1]"),
        keys,
        preshared,
    )


@contextlib.contextmanager
def lab_or_skip(directory: Path) -> Iterator[Lab]:
    """A lab of userspace WireGuard, for fixtures that outlive a test; skips with the reason where it can't be had."""
    lacking = missing()
    if not shutil.which("wireguard-go"):
        lacking.append("wireguard-go: no such command; apt-get install wireguard-go")
    if lacking:
        pytest.skip("; ".join(dict.fromkeys(lacking)))
    with Lab(lab_prefix(), directory, kernel=False) as lab:
        yield lab
