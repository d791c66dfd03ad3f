"""Tunnels that work and that users' packets don't reach, made real: what each is called, and after how many seconds.

One story, told once, as in test_faults.py: a hub whose exporter watches it as shipped. Probes are bound to the device
and pass nearly everywhere; this host's own routes and allowed IPs are broken in all ways at the same time, and mended.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.faults import Story, Watch
from tests.lab import SOCKETS, eventually, keypair, start_exporter
from tests.lab.exporting import lab_or_skip
from tests.lab.hub import HubDevice, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab, Namespace, WireGuard

pytestmark = pytest.mark.lab

BROKEN_FOR = 30.0  # seconds

# The last byte of each site's address says which it is; the others stand for what must not be called a fault.
SITES = ("well", "lost", "ruled", "barred", "astray", "sourced", "marked", "moved", "robbed", "thief")
LATER = ("bare", "owned")  # those whose target the configuration names


def traveller(lab: Lab, host: Namespace, server: Namespace) -> WireGuard:
    """A device through which this host sends everything, as wg-quick sets it up: but for what the tunnel itself sends,
    which is marked.
    """
    near, far = keypair(), keypair()
    _, end = lab.link(server, host, "198.18.9.1/30", "198.18.9.2/30")
    host.ip("route", "add", "default", "via", "198.18.9.1", "dev", end)
    conf = f"[Interface]\nPrivateKey = {far.private}\nListenPort = 51820\n\n[Peer]\nPublicKey = {near.public}\n"
    lab.wireguard(server, "exit", conf + "AllowedIPs = 10.99.0.2/32\n", ["10.99.0.1/24"])
    conf = f"""\
[Interface]
PrivateKey = {near.private}
FwMark = 51820

[Peer]
# friendly_name = exit
PublicKey = {far.public}
AllowedIPs = 0.0.0.0/0
Endpoint = 198.18.9.1:51820
PersistentKeepalive = 25
"""
    device = lab.wireguard(host, "away", conf, ["10.99.0.2/32"])
    host.ip("route", "add", "default", "dev", device.name, "table", "51820")
    host.ip("rule", "add", "not", "fwmark", "51820", "table", "51820")
    host.ip("rule", "add", "table", "main", "suppress_prefixlength", "0")
    return device


def config(lab: Lab, hub: Namespace, away: WireGuard, devices: dict[str, HubDevice]) -> str:
    main = devices["main"]
    tabled = lab.write(f"{devices['tabled'].name}.txt", devices["tabled"].conf)
    own = lab.directory / "own" / f"{devices['tabled'].name}.conf"
    own.parent.mkdir(exist_ok=True)
    own.write_text(tabled.read_text().replace("[Interface]\n", "[Interface]\nTable = off\n"))
    names = [str(own), str(away.conf), *(str(devices[name].device.conf) for name in ("main", "free", "second"))]
    include = [device.name for device in devices.values()] + [away.name]
    key = {name: main.sites[name].keys.public for name in LATER}
    exits = next(line for line in away.conf.read_text().splitlines() if "PublicKey" in line).split(" = ")[1]
    return f"""\
interfaces:
  include: [{", ".join(include)}]
  settings: [{{interface: {devices["free"].name}, routes: ignore}}]
namespaces: [{{name: hub, netns: {hub.name}}}, {{name: away, netns: {away.namespace.name}}}]
names: [{", ".join(names)}]
peers:
  - {{public_key: "{key["bare"]}", target: 10.77.0.200}}
  - {{public_key: "{key["owned"]}", target: {main.sites["well"].address}}}
  - {{public_key: "{exits}", target: 10.99.0.1}}
"""


def break_all(hub: Namespace, main: HubDevice, others: dict[str, HubDevice]) -> None:
    at = {name: site.address for name, site in main.sites.items()}
    out = "to-well"  # a cable of the hub: packets leave, and not into the tunnel
    hub.ip("route", "del", "10.77.0.0/24", "dev", main.name)
    for name, address in at.items():
        if name not in {"lost", "astray", "sourced", "marked", "moved"}:
            hub.ip("route", "add", address, "dev", main.name)
    for name in ("astray", "sourced", "marked"):
        hub.ip("route", "add", at[name], "dev", out)
    hub.ip("route", "add", at["moved"], "dev", others["second"].name)
    hub.ip("route", "add", "default", "dev", out, "table", "99")
    hub.ip("rule", "add", "to", at["ruled"], "lookup", "99")
    hub.ip("rule", "add", "to", at["barred"], "prohibit")
    hub.ip("route", "add", "default", "dev", main.name, "table", "98")
    hub.ip("rule", "add", "from", "192.168.7.0/24", "to", at["sourced"], "lookup", "98")
    hub.ip("rule", "add", "fwmark", "7", "to", at["marked"], "lookup", "98")
    for name in ("free", "tabled"):
        hub.ip("route", "flush", "dev", others[name].name)
    thief = main.sites["thief"].keys.public
    both = f"{at['thief']}/32,{at['robbed']}/32"
    hub.run(["wg", "set", main.name, "peer", thief, "allowed-ips", both])


def mend(hub: Namespace, main: HubDevice) -> None:
    hub.ip("rule", "del", "to", main.sites["ruled"].address, "lookup", "99")
    hub.ip("rule", "del", "to", main.sites["barred"].address, "prohibit")
    hub.ip("route", "replace", main.sites["astray"].address, "dev", main.name)
    hub.ip("route", "add", main.sites["lost"].address, "dev", main.name)
    for name in ("thief", "robbed"):
        site = main.sites[name]
        hub.run(["wg", "set", main.name, "peer", site.keys.public, "allowed-ips", f"{site.address}/32"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("routes")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan(name) for name in SITES + LATER])
        others = {
            name: HubDevice(lab, hub, name, at, [Plan(f"{name}1")])
            for at, name in enumerate(("free", "tabled", "second"), 1)
        }
        away = traveller(lab, lab.namespace("away"), lab.namespace("exit"))
        assert not SOCKETS.joinpath("to-well.sock").exists()
        text = config(lab, hub, away, {"main": main, **others})
        with start_exporter(directory=directory, config=text) as exporter:
            watch = Watch(exporter)
            try:
                all_of_them = {*SITES, "free1", "tabled1", "second1", "exit"}
                eventually(
                    lambda: {n for n in all_of_them if watch.now(n) == "up"} == all_of_them, within=60, every=0.5
                )
                eventually(lambda: all(watch.now(name) == "degraded" for name in LATER), within=60, every=0.5)
                broke = dict.fromkeys(watch.seen, time.monotonic())
                break_all(hub, main, others)
                time.sleep(BROKEN_FOR)
                mended = time.monotonic()
                mend(hub, main)
                again = ("lost", "ruled", "barred", "astray", "robbed")
                eventually(lambda: all(watch.now(name) == "up" for name in again), within=40, every=0.5)
            finally:
                watch.stop()
            yield Story(watch.seen, broke, mended, exporter.log())


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        pytest.param("lost", "not_routed", id="there-is-no-route"),
        pytest.param("ruled", "not_routed", id="a-rule-leads-elsewhere"),
        pytest.param("barred", "not_routed", id="a-rule-prohibits-it"),
        pytest.param("astray", "not_routed", id="a-route-leads-elsewhere"),
        pytest.param("robbed", "not_allowed", id="a-second-peer-took-its-allowed-ip"),
    ],
)
def test_a_peer_that_users_packets_do_not_reach_is_degraded_within_half_a_minute(
    story: Story, peer: str, reason: str
) -> None:
    before, *rows = story.while_broken(peer)
    assert before[1:] == ("up", "")
    assert [row[1:] for row in rows] == [("degraded", reason)]
    assert 14 <= rows[0].at <= 30


@pytest.mark.parametrize("peer", ["lost", "ruled", "barred", "astray", "robbed"])
def test_it_is_up_again_when_that_is_mended(story: Story, peer: str) -> None:
    assert [row[1:] for row in story.afterwards(peer)] == [("up", "")]
    assert story.afterwards(peer)[0].at <= story.mended + 20


@pytest.mark.parametrize("peer", LATER)
def test_a_target_that_the_allowed_ips_do_not_give_to_the_peer_is_degraded_from_the_start(
    story: Story, peer: str
) -> None:
    assert story.seen[peer][-1][1:] == ("degraded", "not_allowed")


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param("well", id="nothing-is-wrong"),
        pytest.param("sourced", id="a-rule-sends-users-packets-by-where-they-come-from"),
        pytest.param("marked", id="a-rule-sends-marked-packets-into-the-tunnel"),
        pytest.param("moved", id="routed-into-another-wireguard-device"),
        pytest.param("free1", id="routes-ignore-in-the-configuration"),
        pytest.param("tabled1", id="table-off-in-the-file"),
        pytest.param("exit", id="full-tunnel-with-fwmark"),
        pytest.param("thief", id="the-peer-that-took-the-allowed-ip"),
    ],
)
def test_whoever_is_reached_or_is_meant_to_be_so_stays_up(story: Story, peer: str) -> None:
    # From the first state on, which every peer has found by then.
    assert {row[1:] for row in story.seen[peer]} == {("up", "")}


def test_each_of_them_has_a_line_in_the_log_that_says_what_stands_in_the_way(story: Story) -> None:
    lines = {}
    for line in story.log.splitlines():
        if "peer changed" in line and "after=degraded" in line:
            lines[line.split("peer=")[1].split()[0]] = line
    assert "this host has no route to 10.77.0.3" in lines["lost"]
    assert "this host sends packets to 10.77.0.4 out of to-well, table 99" in lines["ruled"]
    assert "a route or rule of this host refuses packets to 10.77.0.5 (prohibit)" in lines["barred"]
    assert "this host sends packets to 10.77.0.6 out of to-well" in lines["astray"]
    assert "10.77.0.10/32, which its file gives to it, is in the allowed IPs of another peer" in lines["robbed"]
    assert "target 10.77.0.200 is in no peer's allowed IPs" in lines["bare"]
    assert "target 10.77.0.2 is in the allowed IPs of another peer" in lines["owned"]
