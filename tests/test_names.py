"""Friendly names on real devices: from files that people write, followed while the exporter runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lab import eventually, keypair, start_exporter
from tests.lab.exporting import Metrics, scrape

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.lab import Keys, Lab, WireGuard

pytestmark = pytest.mark.lab

HARD_NAMES = ('Büro "Nord"', "C:\\new\\table", "東京 🗼", '{a="b"}', "it's 100 %\\")


def test_names_with_quotes_backslashes_and_unicode_arrive_as_they_were_written(lab: Lab, tmp_path: Path) -> None:
    peers = [keypair() for _ in HARD_NAMES]
    device = hub(lab, "hub", peers)
    names = name_file(tmp_path, device, peers, HARD_NAMES)
    with start_exporter(directory=tmp_path, config=config(lab, names)) as exporter:
        metrics = scrape(exporter)
        assert shown(metrics, device) == {peer.public: name for peer, name in zip(peers, HARD_NAMES, strict=True)}
        theirs = scrape(exporter, "/metrics/mindflavor").all("wireguard_sent_bytes_total")
        assert {labels["friendly_name"] for labels, _ in theirs} == set(HARD_NAMES)


def test_a_name_that_changes_in_its_file_changes_in_the_next_scrapes_without_a_restart(
    lab: Lab, tmp_path: Path
) -> None:
    peers = [keypair(), keypair()]
    device = hub(lab, "hub", peers)
    names = name_file(tmp_path, device, peers, ("old", "stays"))
    with start_exporter(directory=tmp_path, config=config(lab, names)) as exporter:
        assert set(shown(scrape(exporter), device).values()) == {"old", "stays"}
        name_file(tmp_path, device, peers, ("new", "stays"))
        eventually(lambda: set(shown(scrape(exporter), device).values()) == {"new", "stays"}, within=30)


def test_two_peers_of_one_name_and_one_peer_on_two_devices_stay_apart(lab: Lab, tmp_path: Path) -> None:
    twins = [keypair(), keypair()]
    first, second = hub(lab, "one", twins), hub(lab, "two", twins[:1])
    names = name_file(tmp_path, first, twins, ("phone", "phone"))
    name_file(tmp_path, second, twins[:1], ("handy",))
    with start_exporter(directory=tmp_path, config=config(lab, names)) as exporter:
        metrics = scrape(exporter)  # which fails on a series that is there twice
        assert shown(metrics, first) == {twin.public: "phone" for twin in twins}
        assert shown(metrics, second) == {twins[0].public: "handy"}
        assert len(metrics.all("wireguard_peer_receive_bytes_total", peer="phone")) == 2


def test_a_bad_names_file_is_one_warning_per_change_and_the_rest_goes_on(lab: Lab, tmp_path: Path) -> None:
    peers = [keypair(), keypair()]
    bad, good = hub(lab, "bad", peers), hub(lab, "good", peers)
    names = name_file(tmp_path, good, peers, ("a", "b"))
    spoilt = names.with_name(f"{bad.name}.conf")
    replace(spoilt, f"[Peer]\nPublicKey = {peers[0].public[:-3]}\nPresharedKey = {peers[0].private}\n")
    with start_exporter(directory=tmp_path, config=config(lab, names)) as exporter:

        def warnings() -> list[str]:
            every = [line for line in exporter.log().splitlines() if spoilt.name in line]
            lines = [line for line in every if 'msg="drift changed"' not in line]
            assert all("level=warn" in line for line in lines), lines
            return lines

        eventually(lambda: len(warnings()) == 1, within=30)
        assert f"{spoilt}:" in warnings()[0]
        replace(spoilt, "what is this?\n")
        eventually(lambda: len(warnings()) == 2, within=30)
        metrics = scrape(exporter)
        assert set(shown(metrics, good).values()) == {"a", "b"}
        assert len(shown(metrics, bad)) == 2
        assert metrics.one("wireguard_exporter_source_success", source="conf") == 1
        # One more tick or two, in which another device is news and the bad file is not.
        names.unlink()
        hub(lab, "more", peers[:1])
        eventually(lambda: "devices=3" in exporter.log(), within=30)
        assert len(warnings()) == 2
        assert set(shown(scrape(exporter), good).values()) == {peer.public[:8] for peer in peers}, "its file is gone"
        assert peers[0].private not in exporter.log()


def hub(lab: Lab, name: str, peers: Sequence[Keys]) -> WireGuard:
    """A device with these peers, in a namespace of its own."""
    conf = f"[Interface]\nPrivateKey = {keypair().private}\n"
    conf += "".join(f"[Peer]\nPublicKey = {peer.public}\n" for peer in peers)
    return lab.wireguard(lab.namespace(name), name, conf)


def name_file(directory: Path, device: WireGuard, peers: Sequence[Keys], names: Sequence[str]) -> Path:
    """Writes the file of a device in DIRECTORY/names."""
    path = directory / "names" / f"{device.name}.conf"
    path.parent.mkdir(exist_ok=True)
    pairs = zip(peers, names, strict=True)
    replace(path, "".join(f"[Peer]\n# friendly_name = {name}\nPublicKey = {peer.public}\n\n" for peer, name in pairs))
    return path


def replace(path: Path, text: str) -> None:
    """At once, as an editor does it: nobody reads a half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def config(lab: Lab, names: Path) -> str:
    return f'interfaces: {{include: ["{lab.prefix}*"]}}\nnames: ["{names.parent}/*.conf"]\n'


def shown(metrics: Metrics, device: WireGuard) -> dict[str, str]:
    """Public key -> the `peer` label."""
    return {
        labels["public_key"]: labels["peer"] for labels, _ in metrics.all("wireguard_peer_info", interface=device.name)
    }
