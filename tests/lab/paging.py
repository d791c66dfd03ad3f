"""A real Prometheus with the shipped rules, a real Alertmanager with the example's routes, and somebody to be paged.

    with inbox() as pager, alertmanager(directory, pager) as manager:
        with prometheus(directory, [exporter.port], manager, interval=2):
            ...
            pager.wait("WireGuardPeerDown", peer="north", within=60)

The routes, groups and inhibitions are those of deploy/alertmanager.example.yml; its receivers are replaced by one
webhook each, and PagerDuty is told here what it would be told. Everything listens on loopback, on ports of its own.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.lab import eventually, servers
from tests.lab.servers import STOP_TIMEOUT, running

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.lab.servers import Server

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "alerts/wireguard.rules.yml"
EXAMPLE = ROOT / "deploy/alertmanager.example.yml"


INCIDENTS = "incidents"


class Page(NamedTuple):
    """One alert of one notification. `at` is when it was received (monotonic, seconds)."""

    at: float
    receiver: str
    status: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


class Inbox:
    """Everything that Alertmanager has sent. `notifications` are (receiver, status, labels of the group), each once for
    all of its alerts; `incidents` what PagerDuty would have got of them, in the words of the example.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.received: list[Page] = []
        self.notifications: list[tuple[str, str, Mapping[str, str]]] = []
        self.incidents: list[Mapping[str, Any]] = []

    def take(self, receiver: str, notification: Mapping[str, Any]) -> None:
        if receiver == INCIDENTS:
            self.incidents.append(notification)
            return
        now = time.monotonic()
        self.notifications.append((receiver, notification["status"], notification["groupLabels"]))
        self.received += [
            Page(now, receiver, alert["status"], alert["labels"], alert["annotations"])
            for alert in notification["alerts"]
        ]

    def pages(self, name: str = "", status: str = "firing", **labels: str) -> list[Page]:
        """What was received of an alert, the oldest first."""
        return [
            page
            for page in list(self.received)
            if page.status == status
            and name in {"", page.labels["alertname"]}
            and labels.items() <= page.labels.items()
        ]

    def names(self, status: str = "firing", **labels: str) -> set[str]:
        """The names of the alerts that were received."""
        return {page.labels["alertname"] for page in self.pages(status=status, **labels)}

    def wait(self, name: str, status: str = "firing", *, within: float, **labels: str) -> Page:
        """The first such page."""
        return eventually(lambda: (self.pages(name, status, **labels) or [None])[0], within=within, every=0.1)


@contextlib.contextmanager
def inbox() -> Iterator[Inbox]:
    """A webhook receiver; the path of a request is the name of the receiver that was routed to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.take(self.path.strip("/"), json.loads(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing: what was received is in the inbox."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Inbox(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join(STOP_TIMEOUT)


@contextlib.contextmanager
def alertmanager(directory: Path, to: Inbox, *, impatient: bool = False) -> Iterator[Server]:
    """An Alertmanager with the example's configuration. An `impatient` one tells of changes after seconds."""
    config = yaml.safe_load(EXAMPLE.read_text())
    config["receivers"] = [
        {
            "name": receiver["name"],
            "webhook_configs": [{"url": f"http://127.0.0.1:{to.port}/{receiver['name']}", "send_resolved": True}],
            "pagerduty_configs": [
                {key: value for key, value in shipped.items() if key != "routing_key_file"}
                | {"routing_key": "any", "url": f"http://127.0.0.1:{to.port}/{INCIDENTS}"}
                for shipped in receiver.get("pagerduty_configs", ())
            ],
        }
        for receiver in config["receivers"]
    ]
    for section in ("global", "templates"):
        config.pop(section, None)
    if impatient:
        _hasten(config["route"])
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    storage = directory / "alertmanager"
    command = ["prometheus-alertmanager", f"--config.file={path}", f"--storage.path={storage}"]
    with running([*command, "--cluster.listen-address="], directory / "alertmanager.log") as server:
        yield server


@contextlib.contextmanager
def prometheus(
    directory: Path,
    targets: Iterable[int],
    manager: Server,
    *,
    interval: float,
    impatient: bool = False,
    more_rules: str = "",
) -> Iterator[Server]:
    """A Prometheus that scrapes these ports every `interval` seconds and evaluates the shipped rules.

    An `impatient` one evaluates all rules every 2 s and keeps firing for a sixth of the time, so that a test sees
    alerts resolve, in their order.
    `more_rules` are a file of rules besides.
    """
    rules = RULES.read_text()
    if impatient:
        document = yaml.safe_load(rules)
        for group in document["groups"]:
            group["interval"] = "2s"
            for rule in group["rules"]:
                if "keep_firing_for" in rule:
                    rule["keep_firing_for"] = f"{int(rule['keep_firing_for'].removesuffix('m')) * 10}s"
        rules = yaml.safe_dump(document, sort_keys=False)
    (directory / "shipped.rules.yml").write_text(rules)
    (directory / "more.rules.yml").write_text(more_rules or "groups: []\n")
    config = {
        "global": {"scrape_interval": f"{interval:g}s", "scrape_timeout": f"{min(interval, 10):g}s"},
        "rule_files": ["shipped.rules.yml", "more.rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{manager.port}"]}]}]},
        "scrape_configs": [
            {"job_name": "wireguard", "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in targets]}]}
        ],
    }
    options = ["--rules.alert.resend-delay=2s"] if impatient else []
    with servers.prometheus(directory, config, *options) as server:
        yield server


def _hasten(route: dict[str, Any]) -> None:
    for key in ("group_wait", "group_interval"):
        if route.get(key) not in {None, "0s", "1s"}:  # what is as quick stays as it is shipped
            route[key] = "2s"
    for below in route.get("routes", ()):
        _hasten(below)
