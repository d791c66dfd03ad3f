"""An exporter in the guest, what it serves, and what `wg` and `ip` say of the same devices."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.vm.guest.build import sh

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = dict[str, str]


class Metrics:
    """One scrape, by metric name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.said: Said | None = None
        self._samples: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for line in text.splitlines():
            if line and not line.startswith("#"):
                match = _SAMPLE.match(line)
                assert match, line
                labels = dict(_LABEL.findall(match[2] or ""))
                self._samples[match[1]].append((labels, float(match[3])))

    def all(self, name: str, /, **labels: str) -> list[tuple[Labels, float]]:
        """Every sample of a metric that has these labels."""
        return [(have, value) for have, value in self._samples[name] if labels.items() <= have.items()]

    def one(self, name: str, /, **labels: str) -> float:
        """The value of the only such sample."""
        found = self.all(name, **labels)
        assert len(found) == 1, f"{len(found)} samples of {name}{labels}"
        return found[0][1]


class Exporter:
    """`wg-exporter serve` as a process, with its log in a file."""

    def __init__(self, log: Path, *arguments: str, before: Sequence[str] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._log = log
        command = [*before, sys.executable, "-m", "wg_exporter.cli", "serve"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", *arguments]
        with log.open("w") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        deadline = time.monotonic() + 300
        while not self._answers():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, self.log()

    def _answers(self) -> bool:
        try:
            self.get("/-/ready")
        except OSError:
            return False
        return True

    def get(self, path: str) -> str:
        """The body of a 200. Raises OSError (urllib.error.HTTPError) for anything else."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=120) as answer:
            return answer.read().decode()

    def scrape(self) -> Metrics:
        """One scrape."""
        return Metrics(self.get("/metrics"))

    def log(self) -> str:
        """All that was logged so far."""
        return self._log.read_text()


class WgPeer(NamedTuple):
    """A peer as `wg show all dump` has it (wg(8)), in the exporter's units."""

    interface: str
    public_key: str
    endpoint: str
    allowed_ips: tuple[str, ...]
    handshake: float
    received: float
    sent: float
    keepalive: float


def wg(interfaces: str = "all") -> tuple[dict[str, tuple[str, str]], list[WgPeer], set[str]]:
    """Devices (name to public key and port), peers, and every secret that is in them."""
    devices, peers, secrets = {}, [], set()
    for line in sh(f"wg show {interfaces} dump").splitlines():
        name, *fields = line.split("\t")
        if len(fields) == 4:
            devices[name] = (_text(fields[1]), fields[2])
            secrets.add(fields[0])
        else:
            key, preshared, endpoint, allowed, stamp, received, sent, keepalive = fields
            secrets.add(preshared)
            networks = tuple(_text(allowed).split(",")) if _text(allowed) else ()
            often = 0.0 if keepalive == "off" else float(keepalive)
            peers.append(
                WgPeer(name, key, _text(endpoint), networks, float(stamp), float(received), float(sent), often)
            )
    return devices, peers, secrets - {"(none)"}


def _text(field: str) -> str:
    return "" if field == "(none)" else field


class Said(NamedTuple):
    """What the tools said of all devices of this namespace at one moment."""

    devices: dict[str, tuple[str, str]]
    peers: list[WgPeer]
    links: dict[str, dict[str, Any]]

    @classmethod
    def now(cls) -> Self:
        """Ask them."""
        devices, peers, _ = wg()
        links = json.loads(sh("ip -s -j link show type wireguard") or "[]")
        return cls(devices, peers, {link["ifname"]: link for link in links if link})


def scrape_at_rest(exporter: Exporter) -> Metrics:
    """A scrape between two looks of the tools that are the same, so that nothing moved while it was made.

    The scrape before it is between them too, and had the kernel's answer in time. So it may have shared a read that
    began before the last change, or got one that came too late for the scrape before: this one can do neither.
    """
    for _ in range(20):
        before, first, metrics, after = Said.now(), exporter.scrape(), exporter.scrape(), Said.now()
        if before == after and first.one("wireguard_exporter_source_success", source="kernel") == 1:
            metrics.said = before
            return metrics
    raise TimeoutError("the devices never came to rest, or the kernel was never read in time")


def check_against_wg(metrics: Metrics) -> int:
    """Every value of every device and peer equals that of `wg show all dump`, with none too many; how many."""
    assert metrics.said, "take the metrics with scrape_at_rest"
    devices, peers = metrics.said.devices, metrics.said.peers
    info = {labels["interface"]: labels for labels, _ in metrics.all("wireguard_interface_info")}
    assert {name: (i["public_key"], i["listen_port"]) for name, i in info.items()} == devices
    for name in devices:
        assert info[name]["backend"] == "kernel"
        assert metrics.one("wireguard_interface_read_success", interface=name) == 1
        assert metrics.one("wireguard_interface_peers", interface=name) == sum(p.interface == name for p in peers)
    expected = {
        "receive_bytes_total": lambda p: p.received,
        "transmit_bytes_total": lambda p: p.sent,
        "last_handshake_timestamp_seconds": lambda p: p.handshake,
        "persistent_keepalive_seconds": lambda p: p.keepalive,
        "allowed_ips": lambda p: len(p.allowed_ips),
    }
    for name, value in expected.items():
        samples = metrics.all(f"wireguard_peer_{name}")
        served = {(labels["interface"], labels["public_key"]): float(int(value)) for labels, value in samples}
        assert len(samples) == len(served)
        assert served == {(p.interface, p.public_key): value(p) for p in peers}, name
    _check_info(metrics, peers)
    return len(peers)


def _check_info(metrics: Metrics, peers: list[WgPeer]) -> None:
    served = {(i["interface"], i["public_key"]): i for i, _ in metrics.all("wireguard_peer_info")}
    assert len(served) == len(peers)
    for peer in peers:
        labels = served[peer.interface, peer.public_key]
        assert labels["endpoint"] == peer.endpoint
        shown, more = labels["allowed_ips"].split(","), len(peer.allowed_ips) - 16
        if more > 0:
            assert shown.pop() == f"+{more}"
        assert set(shown) - {""} <= set(peer.allowed_ips)
        assert len(set(shown) - {""}) == min(16, len(peer.allowed_ips))


def check_against_ip(metrics: Metrics, interface: str) -> None:
    """The counters of a device equal those of `ip -s link`."""
    assert metrics.said, "take the metrics with scrape_at_rest"
    link = metrics.said.links[interface]
    for ours, theirs in (("receive", "rx"), ("transmit", "tx")):
        for kind in ("bytes", "packets", "errors", "dropped"):
            served = metrics.one(f"wireguard_interface_{ours}_{kind}_total", interface=interface)
            assert served == link["stats64"][theirs][kind], kind
    assert metrics.one("wireguard_interface_mtu_bytes", interface=interface) == link["mtu"]
    assert metrics.one("wireguard_interface_up", interface=interface) == ("UP" in link["flags"])
