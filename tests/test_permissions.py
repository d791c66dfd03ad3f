"""An exporter without rights: it runs, says what it lacks and how to grant it, and serves nothing that looks fine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import SOCKETS, eventually, start_exporter
from tests.lab.anyone import NOBODY
from tests.lab.exporting import Metrics, lab_or_skip, scrape, star

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter
    from tests.lab.anyone import Anyone
    from tests.lab.exporting import Star

pytestmark = pytest.mark.lab

ROOT_WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


class Powerless(NamedTuple):
    exporter: Exporter
    network: Star
    names: Path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Star]:
    with lab_or_skip(tmp_path_factory.mktemp("permissions") / "lab") as lab:
        yield star(lab)


@pytest.fixture(scope="module")
def powerless(network: Star, anyone: Anyone) -> Iterator[Powerless]:
    """An exporter run by nobody, with a configuration that it can read and a names file that it can't."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        names = directory / f"{network.hub.name}.conf"
        shutil.copy(network.hub.conf, names)
        names.chmod(0o600)
        config = network.config(f"names: [{names}]\n")
        with start_exporter(
            "--log.level=debug",
            directory=directory,
            config=config,
            wrapper=NOBODY,
            python=anyone.python,
            env=anyone.env,
        ) as exporter:
            yield Powerless(exporter, network, names)


def test_it_starts_and_answers_with_success_0_for_what_it_could_not_read(powerless: Powerless) -> None:
    metrics = scrape(powerless.exporter)
    for source in ("userspace", "conf"):
        assert metrics.one("wireguard_exporter_source_success", source=source) == 0
    for netns in ("centre", "nearby", "remote"):
        failed = {value for _, value in metrics.all("wireguard_exporter_source_success", netns=netns)}
        assert failed == {0}, netns
    assert metrics.all("wireguard_peer_info") == []
    assert metrics.all("wireguard_interface_read_success") == []


def test_its_capability_gauges_are_0(powerless: Powerless) -> None:
    metrics = scrape(powerless.exporter)
    able = {labels["name"]: value for labels, value in metrics.all("wireguard_exporter_capability")}
    assert able == {"net_admin": 0, "net_raw": 0, "uapi": 0, "conf_read": 0, "netns": 0}


def test_the_kernel_source_is_0_where_the_kernel_has_wireguard(powerless: Powerless) -> None:
    """Where the kernel has none there is nothing to be denied, and the source is fine; both are right answers."""
    denied = Path("/sys/module/wireguard").exists()
    success = {
        labels.get("netns", ""): value
        for labels, value in scrape(powerless.exporter).all("wireguard_exporter_source_success", source="kernel")
    }
    assert success[""] == (0 if denied else 1)
    if denied:
        eventually(lambda: "reading WireGuard devices needs CAP_NET_ADMIN" in powerless.exporter.log(), within=30)


def test_the_log_says_what_is_missing_and_how_to_grant_it(powerless: Powerless) -> None:
    def failures() -> list[str]:
        return [line for line in powerless.exporter.log().splitlines() if 'msg="source failed"' in line]

    wanted = {
        "source=userspace": (str(SOCKETS), "run as root"),
        "source=conf": (str(powerless.names), "run as root, or give the names under `peers`"),
        "netns=centre": ("grant CAP_SYS_ADMIN",),
        "netns=nearby": ("grant CAP_SYS_ADMIN",),
        "netns=remote": ("CAP_SYS_PTRACE",),
    }
    eventually(lambda: len(failures()) >= len(wanted), within=30)
    for where, words in wanted.items():
        lines = [line for line in failures() if where in line]
        assert lines, where
        assert all(word in line for word in words for line in lines), lines
        assert all("level=error" in line for line in lines)
    assert "Traceback" not in powerless.exporter.log()


def test_no_page_looks_fine(powerless: Powerless) -> None:
    """Neither of the other exporters' pages pretends to know devices, and both say that a source failed."""
    for path in ("/metrics/mindflavor", "/metrics/mdlayher"):
        answer = powerless.exporter.get(path)
        assert answer.status == 200
        metrics = Metrics(answer.text)
        assert {name for name, _labels in metrics.series} == {"wireguard_exporter_source_success"}
        assert metrics.one("wireguard_exporter_source_success", source="conf") == 0


def test_the_same_failure_is_logged_once(powerless: Powerless) -> None:
    eventually(lambda: "source=conf" in powerless.exporter.log(), within=30)
    lines = [line.partition("msg=")[2] for line in powerless.exporter.log().splitlines() if "source failed" in line]
    assert len(lines) == len(set(lines))


def test_root_without_capabilities_still_reads_the_sockets_of_root(
    network: Star, tmp_path: Path, anyone: Anyone
) -> None:
    config = network.config("names: []\n")
    with start_exporter(
        directory=tmp_path, config=config, wrapper=ROOT_WITHOUT_CAPABILITIES, python=anyone.python, env=anyone.env
    ) as exporter:
        metrics = scrape(exporter)
        assert metrics.one("wireguard_exporter_source_success", source="userspace") == 1
        assert len(metrics.all("wireguard_interface_info")) == 3
        assert metrics.one("wireguard_exporter_source_success", source="links", netns="centre") == 0
        assert metrics.one("wireguard_exporter_capability", name="netns") == 0
        assert metrics.one("wireguard_exporter_capability", name="uapi") == 1
