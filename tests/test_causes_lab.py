"""Causes made real: what the exporter names for tunnels that are broken in many ways at once, and when; and what the
reader finds out about a real host.

One story, told once, as in test_faults.py: a hub whose exporter watches it as shipped. By wireguard-go, so the network
is real and the kernel's WireGuard is not in it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, keypair, start_exporter
from tests.lab.exporting import lab_or_skip, scrape
from tests.lab.hub import HubDevice, Plan, config_of_hosts
from tests.lab.paging import alertmanager, inbox, prometheus
from wg_exporter.cli.netlab import LabError
from wg_exporter.config import Config, Interfaces, NamespaceConfig
from wg_exporter.inspected import Neighbour, PathKind, PortOwner
from wg_exporter.reader.host import host_sources
from wg_exporter.reader.inspect.look import inspect
from wg_exporter.reader.inspect.subject import subject
from wg_exporter.sources import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter, Namespace
    from tests.lab.paging import Inbox
    from wg_exporter.inspected import Inspected

pytestmark = pytest.mark.lab

# By site: how it is broken, and the cause that is to be named.
CAUSES = {
    "killed": "port_unreachable",
    "mute": "silent",
    "walled": "responses_lost",
    "strict": "prohibited",
    "held": "output_filtered",
    "stale": "old_key",
    "absent": "host_unreachable",
    "beyond": "host_unreachable",
    "sixth": "host_unreachable",
}
SAYS = {  # of those that nobody on the link answers for: whom
    "absent": "itself, which is on that link (ARP;",
    "beyond": "the gateway 203.0.113.9 to",
    "sixth": "2001:db8::9 itself, which is on that link (NDP;",
}
# On hosts of their own: what arrives for one peer is compared with what all sockets of the host get, so that on a host
# where much else arrives these two are only possible, and both are named.
ALONE = {"deaf": "input_filtered", "shared": "preshared_key"}
REJECT = (
    "table inet cut {\n chain input {\n type filter hook input priority 0;\n"
    " udp dport 51820 reject with icmpx type admin-prohibited\n }\n}\n"
)
WAIT = 240.0  # seconds until all have one: two at a time are sought for, and again where a busy host leaves it in doubt


def break_all(hub: Namespace, main: HubDevice, calm: dict[str, HubDevice]) -> None:
    at = {name: f"198.18.0.{number * 4 + 2}" for number, name in enumerate(main.sites, 2)}
    sites = main.sites
    sites["killed"].kill()
    sites["mute"].cut()
    sites["walled"].firewall()  # what it sends still leaves
    sites["strict"].namespace.run(["nft", "-f", "-"], stdin=REJECT)
    rules = (
        "table inet cut {\n"
        f" chain output {{\n type filter hook output priority 0;\n ip daddr {at['held']} udp dport 51820 drop\n }}\n"
        "}\n"
    )
    hub.run(["nft", "-f", "-"], stdin=rules)
    sites["absent"].namespace.ip("address", "flush", "dev", "to-hub")
    hub.ip("neigh", "flush", "dev", "to-absent")
    hub.ip("address", "add", "203.0.113.1/24", "dev", "to-beyond")
    hub.ip("route", "add", f"{at['beyond']}/32", "via", "203.0.113.9")
    hub.ip("address", "add", "2001:db8::1/64", "dev", "to-sixth", "nodad")
    sites["sixth"].kill()  # its packets would bring the old endpoint back
    sixth = ["peer", sites["sixth"].keys.public, "endpoint", "[2001:db8::9]:51820"]
    hub.run(["wg", "set", main.name, *sixth])
    deaf, shared = calm["deaf"], calm["shared"]
    rule = "table inet cut {\n chain input {\n type filter hook input priority 0;\n udp sport 51820 drop\n }\n}\n"
    deaf.device.namespace.run(["nft", "-f", "-"], stdin=rule)
    site = shared.sites["shared"]
    site.namespace.run(
        ["wg", "set", site.device.name, "peer", shared.keys.public, "preshared-key", "/dev/stdin"],
        stdin=keypair().private,
    )
    stale = sites["stale"]
    stale.namespace.run(["wg", "set", stale.device.name, "peer", main.keys.public, "remove"])
    near = at["stale"].rpartition(".")[0] + f".{int(at['stale'].rpartition('.')[2]) - 1}:51820"
    wrong = ["peer", keypair().public, "endpoint", near, "persistent-keepalive", "5", "allowed-ips", "10.77.0.0/24"]
    stale.namespace.run(["wg", "set", stale.device.name, *wrong])
    for device, name in ((main, "stale"), (main, "held"), (shared, "shared"), (deaf, "deaf")):
        device.forget_session(name)


class Told(NamedTuple):
    """What was told of a site: seconds from the fault to `down`, and to the cause; the document at the end."""

    down: float
    cause: float
    first: str
    document: dict[str, object]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Told], dict[str, object], str]]:
    directory = tmp_path_factory.mktemp("causes")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan(name) for name in ("well", *CAUSES)])
        calm = {name: HubDevice(lab, lab.namespace(f"{name}hub"), f"{name}h", 1, [Plan(name)]) for name in ALONE}
        with start_exporter(directory=directory, config=config_of_hosts([main, *calm.values()])) as exporter:
            eventually(lambda: states(exporter).count("up") == len(CAUSES) + len(ALONE) + 1, within=90, every=0.5)
            broke = time.monotonic()
            break_all(hub, main, calm)
            before = _host(hub)
            down: dict[str, float] = {}
            first: dict[str, tuple[float, str]] = {}
            while time.monotonic() < broke + WAIT:
                shown = scrape(exporter)
                for labels, value in shown.all("wireguard_peer_state", state="down"):
                    if value:
                        down.setdefault(labels["peer"], time.monotonic() - broke)
                for labels, _ in shown.all("wireguard_peer_cause"):
                    first.setdefault(labels["peer"], (time.monotonic() - broke, labels["cause"]))
                devices = json.loads(exporter.get("/api/v1/status").body)["devices"]
                documents = {peer["label"]: peer["cause"] for device in devices for peer in device["peers"]}
                # A cause comes before the host was looked at for it, where enough is known without.
                whole = all(site in first and _says(site, documents[site]) for site in CAUSES | ALONE)
                if time.monotonic() > broke + 90 and whole:
                    break
                time.sleep(1)
            assert _host(hub) == before, "nothing is changed for it"
            nowhere = (float("nan"), "")
            yield (
                {
                    name: Told(down.get(name, float("nan")), *first.get(name, nowhere), documents[name] or {})
                    for name in documents
                },
                documents,
                exporter.log(),
            )


def _says(site: str, document: dict[str, list[str]] | None) -> bool:
    """Whether what is known of a site names whoever does not answer on its link, if nobody does."""
    return document is not None and any(SAYS.get(site, "") in line for line in document["evidence"])


def _host(hub: Namespace) -> list[list[str]]:
    """What whoever seeks a cause could have changed."""
    return [
        sorted(hub.ip("-4", "route", "show", "table", "all").splitlines()),
        sorted(hub.ip("rule").splitlines()),
        sorted(hub.run(["sysctl", "-a", "--pattern", "rp_filter|forwarding"]).splitlines()),
    ]


def states(exporter: Exporter) -> list[str]:
    return [labels["state"] for labels, value in scrape(exporter).all("wireguard_peer_state") if value]


@pytest.mark.parametrize("site", CAUSES | ALONE)
def test_the_cause_of_each_is_named(story: tuple[dict[str, Told], dict[str, object], str], site: str) -> None:
    told = story[0][site]
    assert told.document.get("cause") == (CAUSES | ALONE)[site], told
    assert told.document["confidence"] in {"certain", "likely"}, told


@pytest.mark.parametrize("site", SAYS)
def test_whoever_does_not_answer_on_the_link_is_named(
    story: tuple[dict[str, Told], dict[str, object], str], site: str
) -> None:
    document = story[0][site].document
    assert _says(site, document), "\n".join(document["evidence"])
    assert "ip neigh show to " in document["fix"][0], document


def test_no_cause_is_named_for_the_one_that_works(story: tuple[dict[str, Told], dict[str, object], str]) -> None:
    assert story[1]["well"] is None
    assert story[0]["well"].first == ""


def test_the_table_of_seconds(story: tuple[dict[str, Told], dict[str, object], str]) -> None:
    for name, told in story[0].items():
        print(f"{name:8} down {told.down:5.1f} s, cause {told.cause:5.1f} s, first {told.first}, now {told.document}")
    assert all(told.cause - told.down < WAIT for name, told in story[0].items() if name != "well")
    assert "Traceback" not in story[2]


# --- from the fault to the text of the page ---------------------------------------------------------------------------

PAGED = {"killed": "port_unreachable", "mute": "silent", "walled": "responses_lost", "strict": "prohibited"}
WELL = ("berlin", "lisbon", "oslo", "riga", "wien")  # more than half, or it would be a fault of the interface


@pytest.fixture(scope="module")
def pager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    for tool in ("prometheus", "prometheus-alertmanager"):
        if not shutil.which(tool):
            pytest.skip(f"{tool}: no such command; apt-get install prometheus prometheus-alertmanager")
    directory = tmp_path_factory.mktemp("paged")
    with lab_or_skip(directory / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan(name) for name in (*WELL, *PAGED)])
        with (
            start_exporter(directory=directory, config=config_of_hosts([main])) as exporter,
            inbox() as pager,
            alertmanager(directory, pager, impatient=True) as manager,
            prometheus(directory, [exporter.port], manager, interval=2, impatient=True),
        ):
            eventually(lambda: states(exporter).count("up") == len(WELL) + len(PAGED), within=90, every=0.5)
            pager.wait("Watchdog", within=90)
            main.sites["killed"].kill()
            main.sites["mute"].cut()
            main.sites["walled"].firewall()
            main.sites["strict"].namespace.run(["nft", "-f", "-"], stdin=REJECT)
            for peer in PAGED:
                pager.wait("WireGuardPeerDown", within=90, peer=peer)
            yield pager


@pytest.mark.prometheus
@pytest.mark.parametrize("peer", PAGED)
def test_the_very_page_that_is_sent_says_why(pager: Inbox, peer: str) -> None:
    (first, *_) = pager.pages("WireGuardPeerDown", peer=peer)
    assert f" The cause is {PAGED[peer]}. " in first.annotations["description"], first.annotations["description"]


# --- the reader on a real host ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Namespace, HubDevice, Place]]:
    with lab_or_skip(tmp_path_factory.mktemp("inspect") / "lab") as lab:
        hub = lab.namespace("hub")
        main = HubDevice(lab, hub, "main", 0, [Plan("north"), Plan("south")])
        place = Place(hub, main)
        yield hub, main, place
        place.sources.stop()


class Place:
    """A reader of the hub, and its looks at it for the site north."""

    def __init__(self, hub: Namespace, main: HubDevice) -> None:
        config = Config(
            interfaces=Interfaces(include=(main.name,)),
            namespaces=(NamespaceConfig("hub", netns=hub.name),),
            names=(str(main.device.conf),),
        )
        self.paths = {one.name: one.path for one in config.namespaces}
        self.sources = host_sources(config, SYSTEM_CLOCK)
        self.main = main

    def look(self, site: str = "north", target: str = "") -> Inspected:
        who = ("hub", self.main.name, self.main.sites[site].keys.public)
        # A pass has a deadline, by which a busy machine may not have read the device.
        one = eventually(lambda: subject(self.sources.read(), who, target), within=30)
        return inspect(one, self.paths, time.monotonic)


def test_a_host_that_is_well_is_found_so(place: tuple[Namespace, HubDevice, Place]) -> None:
    _hub, main, at = place
    found = at.look(target=main.sites["north"].address)
    assert found.problems == ()
    assert found.to_endpoint is not None
    assert (found.to_endpoint.kind, found.to_endpoint.to) == (PathKind.SENT, "198.18.0.10")
    assert (found.to_endpoint.source, found.to_endpoint.tunnel) == ("198.18.0.9", False)
    assert found.to_target is not None
    assert (found.to_target.interface, found.to_target.tunnel) == (main.name, True)
    assert found.port_owner is PortOwner.DEVICE
    assert found.addresses is not None
    assert "10.77.0.1/24" in found.addresses
    assert found.owner == main.sites["north"].keys.public
    assert found.conf_endpoint == "198.18.0.10:51820"
    assert at.look(target=main.sites["south"].address).owner == main.sites["south"].keys.public


def test_who_answers_on_the_link_is_told_from_who_does_not(place: tuple[Namespace, HubDevice, Place]) -> None:
    hub, main, at = place
    south = main.sites["south"].namespace

    def asks() -> Neighbour | None:
        with contextlib.suppress(LabError):
            hub.run(["ping", "-c", "1", "-W", "1", "198.18.0.14"])
        found = at.look("south").to_endpoint
        assert found is not None
        return found.neighbour

    assert asks() is Neighbour.KNOWN
    south.ip("link", "set", "to-hub", "arp", "off")
    try:
        hub.ip("neigh", "flush", "dev", "to-south")
        eventually(lambda: asks() is Neighbour.SILENT, within=30, every=0.1)
    finally:
        south.ip("link", "set", "to-hub", "arp", "on")
    eventually(lambda: asks() is Neighbour.KNOWN, within=30, every=0.1)


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("unreachable", PathKind.UNREACHABLE),
        ("blackhole", PathKind.BLACKHOLE),
        ("prohibit", PathKind.PROHIBIT),
    ],
)
def test_a_route_that_refuses_is_named(place: tuple[Namespace, HubDevice, Place], route: str, kind: PathKind) -> None:
    hub, _main, at = place
    hub.ip("route", "add", route, "198.18.0.10/32")
    try:
        found = at.look()
    finally:
        hub.ip("route", "del", route, "198.18.0.10/32")
    assert found.to_endpoint is not None
    assert found.to_endpoint.kind is kind


def test_no_route_a_loop_and_what_a_mark_leads_around_it(place: tuple[Namespace, HubDevice, Place]) -> None:
    hub, main, at = place
    hub.run(["wg", "set", main.name, "peer", main.sites["north"].keys.public, "endpoint", "203.0.113.9:51820"])
    try:
        found = at.look()
        assert found.to_endpoint is not None
        assert found.to_endpoint.kind is PathKind.NONE
        hub.ip("route", "add", "default", "dev", main.name)
        found = at.look()
        assert found.to_endpoint is not None
        assert (found.to_endpoint.kind, found.to_endpoint.tunnel) == (PathKind.SENT, True)
        hub.run(["wg", "set", main.name, "fwmark", "51820"])
        hub.ip("route", "add", "default", "via", "198.18.0.10", "table", "77")
        hub.ip("rule", "add", "fwmark", "51820", "table", "77")
        found = at.look()
        assert found.to_endpoint is not None
        assert (found.to_endpoint.tunnel, found.to_endpoint.gateway) == (False, "198.18.0.10")
        assert found.to_endpoint.table == 77
    finally:
        hub.ip("rule", "del", "fwmark", "51820", "table", "77")
        hub.ip("route", "del", "default", "dev", main.name)
        hub.run(["wg", "set", main.name, "fwmark", "0"])
        hub.run(["wg", "set", main.name, "peer", main.sites["north"].keys.public, "endpoint", "198.18.0.10:51820"])


def test_the_counter_of_rp_filter_grows_with_what_it_drops(place: tuple[Namespace, HubDevice, Place]) -> None:
    hub, main, at = place
    spoof, setting = main.sites["south"].namespace, "net.ipv4.conf.all.rp_filter"
    assert at.look().outer_rp_filter in (0, 1, 2)
    hub.run(["sysctl", "-qw", f"{setting}=1"])
    spoof.ip("address", "add", "198.18.0.10/32", "dev", "lo")  # the address of north, from the cable of south
    try:
        before = at.look()
        assert before.outer_rp_filter == 1
        with contextlib.suppress(LabError):  # no answer comes
            spoof.run(["ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", "198.18.0.10", "198.18.0.13"], timeout=20)
        after = at.look()
    finally:
        hub.run(["sysctl", "-qw", f"{setting}=0"])
        spoof.ip("address", "del", "198.18.0.10/32", "dev", "lo")
    assert before.outer_rp_drops is not None
    assert after.outer_rp_drops is not None
    assert after.outer_rp_drops >= before.outer_rp_drops + 3


def test_nothing_of_the_host_is_changed_by_looking(place: tuple[Namespace, HubDevice, Place]) -> None:
    hub, main, at = place

    def seen() -> list[str]:
        sockets = Path(f"/proc/{main.device.process.pid}/net/udp") if main.device.process else None
        return [
            hub.ip("-4", "route", "show", "table", "all"),  # IPv6 checks addresses for seconds, and adds routes then
            hub.ip("rule"),
            hub.ip("-4", "address"),
            hub.run(["sysctl", "-a", "--pattern", "rp_filter|forwarding"]),
            sockets.read_text().count("\n").__str__() if sockets else "",
        ]

    before = seen()
    for _ in range(5):
        at.look(target=main.sites["north"].address)
    assert seen() == before
