"""The running program on real WireGuard in namespaces: what it serves is what `wg` and `ip` say, whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import SOCKETS, LabError, eventually, keypair, start_exporter
from tests.lab.exporting import Metrics, dump, lab_or_skip, link_counters, scrape, served, star, until
from wg_exporter.cli.netlab import run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.lab import Exporter, Lab
    from tests.lab.exporting import Star

pytestmark = pytest.mark.lab

SCRAPE_LIMIT = 9.0  # seconds that a scrape may take whatever hangs: it takes 3, and Prometheus gives up after 10


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    """One network for all tests that only look at it or undo what they do."""
    with lab_or_skip(tmp_path_factory.mktemp("end-to-end") / "lab") as lab:
        network = star(lab)
        network.ping()
        yield network


@pytest.fixture
def exporter(network: Star, tmp_path: Path) -> Iterator[Exporter]:
    """An exporter of that network, with all names from the files."""
    with start_exporter(directory=tmp_path, config=network.config()) as exporter:
        yield exporter


# What is served is what is there


def test_every_value_of_every_device_equals_wg_show_dump(network: Star, exporter: Exporter) -> None:
    for device, netns in ((network.hub, "centre"), (network.near, "nearby"), (network.far, "remote")):

        def at_rest(device=device) -> Metrics | None:
            before, metrics, after = dump(device), scrape(exporter), dump(device)
            assert served(metrics, device.name) == after or before != after
            return metrics if before == after else None

        metrics = eventually(at_rest, within=30)
        info = metrics.labels("wireguard_interface_info", interface=device.name)
        assert (info["netns"], info["backend"]) == (netns, "userspace")
        about = [labels for (_, have) in metrics.series if (labels := dict(have)).get("interface") == device.name]
        assert len(about) > 20
        assert {labels["netns"] for labels in about} == {netns}
        peers = len(dump(device).peers)
        assert metrics.one("wireguard_interface_peers", interface=device.name) == peers
        assert len(metrics.all("wireguard_peer_handshakes_total", interface=device.name)) == peers
        assert metrics.one("wireguard_interface_read_success", interface=device.name) == 1
    assert metrics.one("wireguard_exporter_devices") == 3
    near = metrics.labels("wireguard_peer_info", interface=network.hub.name, peer="near")
    assert near["allowed_ips"] == "10.0.0.2/32,fd00::2/128"
    assert metrics.one("wireguard_peer_allowed_ips", interface=network.hub.name, peer="near") == 2
    far = metrics.labels("wireguard_peer_info", interface=network.hub.name, peer="far")
    assert far["endpoint"].startswith("[2001:db8::2]:")


def test_bytes_grow_by_what_was_pinged(network: Star, exporter: Exporter) -> None:
    hub = network.hub.name

    def counters() -> list[float]:
        metrics = scrape(exporter)
        return [
            metrics.one(f"wireguard_peer_{side}_bytes_total", interface=hub, peer=peer)
            for side in ("receive", "transmit")
            for peer in ("near", "far")
        ]

    before = counters()
    network.ping(10)

    def grown() -> list[float]:
        return [after - then for after, then in zip(counters(), before, strict=True)]

    # Ten pings of 84 bytes, each padded to 96 in a message of 32; wireguard-go counts what it sent a moment later.
    eventually(lambda: min(grown()) >= 1280, within=30)
    assert max(grown()) <= 1280 + 400, "a keepalive or two may come on top"


def test_link_counters_equal_ip_link(network: Star, exporter: Exporter) -> None:
    network.ping(3)
    assert network.far.process
    # More packets than the queue of the device holds while its daemon sleeps, so that some are dropped.
    with stopped(network.far.process), pytest.raises(LabError):
        network.far.namespace.run(["ping", "-l", "700", "-c", "700", "-W", "1", "10.0.0.1"])
    assert link_counters(network.far.namespace, network.far.name)["transmit_dropped_total"] > 0
    for device in (network.hub, network.near, network.far):

        def at_rest(device=device) -> bool:
            before, metrics = link_counters(device.namespace, device.name), scrape(exporter)
            after = link_counters(device.namespace, device.name)
            ours = {name: metrics.one(f"wireguard_interface_{name}", interface=device.name) for name in after}
            assert ours == after or before != after
            return before == after

        assert eventually(at_rest, within=30)
        assert link_counters(device.namespace, device.name)["receive_packets_total"] >= 3


def test_a_device_of_a_namespace_that_is_not_configured_is_served_without_one(network: Star, tmp_path: Path) -> None:
    """Control sockets share a directory, so the device is seen; what it is in is not."""
    config = f'interfaces: {{include: ["{network.lab.prefix}*"]}}\nnames: []\n'
    with start_exporter(directory=tmp_path, config=config) as exporter:
        metrics = scrape(exporter)
        assert served(metrics, network.hub.name).public_key == network.keys["hub"].public
        assert not [key for key in metrics.series if "netns" in dict(key[1])]


def test_a_device_whose_link_is_out_of_sight_is_not_called_gone(network: Star, tmp_path: Path) -> None:
    """The hub has a peer expected up and is there, in a namespace that the exporter does not look into."""
    config = f"interfaces: {{include: [{network.hub.name}]}}\nnames: []\n"
    with start_exporter(directory=tmp_path, config=config) as exporter:
        metrics = scrape(exporter)
        assert metrics.one("wireguard_peer_expected_up", public_key=network.keys["far"].public) == 1
        assert metrics.one("wireguard_interface_read_success", interface=network.hub.name) == 1
        assert metrics.all("wireguard_interface_up", interface=network.hub.name) == []


def test_an_exporter_inside_a_namespace_calls_it_its_own(network: Star, tmp_path: Path) -> None:
    config = f"interfaces: {{include: [{network.hub.name}]}}\nnames: []\n"
    with start_exporter(directory=tmp_path, config=config, namespace=network.hub.namespace) as exporter:
        metrics = scrape(exporter)
        assert metrics.one("wireguard_interface_up", interface=network.hub.name) == 1
        assert "netns" not in metrics.labels("wireguard_interface_info", interface=network.hub.name)


# What is left out


def test_interfaces_metrics_and_endpoints_are_left_out_as_configured(network: Star, tmp_path: Path) -> None:
    config = network.config("names: []\nmetrics: {exclude: ['*_packets_total', wireguard_peer_info]}\n").replace(
        "namespaces:", f"  exclude: ['{network.near.name}']\nnamespaces:"
    )
    with start_exporter(directory=tmp_path, config=config) as exporter:
        metrics = scrape(exporter)
        interfaces = {labels["interface"] for labels, _ in metrics.all("wireguard_interface_info")}
        assert interfaces == {network.hub.name, network.far.name}
        assert network.near.name not in metrics.text
        names = metrics.names()
        assert "wireguard_peer_info" not in names
        assert "wireguard_peer_receive_bytes_total" in names
        assert not [name for name in names if name.endswith("_packets_total")]
        headers = [line.split()[2] for line in metrics.text.splitlines() if line.startswith("#")]
        assert not [name for name in headers if name.endswith("_packets_total") or name == "wireguard_peer_info"]


@pytest.mark.parametrize(
    ("mode", "near", "far"),
    [("full", "192.0.2.2:", "[2001:db8::2]:"), ("address", "192.0.2.2", "2001:db8::2"), ("off", "", "")],
)
def test_endpoints_are_served_as_far_as_configured(
    network: Star, tmp_path: Path, mode: str, near: str, far: str
) -> None:
    config = network.config(f"names: []\nmetrics: {{endpoint: {mode}}}\n")
    with start_exporter(directory=tmp_path, config=config) as exporter:
        metrics = scrape(exporter)
        for spoke, expected in (("near", near), ("far", far)):
            key = network.keys[spoke].public
            shown = metrics.labels("wireguard_peer_info", interface=network.hub.name, public_key=key)["endpoint"]
            assert shown.startswith(expected) if mode == "full" else shown == expected
        if mode != "full":
            mdlayher = scrape(exporter, "/metrics/mdlayher")
            assert "192.0.2.2:" not in mdlayher.text + metrics.text


# Devices that come, go and break


def test_devices_that_appear_and_vanish_are_followed(lab: Lab, tmp_path: Path) -> None:
    hub = lab.namespace("hub")
    conf = f"[Interface]\nPrivateKey = {keypair().private}\n[Peer]\nPublicKey = {keypair().public}\n"
    config = f"""\
interfaces: {{include: ["{lab.prefix}*"], expect: [hub/{lab.prefix}due]}}
namespaces: [{{name: hub, netns: {hub.name}}}]
names: []
"""
    with start_exporter(directory=tmp_path, config=config) as exporter:
        metrics = scrape(exporter)
        assert metrics.one("wireguard_exporter_devices") == 0
        assert metrics.all("wireguard_interface_up") == [({"interface": f"{lab.prefix}due", "netns": "hub"}, 0)]

        due, other = lab.wireguard(hub, "due", conf), lab.wireguard(hub, "other", conf)
        metrics = scrape(exporter)
        assert metrics.one("wireguard_exporter_devices") == 2
        assert {value for _, value in metrics.all("wireguard_interface_up")} == {1}

        hub.ip("link", "set", due.name, "down")
        assert scrape(exporter).one("wireguard_interface_up", interface=due.name) == 0
        hub.ip("link", "set", due.name, "up")
        assert scrape(exporter).one("wireguard_interface_up", interface=due.name) == 1

        for device in (due, other):
            assert device.process
            device.process.kill()
            device.process.wait(30)
        eventually(lambda: due.name not in hub.ip("link"), within=30)
        assert (SOCKETS / f"{due.name}.sock").exists(), "a killed daemon leaves its socket behind"
        metrics = scrape(exporter)
        assert metrics.one("wireguard_exporter_devices") == 0
        assert metrics.all("wireguard_interface_up") == [({"interface": due.name, "netns": "hub"}, 0)]
        assert metrics.all("wireguard_interface_read_success") == []
        assert metrics.one("wireguard_exporter_source_success", source="userspace") == 1
        assert "Traceback" not in exporter.log()


def test_a_gone_interface_that_had_a_peer_expected_up_stays_at_0_and_comes_back(lab: Lab, tmp_path: Path) -> None:
    hub = lab.namespace("hub")
    conf = f"""\
[Interface]
PrivateKey = {keypair().private}
[Peer]
PublicKey = {keypair().public}
Endpoint = 192.0.2.9:51820
PersistentKeepalive = 25
"""
    device = lab.wireguard(hub, "due", conf)
    config = f"""\
interfaces: {{include: ["{lab.prefix}*"]}}
namespaces: [{{name: hub, netns: {hub.name}}}]
names: []
"""
    with start_exporter(directory=tmp_path, config=config) as exporter:
        assert scrape(exporter).one("wireguard_peer_expected_up", interface=device.name) == 1
        assert device.process
        device.process.terminate()
        device.process.wait(30)
        gone = until(exporter, "wireguard_interface_up", 0, interface=device.name)
        assert gone.labels("wireguard_interface_up", interface=device.name)["netns"] == "hub"
        assert gone.one("wireguard_exporter_devices") == 0
        time.sleep(6)  # a tick later nobody has forgotten
        assert scrape(exporter).one("wireguard_interface_up", interface=device.name) == 0
        lab.wireguard(hub, "due", conf)
        until(exporter, "wireguard_interface_up", 1, interface=device.name)  # a pass under way may have begun before


def test_a_daemon_that_hangs_fails_alone_and_in_time_and_heals(network: Star, exporter: Exporter) -> None:
    assert network.near.process
    # The daemon is a child of nobody but this test, so to stop it is to stop it alone.
    with stopped(network.near.process):
        begun = time.monotonic()
        metrics = scrape(exporter)
        assert time.monotonic() - begun < SCRAPE_LIMIT
        assert metrics.one("wireguard_interface_read_success", interface=network.near.name) == 0
        failed = metrics.labels("wireguard_interface_read_success", interface=network.near.name)
        assert failed["netns"] == "nearby"
        assert metrics.all("wireguard_peer_info", interface=network.near.name) == []
        assert metrics.one("wireguard_interface_up", interface=network.near.name) == 1
        assert metrics.one("wireguard_exporter_devices") == 3
        for device in (network.hub, network.far):
            assert served(metrics, device.name).peers
            assert metrics.one("wireguard_interface_read_success", interface=device.name) == 1
        eventually(lambda: "did not answer within 2 s" in exporter.log(), within=30)
    metrics = scrape(exporter)
    assert metrics.one("wireguard_interface_read_success", interface=network.near.name) == 1
    assert served(metrics, network.near.name).peers
    assert exporter.log().count("did not answer within 2 s") == 1


def test_a_stop_while_a_daemon_hangs_and_scrapes_wait_waits_for_neither(network: Star, tmp_path: Path) -> None:
    assert network.near.process
    with (
        start_exporter(directory=tmp_path, config=network.config()) as exporter,
        stopped(network.near.process),
    ):
        scraping = threading.Thread(target=lambda: exporter.get("/metrics"))
        scraping.start()
        time.sleep(0.3)
        begun = time.monotonic()
        assert exporter.stop() == 0
        assert time.monotonic() - begun < 7.5, "or it would be killed"
        scraping.join(30)
        assert "Traceback" not in exporter.log()


def test_a_socket_that_answers_rubbish_fails_alone_and_is_quoted_nowhere(network: Star, tmp_path: Path) -> None:
    secret = "5ec7e7" * 10 + "abcd"
    name = f"{network.lab.prefix}rubbish"
    answer = f"private_key={secret}\nlisten_port=many\n{secret}\nerrno=0\n\n".encode()
    with (
        rubbish(SOCKETS / f"{name}.sock", answer) as remove,
        start_exporter("--log.level=debug", directory=tmp_path, config=network.config()) as exporter,
    ):
        metrics = scrape(exporter)
        assert metrics.one("wireguard_interface_read_success", interface=name) == 0
        assert metrics.all("wireguard_interface_info", interface=name) == []
        assert served(metrics, network.hub.name).peers
        assert metrics.one("wireguard_exporter_devices") == 4
        assert exporter.logged(f'msg="device not read" interface={name}')
        assert secret not in exporter.log() + metrics.text
        remove()
        assert scrape(exporter).all("wireguard_interface_read_success", interface=name) == []


def test_a_namespace_that_is_out_of_reach_for_a_while_does_not_move_its_devices(lab: Lab, tmp_path: Path) -> None:
    """Its name goes and comes back, the namespace itself and the daemon live on: neither a new series nor a page."""
    hub = lab.namespace("hub")
    conf = f"[Interface]\nPrivateKey = {keypair().private}\n[Peer]\nPublicKey = {keypair().public}\n"
    device = lab.wireguard(hub, "due", conf + "PersistentKeepalive = 25\n")
    config = f"""\
interfaces: {{include: ["{lab.prefix}*"]}}
namespaces: [{{name: hub, netns: {hub.name}}}]
names: []
"""
    assert device.process
    with start_exporter(directory=tmp_path, config=config) as exporter:
        assert scrape(exporter).labels("wireguard_interface_up", interface=device.name)["netns"] == "hub"
        run(["ip", "netns", "delete", hub.name])
        seen = [until(exporter, "wireguard_exporter_source_success", 0, source="links", netns="hub")]
        eventually(lambda: "does not exist" in exporter.log(), within=30)  # a tick has seen it too
        seen.append(scrape(exporter))
        run(["ip", "netns", "attach", hub.name, str(device.process.pid)])
        seen.append(until(exporter, "wireguard_interface_up", 1, interface=device.name, netns="hub"))
        for metrics in seen:
            about = [have for _, have in metrics.series if ("interface", device.name) in have]
            assert [have for have in about if ("netns", "hub") not in have] == []
            # The daemon has answered; only what comes from inside the namespace may be missing.
            assert metrics.one("wireguard_interface_peers", interface=device.name, netns="hub") == 1


def test_peers_that_come_and_go_during_scrapes_take_no_other_peer_with_them(network: Star, exporter: Exporter) -> None:
    done = threading.Event()
    strangers = [keypair().public for _ in range(5)]

    def stir() -> None:
        while not done.is_set():
            for change in ("allowed-ips 10.9.0.0/24", "remove"):
                peers = " ".join(f"peer {key} {change}" for key in strangers)
                network.hub.namespace.run(["wg", "set", network.hub.name, *peers.split()])

    stirring = threading.Thread(target=stir)
    stirring.start()
    try:
        counts = []
        for _ in range(40):
            metrics = scrape(exporter)
            peers = {
                labels["public_key"] for labels, _ in metrics.all("wireguard_peer_info", interface=network.hub.name)
            }
            assert peers >= {network.keys["near"].public, network.keys["far"].public}
            assert metrics.one("wireguard_interface_peers", interface=network.hub.name) == len(peers)
            assert metrics.one("wireguard_interface_read_success", interface=network.hub.name) == 1
            counts.append(len(peers))
    finally:
        done.set()
        stirring.join(30)
    assert len(set(counts)) > 1, "nothing changed, so nothing was tested"
    assert len(served(scrape(exporter), network.hub.name).peers) == 2


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While inside, the process does nothing."""
    os.kill(process.pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{process.pid}/task")
    try:
        eventually(lambda: all(_state(task) == "T" for task in tasks.iterdir()), within=30)
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def _state(task: Path) -> str:
    """The state of a thread, proc(5)."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def rubbish(path: Path, answer: bytes) -> Iterator[Callable[[], None]]:
    """A control socket that gives everyone this answer, and what removes it before its time."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client, suppress(OSError):
                    client.recv(64)  # what was not read would make its end a reset, after which nothing arrives
                    client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path.unlink
        finally:
            path.unlink(missing_ok=True)
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)
