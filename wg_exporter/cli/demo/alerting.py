"""Prometheus and Alertmanager for the demo, with the rules and the routes that are shipped.

They are the programs that this host has under their usual names. They keep their data in the lab's directory and end
with the lab. Nobody is notified: receivers that do nothing replace those of the example.
"""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING, NamedTuple

import yaml

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.cli.netlab import Lab

HOST = "127.0.0.1"
SCRAPE_SECONDS = 5
RULES = "alerts/wireguard.rules.yml"
EXAMPLE = "deploy/alertmanager.example.yml"
PROMETHEUS = ("prometheus",)
ALERTMANAGER = ("prometheus-alertmanager", "alertmanager")  # Debian's name, and everybody else's


class Alerting(NamedTuple):
    """The addresses of both, for a browser."""

    prometheus: str
    alertmanager: str


def missing(checkout: Path) -> str:
    """What is missing to show alerts, in one line; empty if nothing is."""
    if not _found(PROMETHEUS) or not _found(ALERTMANAGER):
        return "no alerts are shown: apt-get install prometheus prometheus-alertmanager"
    if absent := [path for path in (RULES, EXAMPLE) if not (checkout / path).is_file()]:
        return f"no alerts are shown: there is no {checkout / absent[0]}; run the demo from a checkout"
    return ""


def start(lab: Lab, checkout: Path, target: str) -> Alerting:
    """Start both for the exporter at `target` (address:port). `checkout` has the shipped files.

    Raises LabError if one can't be started.
    """
    ports = _port(9090), _port(9093)
    config = yaml.safe_load((checkout / EXAMPLE).read_text())
    config["receivers"] = [{"name": receiver["name"]} for receiver in config["receivers"]]
    for secret in ("global", "templates"):
        config.pop(secret, None)
    manager = lab.write("alertmanager.yml", yaml.safe_dump(config))
    lab.start(
        [
            _found(ALERTMANAGER),
            f"--config.file={manager}",
            f"--storage.path={lab.directory / 'alertmanager'}",
            f"--web.listen-address={HOST}:{ports[1]}",
            "--cluster.listen-address=",
        ],
        log="alertmanager.log",
    )
    shown = lab.write("prometheus.yml", yaml.safe_dump(_prometheus(checkout / RULES, target, f"{HOST}:{ports[1]}")))
    lab.start(
        [
            _found(PROMETHEUS),
            f"--config.file={shown}",
            f"--storage.tsdb.path={lab.directory / 'prometheus'}",
            "--storage.tsdb.retention.time=1d",
            # It looks for Alertmanager some seconds after its start. By default it would repeat after a minute what
            # fired before that.
            "--rules.alert.resend-delay=10s",
            f"--web.listen-address={HOST}:{ports[0]}",
        ],
        log="prometheus.log",
    )
    return Alerting(f"http://{HOST}:{ports[0]}/alerts", f"http://{HOST}:{ports[1]}")


def _prometheus(rules: Path, target: str, manager: str) -> dict[str, object]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(rules)],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
        "scrape_configs": [{"job_name": "wireguard", "static_configs": [{"targets": [target]}]}],
    }


def _found(names: tuple[str, ...]) -> str:
    """The path of the first of these programs that is there, or empty."""
    return next((path for path in map(shutil.which, names) if path), "")


def _port(usual: int) -> int:
    """The usual port if it is free, or any other."""
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    return usual
