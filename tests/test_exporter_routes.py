"""Routes from the question to the state: the tick asks, the next look answers, and a reload changes nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rigs import Rig, found, shaken
from tests.rows import conf_file, device, link
from wg_exporter.config import Config
from wg_exporter.model import SourceName

if TYPE_CHECKING:
    from pathlib import Path

    from wg_exporter.daemon.exporter import Exporter

AWAY = {(7, "10.0.0.1"): "this host has no route to 10.0.0.1"}
REASON = "wireguard_peer_reason"


@pytest.fixture
def host(rig: Rig) -> Rig:
    rig.host.devices, rig.host.links = [device(shaken(1, -5))], [link(addresses=("10.0.0.254/24",))]
    return rig


def reasons(exporter: Exporter) -> list[str]:
    return [dict(labels)["reason"] for labels in found(exporter, REASON)]


def ticks(rig: Rig, exporter: Exporter, number: int) -> list[list[str]]:
    """The reasons after each of some ticks; the peer is heard all the time."""
    told = []
    for _ in range(number):
        row = rig.host.devices[0].peers[0]
        rig.tick(exporter, device(row._replace(rx_bytes=row.rx_bytes + 32)))
        told.append(reasons(exporter))
    return told


def test_what_stands_in_the_way_is_served_and_named(host: Rig) -> None:
    host.host.routes = AWAY
    exporter = host.exporter()
    told = ticks(host, exporter, 6)
    assert told[0] == []
    assert told[-1] == ["not_routed"]
    assert "this host has no route to 10.0.0.1" in exporter.status().summary.unhealthy[0].health.evidence
    assert exporter.status().summary.degraded == 1
    host.host.routes = dict.fromkeys(AWAY, "")
    assert ticks(host, exporter, 2)[-1] == []


def test_a_reload_and_a_source_that_fails_for_a_while_change_nothing(host: Rig, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("health: {loss: 0.2}\n")
    host.host.routes = AWAY
    exporter = host.exporter(Config(), path)
    assert ticks(host, exporter, 6)[-1] == ["not_routed"]
    assert exporter.reload() == ""
    assert ticks(host, exporter, 4) == [["not_routed"]] * 4
    host.host.problems[SourceName.LINKS] = "no answer"
    assert ticks(host, exporter, 4) == [["not_routed"]] * 4


def test_a_reload_that_says_it_is_meant_to_be_so_ends_it(host: Rig, tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_text("interfaces: {settings: [{interface: wg0, routes: ignore}]}\n")
    host.host.routes = AWAY
    exporter = host.exporter(Config(), path)
    assert ticks(host, exporter, 6)[-1] == ["not_routed"]
    assert exporter.reload() == ""
    assert ticks(host, exporter, 2)[-1] == []


def test_a_file_that_gets_a_table_of_its_own_ends_it(host: Rig) -> None:
    host.host.routes = AWAY
    exporter = host.exporter()
    assert ticks(host, exporter, 6)[-1] == ["not_routed"]
    host.host.conf = (conf_file("wg0")._replace(own_table=True),)
    assert ticks(host, exporter, 2)[-1] == []
