"""The network that the live test of the dashboards looks at, with all that a panel is there to show: see `live`.

A peer that is down and one that is up, whose host name leads elsewhere, an interface that is down, an MTU that is too
small at the far side, and another that is too large for the route, a device and a namespace that can't be read, an
exporter that ended, an alert that fires; and traffic that goes one way only, whose packets are counted.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.dashboards import ROOT, Query, filled_in
from tests.grafana import Grafana
from tests.lab import SOCKETS, eventually, servers, start_exporter
from tests.lab.exporting import lab_or_skip, star, until
from tests.test_end_to_end import rubbish
from wg_exporter.cli import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Exporter
    from tests.lab.exporting import Labels, Star
    from tests.lab.servers import Server

RULES = ROOT / "alerts" / "wireguard.rules.yml"
# What several hosts say of one peer, for which it would otherwise take three hubs.
SEVERAL = """\
groups:
  - name: test
    rules:
      - alert: WireGuardTestSeveral
        expr: max by (job, public_key) (wireguard_peer_state{state="down"}) == 1
        labels: {severity: critical}
"""
VALUES = {
    "__rate_interval": "8s",
    "__range": "2m",
    "job": ".+",
    "instance": ".+",
    "interface": ".+",
    "peer": ".+",
}
SCRAPE_TIMEOUT = 1  # s
NAMED = b"named" * 6 + b"!!"
"""The public key of a peer with a host name."""
# Datagrams to a port at which nobody listens, 50 a second.
SENDER = """\
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while True:
    try:
        sock.sendto(bytes(500), ("10.0.0.1", 9))
    except OSError:  # nobody listens
        pass
    time.sleep(0.02)
"""


class Asked:
    """A running Prometheus, asked as a panel asks."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def now(self, expr: str) -> list[Labels]:
        """The labels of the series that there are now."""
        return [labels for labels, _ in self.server.query(expr)]

    def over_time(self, expr: str) -> list[Labels]:
        """The labels of the series that there were in the last minute."""
        end = time.time()
        span = {"start": str(end - 60), "end": str(end), "step": "2s"}
        return [row["metric"] for row in self.server.api("query_range", query=expr, **span)["result"]]

    def ask(self, query: Query) -> list[Labels]:
        """The labels of what a panel gets."""
        # What looks back a day in steps of a minute would see nothing of a network that has lived for half of one.
        expr = filled_in(query.expr, VALUES).replace("[1d:1m]", "[5m:1s]")
        return self.now(expr) if query.instant else self.over_time(expr)


class Moment(NamedTuple):
    """One moment: what the panels show then, and what the exporter had told Prometheus until then."""

    server: Server
    time: float

    @property
    def grafana(self) -> Grafana:
        """The panels. Nothing is chosen in their variables."""
        return Grafana(self._ask, self.time, dict.fromkeys(("fleet", "host", "peer"), VALUES))

    def one(self, metric: str, **labels: str) -> float:
        """The value of the only such sample."""
        ((_, value),) = self._ask(_selector(metric, labels))
        return value

    def all(self, metric: str, **labels: str) -> list[tuple[Labels, float]]:
        """All such samples."""
        return self._ask(_selector(metric, labels))

    def grown(self, metric: str, span: str, **labels: str) -> float:
        """By how much the only such counter grew in a second, from the first to the last of its samples."""
        (row,) = self.server.api("query", query=f"{_selector(metric, labels)}[{span}]", time=str(self.time))["result"]
        (begin, first), *_, (end, last) = row["values"]
        return (float(last) - float(first)) / (end - begin)

    def _ask(self, expr: str) -> list[tuple[Labels, float]]:
        expr = expr.replace("[1d:1m]", "[5m:1s]")
        result = self.server.api("query", query=expr, time=str(self.time))["result"]
        return [(row["metric"], float(row["value"][1])) for row in result]


def _selector(metric: str, labels: dict[str, str]) -> str:
    return f"{metric}{{{', '.join(f'{name}={json.dumps(value)}' for name, value in labels.items())}}}"


class Scene(NamedTuple):
    """What is there to be looked at."""

    network: Star
    prometheus: Asked
    exporter: Exporter
    config: Path

    def moment(self) -> Moment:
        """A moment just past, for as long as one looks: all scrapes begun until then have ended, by their timeout."""
        return Moment(self.prometheus.server, time.time() - 2 * SCRAPE_TIMEOUT)

    @property
    def names(self) -> Path:
        """A file that gives a peer a host name, which leads elsewhere."""
        return self.config.with_name(f"{self.network.lab.prefix}named.conf")

    def text(self, name: str) -> str:
        """The configuration of the exporter, with this name for the peer that is up."""
        keys = self.network.keys
        return self.network.config(
            f"  - {{name: lost, netns: {self.network.lab.prefix}lost}}\n"
            f"names: [{self.names}]\npeers:\n"
            f"  - {{public_key: {json.dumps(keys['near'].public)}, name: {name}, fast: {{}}}}\n"
            f"  - {{public_key: {json.dumps(keys['far'].public)}, name: far, fast: {{}}}}\n"
            f"  - {{public_key: {json.dumps(keys['hub'].public)}, interface: {self.network.near.name}, name: hub,"
            " probe: true}\n"
            "expect: [{state: up, interface: '*hub'}, {state: any}]\n"
            "probe: {enabled: auto, interval: 500ms, suspect_interval: 500ms, timeout: 1s}\n"
            "health: {down_after: 15s}\naccounting: {enabled: true}\n"
        )


@contextlib.contextmanager
def live(directory: Path) -> Iterator[Scene]:
    """The network, with the exporter and a Prometheus, once all is as it should be and has been scraped."""
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(lab_or_skip(directory / "lab"))
        network = star(lab)
        network.near.namespace.ip("link", "set", network.near.name, "mtu", "1300")
        # What the near host sends in full is larger than its route takes: the fault of an MTU.
        network.near.namespace.ip("route", "change", "192.0.2.0/30", "dev", "to-hub", "mtu", "1340")
        network.ping()
        lab.start([sys.executable, "-c", SENDER], log="sender", namespace=network.near.namespace)
        stack.enter_context(rubbish(SOCKETS / f"{lab.prefix}rubbish.sock", b"nonsense\n\n"))
        config = directory / "exporter.yml"
        draft = Scene(network, None, None, config)  # type: ignore[arg-type]
        config.write_text(draft.text("near"))
        # A file describes devices of the exporter's own namespace, and all others here are elsewhere.
        draft.names.write_text(f"[Peer]\nPublicKey = {base64.b64encode(NAMED).decode()}\nEndpoint = localhost:51820\n")
        answer = f"listen_port=51820\npublic_key={NAMED.hex()}\nprotocol_version=1\nendpoint=192.0.2.99:51820\n"
        answer += "last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n"
        answer += "persistent_keepalive_interval=0\nallowed_ip=10.0.9.9/32\nerrno=0\n\n"
        stack.enter_context(rubbish(SOCKETS / f"{lab.prefix}named.sock", answer.encode()))
        exporter = stack.enter_context(
            start_exporter(f"--web.unix-socket={directory / 's'}", directory=directory, config=config)
        )
        ending = stack.enter_context(
            start_exporter(directory=directory, config="interfaces: {include: [none]}\nprobe: {enabled: false}\n")
        )
        prometheus = stack.enter_context(serving(directory, [exporter.port, ending.port]))
        scene = draft._replace(prometheus=prometheus, exporter=exporter)
        until(exporter, "wireguard_probe_up", 1.0, within=30, peer="far")
        until(exporter, "wireguard_exporter_capability", 1.0, within=30, name="bpf")
        until(exporter, "wireguard_probe_fast_up", 1.0, within=30, peer="near")
        until(exporter, "wireguard_mtu_verdict", 1.0, within=30, peer="near", verdict="remote_smaller")
        there = {"interface": network.near.name, "verdict": "fragmented_local"}
        until(exporter, "wireguard_mtu_verdict", 1.0, within=30, **there)
        for interface in ("nearby", network.near.name), ("", f"{lab.prefix}rubbish"):
            ask.quiet(str(directory / "s"), (*interface, ""), 3600.0, "")
        eventually(lambda: len(prometheus.now("wireguard_exporter_build_info")) == 2, within=30, every=0.3)
        ending.stop()
        for link in (network.far.name, "to-hub"):
            network.far.namespace.ip("link", "set", link, "down")
        firing = 'count(ALERTS{alertstate="firing", alertname=~"WireGuardPeerDown|WireGuardTestSeveral"}) == 2'
        eventually(lambda: prometheus.now(firing), within=60, every=0.5)
        # A few samples more for what counts changes.
        down = 'increase(wireguard_peer_down_seconds_total{peer="far"}[2m]) > 0'
        eventually(lambda: prometheus.now(down), within=30, every=0.5)
        yield scene


@contextlib.contextmanager
def serving(directory: Path, ports: list[int]) -> Iterator[Asked]:
    """A Prometheus that scrapes these ports of 127.0.0.1 each second."""
    (directory / "rules.yml").write_text(SEVERAL)
    targets = [f"127.0.0.1:{port}" for port in ports]
    settings = {
        "global": {"scrape_interval": "1s", "scrape_timeout": f"{SCRAPE_TIMEOUT}s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml", str(RULES)],
        "scrape_configs": [{"job_name": "wireguard", "static_configs": [{"targets": targets}]}],
    }
    with servers.prometheus(directory, settings) as server:
        yield Asked(server)
