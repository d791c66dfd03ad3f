"""The systemd unit: what it takes away must not be needed, tried with the same capabilities on real devices."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, start_exporter, tunnel
from tests.test_privsep import family

if TYPE_CHECKING:
    from tests.lab import Lab

UNITS = Path(__file__).parents[1] / "deploy/systemd"
UNIT = UNITS / "wg-exporter.service"
NAMESPACES = UNITS / "wg-exporter.service.d/namespaces.conf"


SOCKET = UNITS / "wg-exporter.socket"


def under_the_capabilities_of(*units: Path) -> list[str]:
    """The command that starts another with no more than these units allow, and without a way to get more."""
    lines = [line for unit in units for line in unit.read_text().splitlines()]
    allowed = [line.partition("=")[2].split() for line in lines if line.startswith("CapabilityBoundingSet=")]
    names = [name.removeprefix("CAP_").lower() for names in allowed for name in names]
    assert names
    assert "NoNewPrivileges=yes" in lines
    return ["setpriv", "--no-new-privs", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in names)])]


@pytest.mark.lab
def test_the_capabilities_of_the_unit_suffice_for_devices_and_names(lab: Lab, tmp_path: Path) -> None:
    pair = tunnel(lab)
    config = f"interfaces: {{include: [{pair.hub.name}]}}\nnames: [{pair.hub.conf}]\n"
    with start_exporter(directory=tmp_path, config=config, wrapper=under_the_capabilities_of(UNIT)) as exporter:
        metrics = exporter.get("/metrics").text
        assert {"wg-exporter", "wg-web", "wg-read"} <= set(family(exporter))
    assert f'public_key="{pair.spoke_keys.public}",peer="spoke"' in metrics
    success = [line for line in metrics.splitlines() if line.startswith("wireguard_exporter_source_success{")]
    assert success
    assert all(line.endswith(" 1") for line in success), success


@pytest.mark.lab
def test_the_capabilities_of_the_unit_suffice_to_probe(lab: Lab, tmp_path: Path) -> None:
    pair = tunnel(lab)
    pair.ping()
    config = (
        f"interfaces: {{include: [{pair.hub.name}]}}\nnamespaces: [{{name: other, netns: {lab.prefix}hub}}]\n"
        f'peers: [{{public_key: "{pair.spoke_keys.public}", probe: true}}]\nprobe: {{interval: 200ms}}\n'
    )
    units = under_the_capabilities_of(UNIT, NAMESPACES)
    with start_exporter(directory=tmp_path, config=config, wrapper=units) as exporter:
        eventually(
            lambda: re.search(r"^wireguard_probe_up{.*} 1$", exporter.get("/metrics").text, re.MULTILINE), within=30
        )


def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    """With a program that is there, as it looks for that too; the drop-ins as they are installed."""
    for unit in (UNIT, SOCKET, *UNIT.with_suffix(".service.d").iterdir()):
        copy = tmp_path / unit.relative_to(UNITS)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(unit.read_text().replace("/opt/wg-exporter/bin/wg-exporter", sys.executable))
    for drop_in in ("accounting.conf", "namespaces.conf", "unprivileged.conf"):
        alone = tmp_path / drop_in.removesuffix(".conf")
        (alone / "wg-exporter.service.d").mkdir(parents=True)
        for name in ("wg-exporter.service", "wg-exporter.socket", f"wg-exporter.service.d/{drop_in}"):
            (alone / name).write_text((tmp_path / name).read_text())
        command = ["systemd-analyze", "verify", "--man=no", "wg-exporter.socket", "wg-exporter.service"]
        env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{alone}:/lib/systemd/system"}
        done = subprocess.run(command, cwd=alone, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), drop_in


def test_the_socket_unit_belongs_to_the_service_and_to_stream_sockets() -> None:
    lines = SOCKET.read_text().splitlines()
    assert SOCKET.stem == UNIT.stem, "by its name systemd finds the service"
    assert "ListenStream=9586" in lines
    assert not any(line.startswith(("Accept=", "ListenDatagram=")) for line in lines)


def test_the_filter_of_the_unit_lets_processes_give_up_their_rights() -> None:
    """These are among the system calls that @privileged takes away; later lines add to earlier ones."""
    filters = [line for line in UNIT.read_text().splitlines() if line.startswith("SystemCallFilter=")]
    assert filters.index("SystemCallFilter=capset @setuid fchown") > filters.index(
        "SystemCallFilter=~@privileged @resources"
    )


def test_a_reload_that_systemd_is_asked_for_during_the_start_waits_for_it() -> None:
    """The interpreter's own start is the one moment at which SIGHUP would end it."""
    lines = UNIT.read_text().splitlines()
    assert {"Type=notify", "NotifyAccess=main"} <= set(lines), "only the first process speaks for the service"


def test_the_unit_names_no_user_so_that_systemd_leaves_it_the_right_to_become_another() -> None:
    """.ci/deb-booted tries it under a real systemd; the tests here have none."""
    assert not [line for line in UNIT.read_text().splitlines() if line.startswith(("User=", "DynamicUser="))]


@pytest.mark.lab
@pytest.mark.parametrize(("units", "success"), [([UNIT], "0"), ([UNIT, NAMESPACES], "1")])
def test_another_namespace_takes_the_drop_in(lab: Lab, tmp_path: Path, units: list[Path], success: str) -> None:
    pair = tunnel(lab)
    config = f"interfaces: {{include: [{pair.hub.name}]}}\nnamespaces: [{{name: other, netns: {lab.prefix}hub}}]\n"
    with start_exporter(directory=tmp_path, config=config, wrapper=under_the_capabilities_of(*units)) as exporter:
        metrics = exporter.get("/metrics").text
    assert f'wireguard_exporter_source_success{{source="links",netns="other"}} {success}\n' in metrics
    assert (f'wireguard_interface_up{{interface="{pair.hub.name}",netns="other"}} 1\n' in metrics) == (success == "1")
