"""The configurations of deploy/prometheus, with real servers of Prometheus and real exporters, as they are shipped.

Only what a site has to change is changed here (addresses, where files are), and waits are cut short. One network for
all: a hub that expects two sites, seen by one exporter without and one with TLS.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import shutil
import ssl
from typing import TYPE_CHECKING, NamedTuple

import bcrypt
import pytest
import yaml

from tests.lab import Exporter, eventually, start_exporter
from tests.lab.exporting import lab_or_skip
from tests.lab.hub import HubDevice, Plan, exporter_config
from tests.lab.paging import RULES
from tests.lab.servers import PATIENCE, Server, running
from tests.promtool import ROOT, promtool
from tests.test_web_tls import certificate, secured

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [pytest.mark.lab, pytest.mark.prometheus]

DEPLOY = ROOT / "deploy/prometheus"
LOOKBACK = 12  # seconds; five minutes as shipped
SHORT = {
    "[2m]": "[8s]",
    "[3m]": "[8s]",
    "[5m]": "[8s]",
    "[4m]": f"[{LOOKBACK}s]",
    "keep_firing_for: 2m": "keep_firing_for: 5s",
}
PASSWORD = "correct horse"


class Over(Server):
    """A server that asks for a password over TLS. Whom to trust is in `ca`."""

    ca = ""

    def _get(self, path: str) -> bytes:
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        user = base64.b64encode(f"gw7:{PASSWORD}".encode()).decode()
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"Basic {user}"})
            response = connection.getresponse()
            body = response.read()
        assert response.status == 200, body
        return body


class Network(NamedTuple):
    """The hub, and what is seen of it."""

    device: HubDevice
    exporter: Exporter
    config: str


def shipped(name: str, **changes: str) -> str:
    """A file as it is shipped, with what a site changes; all of that must be there to be changed."""
    text = (DEPLOY / name).read_text()
    for old, new in changes.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, new)
    return text


def place(directory: Path, name: str, **changes: str) -> Path:
    """The same as a file, beside the rules, with intervals of a second."""
    hasty = {"scrape_interval: 15s": "scrape_interval: 1s\n  scrape_timeout: 1s"}
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(shipped(name, **changes, **hasty))
    return path


def put_rules(directory: Path, *paths: Path) -> None:
    (directory / "rules").mkdir(parents=True)
    for path in paths:
        text = path.read_text()
        for old, new in SHORT.items():
            text = text.replace(old, new)
        document = yaml.safe_load(text)
        for group in document["groups"]:
            group["interval"] = "1s"
        (directory / "rules" / path.name).write_text(yaml.safe_dump(document))


def command(config: Path, *options: str) -> Sequence[str]:
    storage = config.parent / "data"
    return ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={storage}", *options]


def agent(config: Path) -> Sequence[str]:
    """The command of agent.yml."""
    return [
        "prometheus",
        "--enable-feature=agent",
        f"--config.file={config}",
        f"--storage.agent.path={config.parent / 'agent'}",
    ]


def firing(server: Server) -> set[tuple[str, str]]:
    """Alerts that fire, and at which host."""
    found = server.query('ALERTS{alertstate="firing", alertname!="Watchdog"}')
    return {(labels["alertname"], labels["instance"]) for labels, _ in found if "instance" in labels}


def wait(server: Server, query: str, values: list[float], within: float = 60) -> list[dict[str, str]]:
    """The labels of what a query gives, once it has these values."""

    def look() -> list[dict[str, str]]:
        found = server.query(query)
        return [labels for labels, _ in found] if sorted(value for _, value in found) == values else []

    return eventually(look, within=within, every=0.3)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if not shutil.which("prometheus"):
        pytest.skip("prometheus: no such command; apt-get install prometheus")
    directory = tmp_path_factory.mktemp("sites")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        device = HubDevice(lab, hub, "main", 0, [Plan("north"), Plan("south")])
        config = exporter_config(lab, hub, [device])
        with start_exporter(directory=directory, config=config) as exporter:
            yield Network(device, exporter, config)


# As files


@pytest.mark.parametrize("name", ["scrape.yml", "central.yml", "federation.yml", "agent.yml"])
def test_promtool_accepts_the_file_as_it_is_shipped(name: str) -> None:
    mode = ["--agent"] if name == "agent.yml" else []
    done = promtool("check", "config", "--syntax-only", *mode, DEPLOY / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_of_silence() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", DEPLOY / "silent.rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_name_the_same_job_and_the_rules_that_go_with_them() -> None:
    text = {name: (DEPLOY / name).read_text() for name in ("scrape.yml", "agent.yml", "federation.yml", "central.yml")}
    assert "job_name: wireguard" in text["scrape.yml"]
    assert "job_name: wireguard" in text["agent.yml"]
    assert 'up{job="wireguard"}' in text["federation.yml"]
    for name in ("central.yml", "federation.yml"):
        assert "silent.rules.yml" in text[name]


# Scraped over TLS, by name and by file, and taken over by another


@pytest.fixture(scope="module")
def site(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of a site: scrape.yml, without rules, which belong to one of both."""
    directory = tmp_path_factory.mktemp("site")
    web = directory / "web"
    web.mkdir(mode=0o700)
    certificate(web, "one", address=False)
    (web / "config.yml").write_text(network.config)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    users = (
        f"tls_server_config: {{cert_file: one.crt, key_file: one.key}}\nbasic_auth_users: {{prometheus: '{hashed}'}}\n"
    )
    with secured(web, users) as exporter:
        config = place(
            directory,
            "scrape.yml",
            **{
                "gw1.example.net:9586": f"localhost:{exporter.port}",
                "gw2.example.net:9586": "localhost:1",
                "wireguard-ca.crt": "web/one.crt",
                "localhost:9093": "localhost:2",
            },
        )
        (directory / "wireguard.password").write_text(PASSWORD)
        targets = shipped("targets.example.yml", **{"gw3.example.net:9586": f"127.0.0.1:{exporter.port}"})
        (directory / "targets").mkdir()
        (directory / "targets/berlin.yml").write_text(targets)
        checked = promtool("check", "config", config)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        with running(command(config), directory / "prometheus.log") as server:
            yield server


def test_gateways_are_scraped_over_tls_with_the_password_and_others_are_down(site: Server) -> None:
    (found,) = wait(site, 'up{instance=~"localhost:.*"} == 1', [1])
    assert (found["job"], found.keys() - {"__name__"}) == ("wireguard", {"job", "instance"})
    wait(site, 'up{instance="localhost:1"}', [0])


def test_a_gateway_of_a_file_has_its_labels_and_its_certificate_is_checked(site: Server) -> None:
    """By its address, for which the certificate is not, it is down."""
    found = wait(site, 'up{site="berlin"}', [0, 0])
    assert {labels["job"] for labels in found} == {"wireguard"}
    errors = " ".join(target["lastError"] for target in site.api("targets")["activeTargets"])
    assert "127.0.0.1" in errors
    assert "x509" in errors


def test_federation_keeps_the_labels_and_brings_every_series_and_up(
    network: Network, site: Server, tmp_path: Path
) -> None:
    config = place(
        tmp_path / "federation",
        "federation.yml",
        **{
            "prometheus.berlin.example.net:9090": f"127.0.0.1:{site.port}",
            "prometheus.lisbon.example.net:9090": "127.0.0.1:1",
            "localhost:9093": "localhost:2",
        },
    )
    put_rules(config.parent, RULES, DEPLOY / "silent.rules.yml")
    checked = promtool("check", "config", config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    wait(site, 'wireguard_peer_state{state="up"} == 1', [1, 1])
    with running(command(config), config.parent / "prometheus.log") as server:
        state = 'wireguard_peer_state{job="wireguard", state="up"} == 1'
        wait(server, state, [1, 1])
        ours, theirs = (sorted(map(str, wait(one, state, [1, 1]))) for one in (server, site))
        assert ours == theirs
        wait(server, 'up{job="wireguard", silent="", instance!~"localhost:1"}', [0, 0, 1])
        (silent,) = wait(server, 'up{job="federate"} == 0', [0])
        assert silent["instance"] == "127.0.0.1:1"
        names = {labels["__name__"] for labels, _ in site.query('{__name__=~"wireguard_.+"}')}
        wait(server, f'count(group by (__name__) ({{__name__=~"wireguard_.+"}})) >= {len(names)}', [len(names)])
        # The rules work on it: what is expected up is counted, and nothing is wrong.
        wait(server, "wireguard:interface_expected_peers", [2])
        assert "WireGuardPeerDown" not in {name for name, _ in firing(server)}
        assert "err=" not in "".join(line for line in server.log().splitlines() if 'component="rule manager"' in line)


# Sent from where nobody reaches it

GATEWAY = "gw7.example.net:9586"


class Remote(NamedTuple):
    central: Server
    agent_config: Path


@pytest.fixture(scope="module")
def remote(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A central server, with TLS and a user for the gateway, and what its agent is started with."""
    directory = tmp_path_factory.mktemp("central")
    certificate(directory, "central")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (directory / "web.yml").write_text(
        f"tls_server_config: {{cert_file: central.crt, key_file: central.key}}\nbasic_auth_users: {{gw7: '{hashed}'}}\n"
    )
    config = place(directory, "central.yml", **{"localhost:9093": "localhost:2"})
    put_rules(directory, RULES, DEPLOY / "silent.rules.yml")
    checked = promtool("check", "config", config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    options = ["--web.enable-remote-write-receiver", f"--query.lookback-delta={LOOKBACK}s"]
    kind = type("Central", (Over,), {"ca": str(directory / "central.crt")})
    started = command(config, *options, f"--web.config.file={directory / 'web.yml'}")
    with running(started, directory / "prometheus.log", kind) as central:
        sent = place(
            directory / "agent",
            "agent.yml",
            **{
                "127.0.0.1:9586": f"127.0.0.1:{network.exporter.port}",
                "prometheus.example.net:9090": f"localhost:{central.port}",
                "central-ca.crt": "../central.crt",
            },
        )
        (sent.parent / "central.password").write_text(PASSWORD)
        checked = promtool("check", "config", "--agent", sent)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        yield Remote(central, sent)


def test_what_an_agent_sends_pages_and_stays_down_while_the_agent_is_silent(network: Network, remote: Remote) -> None:
    """One story: a peer is cut off; then the uplink of its gateway; then that is back, and the exporter is stopped."""
    central = remote.central
    log = remote.agent_config.parent / "agent.log"
    peer, exporter = ("WireGuardPeerDown", GATEWAY), ("WireGuardExporterDown", GATEWAY)
    with running(agent(remote.agent_config), log):
        (up,) = wait(central, "up", [1], within=PATIENCE)
        assert {key: up[key] for key in up if key != "__name__"} == {"job": "wireguard", "instance": GATEWAY}
        wait(central, 'wireguard_peer_state{state="up"} == 1', [1, 1])
        network.device.sites["north"].firewall()
        eventually(lambda: peer in firing(central), within=90, every=0.3)
        assert exporter not in firing(central)

    # The agent is gone. Nothing says so but silence.
    wait(central, 'up{silent="true"}', [0])
    eventually(lambda: exporter in firing(central), within=60, every=0.3)
    wait(central, "count(wireguard_peer_state) or vector(0)", [0])  # all that it told has vanished
    wait(central, "count(last_over_time(wireguard_peer_state[12s])) or vector(0)", [0])
    assert {peer, exporter} <= firing(central)

    with running(agent(remote.agent_config), log):
        (up,) = wait(central, "up == 1", [1])
        eventually(lambda: not central.query('up{silent="true"}'), within=60, every=0.3)
        eventually(lambda: exporter not in firing(central), within=60, every=0.3)
        assert peer in firing(central)
        # It is the alert that began with the cut: an alert that had ended would have another beginning.
        began = 'changes(ALERTS_FOR_STATE{alertname="WireGuardPeerDown"}[10m])'
        assert {value for _, value in central.query(began)} == {0}

        # An exporter that is stopped while its agent goes on is up = 0 by the agent's own scrape.
        network.exporter.stop()
        wait(central, 'up{silent=""}', [0])
        assert not central.query('up{silent="true"}')
        eventually(lambda: exporter in firing(central), within=60, every=0.3)
        assert peer in firing(central)
