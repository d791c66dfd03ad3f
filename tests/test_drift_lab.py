"""Drift of a real device: every kind made with `wg` and `ip`, seen in the metric and by `wg-exporter drift`, and undone
by the very commands that it prints.

/etc/wireguard is a directory of the test's own, mounted where only its processes see it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import Exporter, WireGuard, eventually, keypair, start_exporter
from tests.lab.exporting import lab_or_skip, scrape, star
from tests.test_privsep import family, memory, written
from wg_exporter.cli.netlab import run as run_here
from wg_exporter.drift.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.lab

WITHIN = 20  # seconds, on a busy machine


class Place(NamedTuple):
    """A hub with its file, and the exporter that watches it."""

    device: WireGuard
    near: str
    far: str
    etc: Path
    config: Path
    socket: Path
    exporter: Exporter
    secrets: tuple[str, ...]

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command, where /etc/wireguard is the test's own."""
        return self.device.namespace.inside([*hidden(self.etc), *command])

    def wg(self, *arguments: str) -> None:
        """Change the device."""
        self.device.namespace.run(["wg", "set", self.device.name, *arguments])

    def drift(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """What the command says."""
        command = [sys.executable, "-m", "wg_exporter.cli", "drift", self.device.name, *flags]
        command += [f"--config.file={self.config}"]
        return subprocess.run(self.inside(command), capture_output=True, text=True, check=False)

    def asked(self, *flags: str) -> subprocess.CompletedProcess[str]:
        """The same from the exporter that runs."""
        return self.drift(f"--socket={self.socket}", *flags)

    def counted(self) -> dict[str, float]:
        """The kinds that differ, as the metric has them."""
        samples = scrape(self.exporter).all("wireguard_config_drift", interface=self.device.name)
        assert {labels["kind"] for labels, _ in samples} >= set(Kind) - {Kind.PRESHARED_KEY, Kind.PRIVATE_KEY}
        return {labels["kind"]: value for labels, value in samples if value}

    def load(self, printed: str) -> None:
        """Run the commands that were printed, as they are."""
        lines = printed.partition("To load the file:\n")[2].partition("  To keep")[0].splitlines()
        assert lines
        for line in lines:
            subprocess.run(self.inside(["bash", "-ec", line.strip()]), check=True, capture_output=True)


def hidden(etc: Path) -> list[str]:
    return ["unshare", "-m", "sh", "-c", f'mount --bind {etc} /etc/wireguard && exec "$@"', "sh"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("drift")
    etc = directory / "etc"
    etc.mkdir(mode=0o700)
    run_here(["mkdir", "-p", "/etc/wireguard"])
    with lab_or_skip(directory / "lab") as lab:
        network = star(lab)
        hub = network.hub
        near, far = (network.keys[name].public for name in ("near", "far"))
        # Nobody calls from here on, so that the endpoint in the file is the one in use.
        for spoke in (network.near, network.far):
            spoke.namespace.ip("link", "set", spoke.name, "down")
        text = hub.conf.read_text()
        head = f"Address = 10.0.0.1/24\nMTU = 1420\nFwMark = 0x10\nPrivateKey = {network.keys['hub'].private}"
        text = text.replace(f"PrivateKey = {network.keys['hub'].private}", head)
        text += "Endpoint = 198.51.100.9:51820\n"
        (etc / f"{hub.name}.conf").write_text(text)
        hub.namespace.run(["wg", "set", hub.name, "fwmark", "0x10", "peer", far, "endpoint", "198.51.100.9:51820"])
        config = directory / "config.yml"
        config.write_text(f'interfaces: {{include: ["{lab.prefix}hub"]}}\nprobe: {{enabled: false}}\n')
        socket = directory / "http.sock"
        flags = f"--web.unix-socket={socket}"
        with start_exporter(
            flags, directory=directory, config=config, namespace=hub.namespace, wrapper=hidden(etc)
        ) as exporter:
            yield Place(hub, near, far, etc, config, socket, exporter, (network.keys["hub"].private, network.preshared))


def test_a_device_that_is_as_its_file_says_does_not_differ(place):
    assert eventually(lambda: place.counted() == {}, within=WITHIN)
    for done in (place.asked(), place.drift("--socket=")):
        path = f"/etc/wireguard/{place.device.name}.conf"
        assert (done.returncode, done.stdout) == (0, f"{place.device.name} is as {path} says.\n"), done.stderr
        assert "looked" not in done.stderr


CHANGES = {
    "peer_missing": lambda place: place.wg("peer", place.far, "remove"),
    "peer_extra": lambda place: place.wg("peer", keypair().public, "allowed-ips", "10.0.0.99/32"),
    "allowed_ips": lambda place: place.wg("peer", place.near, "allowed-ips", "10.0.0.2/32"),
    "endpoint": lambda place: place.wg("peer", place.far, "endpoint", "198.51.100.10:51820"),
    "keepalive": lambda place: place.wg("peer", place.near, "persistent-keepalive", "7"),
    "listen_port": lambda place: place.wg("listen-port", "51999"),
    "fwmark": lambda place: place.wg("fwmark", "0x20"),
    "mtu": lambda place: place.device.namespace.ip("link", "set", place.device.name, "mtu", "1300"),
    "address": lambda place: place.device.namespace.ip("address", "del", "10.0.0.1/24", "dev", place.device.name),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_by_hand_is_one_difference_and_the_printed_commands_undo_it(place, kind):
    CHANGES[kind](place)
    assert eventually(lambda: place.counted() == {kind: 1}, within=WITHIN)
    done = place.asked()
    assert done.returncode == 1, done.stderr
    place.load(done.stdout)
    assert eventually(lambda: place.counted() == {}, within=WITHIN)


@pytest.mark.parametrize("how", ["other", "none", "more"])
def test_a_preshared_key_that_differs_is_told_without_a_word_of_it(place, tmp_path, how):
    (tmp_path / "key").write_text(run_here(["wg", "genpsk"]))
    whom = place.far if how == "more" else place.near
    place.wg("peer", whom, "preshared-key", "/dev/null" if how == "none" else str(tmp_path / "key"))
    done = place.drift("--socket=", "--json")
    (found,) = json.loads(done.stdout)["interfaces"]
    assert {kind: number for kind, number in found["drift"]["counts"].items() if number} == {"preshared_key": 1}
    (only,) = found["drift"]["differences"]
    assert (only["public_key"], only["file"], only["device"]) == (
        whom,
        *{"other": ("set", "another"), "none": ("set", None), "more": (None, "set")}[how],
    )
    place.load(place.drift("--socket=").stdout)
    assert place.drift("--socket=").returncode == 0


def test_a_private_key_that_differs_is_told_in_half_a_minute_by_the_exporter_too(place, tmp_path):
    (tmp_path / "key").write_text(keypair().private)
    place.wg("private-key", str(tmp_path / "key"))
    assert eventually(lambda: place.counted() == {"private_key": 1}, within=30 + WITHIN, every=1)
    done = place.asked()
    assert "  - PrivateKey = (hidden)\n  + PrivateKey = (hidden, another one)\n" in done.stdout
    assert not any(secret in done.stdout for secret in place.secrets)
    place.load(done.stdout)
    assert eventually(lambda: place.counted() == {}, within=30 + WITHIN, every=1)


def test_no_key_is_in_the_memory_of_any_process_after_they_were_compared(place):
    compared = [labels["kind"] for labels, _ in scrape(place.exporter).all("wireguard_config_drift")]
    assert {Kind.PRESHARED_KEY, Kind.PRIVATE_KEY} <= {*compared}
    found = {name: memory(process.pid) for name, process in family(place.exporter).items()}
    assert place.near.encode() in found["wg-web"], "this finds keys"
    assert "wg-read" in found
    for name, data in found.items():
        for secret in place.secrets:
            assert [form for form in written(secret) if form in data] == [], name


def test_a_file_that_is_edited_and_one_that_vanishes(place):
    path = place.etc / f"{place.device.name}.conf"
    before = path.read_text()
    try:
        path.write_text(before.replace("PersistentKeepalive = 3600", "PersistentKeepalive = 25"))
        assert eventually(lambda: place.counted() == {"keepalive": 1}, within=WITHIN)
        path.unlink()
        gone = eventually(lambda: not scrape(place.exporter).all("wireguard_config_drift"), within=WITHIN)
        assert gone, "without a file there is no sample"
        done = place.asked()
        assert (done.returncode, done.stdout) == (
            2,
            f"{place.device.name}: no file describes it, so nothing was compared.\n",
        )
    finally:
        path.write_text(before)
    assert eventually(lambda: scrape(place.exporter).all("wireguard_config_drift") != [], within=WITHIN)
    assert eventually(lambda: place.counted() == {}, within=WITHIN)


def test_a_netdev_with_a_drop_in_describes_a_device_as_well(place, tmp_path):
    networkd = tmp_path / "network"
    drop_ins = networkd / f"{place.device.name}.netdev.d"
    drop_ins.mkdir(parents=True)
    text = (place.etc / f"{place.device.name}.conf").read_text()
    text = text.replace("[Interface]", "[WireGuard]").replace("[Peer]", "[WireGuardPeer]")
    text = text.replace("FwMark", "FirewallMark").replace("Address = 10.0.0.1/24\n", "").replace("MTU = 1420\n", "")
    head = f"[NetDev]\nName = {place.device.name}\nKind = wireguard\nMTUBytes = 1420\n"
    (networkd / f"{place.device.name}.netdev").write_text(head + text)
    config = tmp_path / "config.yml"
    config.write_text(place.config.read_text() + f'names: ["{networkd}/*.netdev"]\n')
    there = place._replace(config=config)
    assert there.drift("--socket=").returncode == 0
    (drop_ins / "x.conf").write_text(f"[WireGuardPeer]\nPublicKey = {keypair().public}\nAllowedIPs = 10.0.0.50/32\n")
    done = there.drift("--socket=")
    assert done.returncode == 1
    assert "in 1 place" in done.stdout
    assert f"networkctl delete {place.device.name}" in done.stdout


def test_an_interface_of_another_namespace_has_no_file(place, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(place.config.read_text() + f"namespaces: [{{name: it, netns: {place.device.namespace.name}}}]\n")
    command = [sys.executable, "-m", "wg_exporter.cli", "drift", "--socket=", f"--config.file={config}"]
    done = subprocess.run([*hidden(place.etc), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "files describe the interfaces of this host's own network namespace" in done.stdout
