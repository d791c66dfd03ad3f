"""The whole program with `accounting` on: what it serves, what it leaves, and what a reload or a death costs.

The device is the tun of test_accounting_hooks.py, and its daemon a socket that answers as wireguard-go does: emulated,
for what is tried here is all on this side of the tunnel. Through real tunnels: test_accounting_lab.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter
from tests.lab.exporting import scrape
from tests.test_accounting_hooks import foreign, tc, there, tun
from tests.test_systemd import UNIT, under_the_capabilities_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter
    from tests.test_accounting_hooks import Tun

__all__ = ["tun"]  # a fixture

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes a device and loads a program"),
]

ACCOUNTING = UNIT.with_suffix(".service.d") / "accounting.conf"
RECEIVED, SENT = "wireguard_peer_receive_packets_total", "wireguard_peer_transmit_packets_total"
ANSWER = f"""\
private_key={"22" * 32}
listen_port=51820
public_key={"11" * 32}
protocol_version=1
last_handshake_time_sec=0
last_handshake_time_nsec=0
tx_bytes=5
rx_bytes=6
persistent_keepalive_interval=0
allowed_ip=10.0.0.1/32
allowed_ip=fd00::1/128
errno=0

"""


def _serve(listening: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(100)
                connection.sendall(ANSWER.encode())


@pytest.fixture
def device(tun: Tun) -> Iterator[Tun]:
    path = Path("/var/run/wireguard") / f"{tun.name}.sock"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(8)
        threading.Thread(target=_serve, args=(listening,), daemon=True).start()
        try:
            yield tun
        finally:
            path.unlink()
            listening.shutdown(socket.SHUT_RDWR)


def configured(device: Tun, more: str = "", *, enabled: bool = True) -> str:
    return (
        f"names: []\nprobe: {{enabled: false}}\naccounting: {{enabled: {str(enabled).lower()}}}\n"
        f"interfaces: {{include: [{device.name}]}}\n{more}"
    )


def counted(exporter: Exporter) -> tuple[float, float] | None:
    """Received and sent; None if they are not counted."""
    metrics = scrape(exporter)
    return (metrics.one(RECEIVED), metrics.one(SENT)) if metrics.all(SENT) else None


def begun(exporter: Exporter) -> tuple[float, float]:
    """What is counted, once it is."""
    return eventually(lambda: counted(exporter), within=30)


def kill(exporter: Exporter) -> None:
    """All processes at once, so that none can clean up after another."""
    pids = list(exporter.processes().values())
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    exporter.process.wait(30)
    eventually(lambda: not any(map(_runs, pids)), within=30)


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("arguments", [(), ("--no-privsep",)])
def test_packets_are_counted_while_it_runs_and_nothing_is_left_at_its_end(
    device: Tun, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    before = there(device)
    with start_exporter(*arguments, directory=tmp_path, config=configured(device)) as exporter:
        assert begun(exporter) == (0, 0)
        for _ in range(3):
            device.send("10.0.0.1")
            device.receive("10.0.0.1")
        device.send("fd00::1")
        assert counted(exporter) == (3, 4)
        assert scrape(exporter).one("wireguard_exporter_capability", name="bpf") == 1
        (peer,) = json.loads(exporter.get("/api/v1/status").text)["devices"][0]["peers"]
        assert (peer["receive_packets"], peer["transmit_packets"]) == (3, 4)
        assert exporter.stop() == 0
    assert there(device) == before


def test_counts_go_on_over_a_reload_and_over_the_death_of_the_reader(device: Tun, tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    config.write_text(configured(device))
    with start_exporter(directory=tmp_path, config=config) as exporter:
        begun(exporter)
        device.send("10.0.0.1")
        config.write_text(configured(device, "metrics: {endpoint: off}\n"))
        exporter.reload()
        exporter.logged("configuration reloaded")
        assert counted(exporter) == (0, 1), "also what passed since the last look of the reader before"
        device.send("10.0.0.1")
        assert counted(exporter) == (0, 2)
        os.kill(exporter.processes()["wg-read"], signal.SIGKILL)
        eventually(lambda: not counted(exporter), within=30)
        assert begun(exporter) == (0, 2)
        device.send("10.0.0.1")
        assert counted(exporter) == (0, 3)


def test_accounting_that_is_turned_off_leaves_nothing_and_can_be_turned_on_again(device: Tun, tmp_path: Path) -> None:
    before = there(device)
    config = tmp_path / "config.yml"
    config.write_text(configured(device, enabled=False))
    with start_exporter(directory=tmp_path, config=config) as exporter:
        assert counted(exporter) is None
        assert not scrape(exporter).all("wireguard_exporter_capability", name="bpf")
        for enabled in (True, False, True):
            config.write_text(configured(device, enabled=enabled))
            exporter.reload()
            eventually(lambda on=enabled: (counted(exporter) is not None) == on, within=30)
            eventually(lambda on=enabled: ("wg-exporter" in there(device)) == on, within=30)
        assert exporter.stop() == 0
    assert there(device) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_what_a_killed_exporter_left_is_taken_over_or_taken_away_by_the_next(
    device: Tun, tmp_path: Path, enabled: bool
) -> None:
    before = there(device)
    with start_exporter(directory=tmp_path, config=configured(device)) as exporter:
        begun(exporter)
        kill(exporter)
    assert there(device).count("direct-action") == 2
    with start_exporter(directory=tmp_path, config=configured(device, enabled=enabled)) as exporter:
        if enabled:
            begun(exporter)
            device.send("10.0.0.1")
            assert counted(exporter) == (0, 1)
            assert there(device).count("direct-action") == 2
            assert exporter.stop() == 0
        eventually(lambda: there(device) == before, within=30)


def test_the_drop_in_of_the_unit_is_enough(device: Tun, tmp_path: Path) -> None:
    before = there(device)
    units = under_the_capabilities_of(UNIT, ACCOUNTING)
    with start_exporter(directory=tmp_path, config=configured(device), wrapper=units) as exporter:
        begun(exporter)
        device.send("10.0.0.1")
        assert counted(exporter) == (0, 1)
        assert exporter.stop() == 0
    assert there(device) == before


def test_without_the_right_there_is_one_line_and_all_else_goes_on(device: Tun, tmp_path: Path) -> None:
    units = under_the_capabilities_of(UNIT)
    with start_exporter(directory=tmp_path, config=configured(device), wrapper=units) as exporter:
        (line,) = exporter.logged("source failed")
        assert "CAP_BPF" in line
        for _ in range(3):
            metrics = scrape(exporter)
        assert metrics.one("wireguard_exporter_capability", name="bpf") == 0
        assert metrics.one("wireguard_exporter_source_success", source="accounting") == 0
        assert metrics.one("wireguard_peer_receive_bytes_total") == 6
        assert counted(exporter) is None
        assert len(exporter.logged("source failed")) == 1
    assert "wg-exporter" not in there(device)


def test_where_a_filter_may_come_first_there_is_one_line_and_no_metric_until_it_is_gone(
    device: Tun, tmp_path: Path
) -> None:
    tc("qdisc", "add", "dev", device.name, "clsact")
    foreign(device, "ingress", "1")
    with start_exporter(directory=tmp_path, config=configured(device)) as exporter:
        (line,) = exporter.logged("packets are not counted")
        assert device.name in line
        assert counted(exporter) is None
        tc("filter", "del", "dev", device.name, "ingress", "pref", "1")
        assert begun(exporter) == (0, 0)
        assert len(exporter.logged("packets are not counted")) == 1


def test_the_reader_alone_keeps_the_right(device: Tun, tmp_path: Path) -> None:
    with start_exporter(directory=tmp_path, config=configured(device)) as exporter:
        begun(exporter)
        held = {}
        for name, pid in exporter.processes().items():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            held[name] = [int(line.split()[1], 16) >> 39 & 1 for line in lines if line[:6] in {"CapEff", "CapPrm"}]
        assert held == {"wg-exporter": [1, 0], "wg-web": [0, 0], "wg-read": [1, 1]}, "permitted, effective"
