"""Host names for real: a DNS server that says what the test wants, tunnels whose name moves, and the processes that
look names up and set endpoints."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.lab import eventually, keypair, start_exporter
from tests.lab.exporting import Metrics, scrape
from tests.lab.names import (
    AAAA,
    CUT,
    GARBAGE,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    SILENT,
    dns_server,
    resolv_conf,
    servers_text,
)
from wg_exporter.hostnames import LookupFailure
from wg_exporter.messages.packets import Packets
from wg_exporter.messages.resolver import Answer, FromResolver, Question
from wg_exporter.supervisor.roles import NO_RESOLVER, RESOLVER, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Exporter, Keys, Lab, Namespace, WireGuard
    from tests.lab.names import DnsServer

pytestmark = pytest.mark.lab

LOOKED_UP = 90  # seconds: a lookup that a busy machine answers too late is made again after a minute
NAME, OLD, NEW, SERVER = "hub.test", "192.0.2.1", "192.0.2.7", "192.0.2.53"


# --- the resolver and a real libc -------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A namespace whose names come from a server of ours."""

    near: Namespace
    far: Namespace
    dns: DnsServer
    resolv: Path


@pytest.fixture
def place(lab: Lab) -> Iterator[Place]:
    near, far = lab.namespace("near"), lab.namespace("far")
    # The first address of a network stays: with it all others would go (ip-address(8), secondary).
    lab.link(near, far, "192.0.2.2/24", f"{SERVER}/24")
    far.ip("address", "add", f"{OLD}/24", "dev", "to-near")
    answers_from(far, OLD)
    with dns_server(far, SERVER) as dns, resolv_conf(near, SERVER) as resolv:
        yield Place(near, far, dns, resolv)


def answers_from(far: Namespace, address: str) -> None:
    """Of its addresses, send from this one: wireguard-go of 2023 does not answer from where it was asked."""
    far.ip("route", "replace", "192.0.2.0/24", "dev", "to-near", "src", address)


class Resolver:
    """The resolver's process, in a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "wg_exporter.resolver", str(theirs.fileno())]
            self.process = subprocess.Popen(namespace.inside(command), pass_fds=(theirs.fileno(),))
        self.packets = Packets(ours, FromResolver)
        self._number = 0

    def ask(self, host: str, port: str = "51820") -> Answer:
        self._number += 1
        self.packets.send(Question(self._number, host, port))
        answer, _ = eventually(self.packets.receive, within=40)
        assert answer.number == self._number
        return answer

    def stop(self) -> None:
        self.packets.close()
        self.process.wait(30)


@pytest.fixture
def resolver(place: Place) -> Iterator[Resolver]:
    one = Resolver(place.near)
    yield one
    one.stop()


UNCLEAR = {LookupFailure.NO_ANSWER, LookupFailure.REFUSED, LookupFailure.NOT_FOUND}


@pytest.mark.parametrize(
    ("said", "failures"),
    [
        (NXDOMAIN, {LookupFailure.NOT_FOUND}),
        ([], {LookupFailure.NOT_FOUND}),
        (SERVFAIL, {LookupFailure.NO_ANSWER}),
        (REFUSED, {LookupFailure.NO_ANSWER, LookupFailure.REFUSED}),  # glibc asks the next server, and has none
        (SILENT, {LookupFailure.NO_ANSWER}),
        (GARBAGE, UNCLEAR),
        (CUT, UNCLEAR),
    ],
)
def test_what_a_server_says_or_does_not_is_a_word(place: Place, resolver: Resolver, said, failures) -> None:
    place.dns.names[NAME] = said
    answer = resolver.ask(NAME)
    assert answer.addresses == ()
    assert answer.failure in failures
    place.dns.names[NAME] = [OLD]
    assert resolver.ask(NAME).addresses == ((OLD, 51820),), "the next question is answered"


def test_several_addresses_of_both_families_are_all_told(place: Place, resolver: Resolver) -> None:
    place.dns.names[NAME] = ["192.0.2.3", "192.0.2.4", "2001:db8::3", "2001:db8::4"]
    found = resolver.ask(NAME, "domain").addresses
    assert {address for address, _ in found} == set(place.dns.names[NAME])
    assert {port for _, port in found} == {53}
    assert {kind for _, kind in place.dns.asked} == {1, AAAA}


def test_another_resolv_conf_and_another_answer_hold_at_once(place: Place, resolver: Resolver) -> None:
    place.dns.names[NAME] = [OLD]
    assert resolver.ask(NAME).addresses == ((OLD, 51820),)
    place.dns.names[NAME] = [NEW]
    assert resolver.ask(NAME).addresses == ((NEW, 51820),), "nothing is kept"
    place.far.ip("address", "add", "192.0.2.54/24", "dev", "to-near")
    with dns_server(place.far, "192.0.2.54") as other:
        other.names[NAME] = ["192.0.2.99"]
        place.resolv.write_text(servers_text("192.0.2.54"))
        assert resolver.ask(NAME).addresses == (("192.0.2.99", 51820),)


def test_it_gives_what_wg_would_use(place: Place, resolver: Resolver, lab: Lab) -> None:
    place.dns.names[NAME] = ["192.0.2.4", "2001:db8::3"]
    keys = keypair()
    conf = (
        f"[Interface]\nPrivateKey = {keys.private}\n[Peer]\nPublicKey = {keypair().public}\nEndpoint = {NAME}:51820\n"
    )
    made = lab.wireguard(place.near, "near", conf)
    endpoint = place.near.run(["wg", "show", made.name, "endpoints"]).split()[1]
    address, port = resolver.ask(NAME).addresses[0]
    assert endpoint == (f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


# --- tunnels ----------------------------------------------------------------------------------------------------------


class Moving(NamedTuple):
    """A spoke with a name for its hub, and the exporter beside it. The hub never calls."""

    spoke: WireGuard
    hub: WireGuard
    place: Place
    exporter: Exporter
    keys: Keys

    def move(self) -> None:
        """The hub was started anew elsewhere, and its name says so. It knows no endpoint, so it never calls."""
        self.hub.process.terminate()
        self.hub.process.wait(30)
        self.place.far.ip("address", "add", f"{NEW}/24", "dev", "to-near")
        answers_from(self.place.far, NEW)
        self.place.far.ip("address", "del", f"{OLD}/24", "dev", "to-near")
        self.place.far.lab.wireguard(self.place.far, "new", self.hub.conf.read_text(), ["10.0.0.1/24"])
        self.place.dns.names[NAME] = [NEW]

    def metrics(self) -> Metrics:
        return scrape(self.exporter)

    def value(self, what: str) -> float | None:
        found = self.metrics().all(f"wireguard_peer_{what}", public_key=self.keys.public)
        return found[0][1] if found else None

    def state(self) -> str:
        found = self.metrics().all("wireguard_peer_state", public_key=self.keys.public)
        return next((labels["state"] for labels, value in found if value), "")

    def endpoint(self) -> str:
        rows = dict(
            line.split("\t")
            for line in self.spoke.namespace.run(["wg", "show", self.spoke.name, "endpoints"]).splitlines()
        )
        return rows[self.keys.public]

    def fixed(self) -> list[list[str]]:
        """`wg show dump` without what packets change: endpoints, handshakes, counters. wireguard-go lists peers in
        another order each time.
        """
        lines = self.spoke.namespace.run(["wg", "show", self.spoke.name, "dump"]).splitlines()
        device, *peers = [line.split("\t") for line in lines]
        return [device, *sorted([one[at] for at in (0, 1, 3, 7)] for one in peers)]


@pytest.fixture
def moving(request, place: Place, lab: Lab, tmp_path: Path) -> Iterator[Moving]:
    """`request.param` is more of the configuration, and flags."""
    more, *flags = getattr(request, "param", ("",))
    place.dns.names[NAME] = [OLD]
    spoke_keys, hub_keys, other = keypair(), keypair(), keypair()
    hub_conf = f"""\
[Interface]
PrivateKey = {hub_keys.private}
ListenPort = 51820
[Peer]
PublicKey = {spoke_keys.public}
AllowedIPs = 10.0.0.2/32
"""
    spoke_conf = f"""\
[Interface]
PrivateKey = {spoke_keys.private}
[Peer]
# friendly_name = hub
PublicKey = {hub_keys.public}
PresharedKey = {other.private}
AllowedIPs = 10.0.0.1/32
PersistentKeepalive = 5
Endpoint = {NAME}:51820
[Peer]
# friendly_name = other
PublicKey = {other.public}
AllowedIPs = 10.0.0.7/32
Endpoint = 192.0.2.77:51820
"""
    hub_conf = hub_conf.replace("AllowedIPs", f"PresharedKey = {other.private}\nAllowedIPs")
    hub = lab.wireguard(place.far, "far", hub_conf, ["10.0.0.1/24"])
    spoke = lab.wireguard(place.near, "near", spoke_conf, ["10.0.0.2/24"])
    config = f"interfaces: {{include: [{spoke.name}]}}\nnames: [{spoke.conf}]\n{more}"
    socket_path = tmp_path / "http.sock"
    with start_exporter(
        *flags, f"--web.unix-socket={socket_path}", config=config, namespace=place.near, directory=tmp_path
    ) as exporter:
        found = Moving(spoke, hub, place, exporter, hub_keys)
        eventually(lambda: found.state() == "up", within=30)
        yield found


WITHOUT = ("",)
WITH = ("dns: {reresolve: true}\n",)
ALONE = ("dns: {reresolve: true}\n", "--no-privsep")
OFF = ("dns: {resolve: false}\n",)


def resolvers(exporter: Exporter) -> dict[str, int]:
    return {name: pid for name, pid in exporter.processes().items() if name == "wg-dns"}


def test_a_name_that_moved_is_told_and_nothing_is_set_without_leave(moving: Moving, tmp_path: Path) -> None:
    eventually(lambda: moving.value("endpoint_dns_mismatch") == 0, within=LOOKED_UP)
    assert moving.value("endpoint_dns_success") == 1
    assert moving.value("endpoint_reresolved_total") is None
    assert len(moving.metrics().all("wireguard_peer_endpoint_dns_mismatch")) == 1, (
        "the other has an address in its file"
    )
    before = moving.fixed()
    moving.move()
    eventually(lambda: moving.state() == "down", within=60)
    eventually(lambda: moving.value("endpoint_dns_mismatch") == 1, within=30)
    (labels, _), *_ = moving.metrics().all("wireguard_peer_endpoint_dns_info")
    assert (labels["host"], labels["resolves_to"]) == (NAME, NEW)
    command = [sys.executable, "-m", "wg_exporter.cli", "show", f"--socket={tmp_path / 'http.sock'}"]
    shown = " ".join(moving.place.near.run([*command, moving.spoke.name, "hub"]).split())
    assert f"the host name in its file, {NAME}:51820, now resolves to {NEW}, and not to the endpoint in use" in shown
    document = json.loads(moving.exporter.get("/api/v1/status").body)
    found = {peer["label"]: peer["endpoint_name"] for peer in document["devices"][0]["peers"]}
    assert found["other"] is None
    assert (found["hub"]["resolves_to"], found["hub"]["mismatch"]) == ([NEW], True)
    eventually(lambda: f"now resolves to {NEW}" in moving.exporter.get("/").text, within=30)
    time.sleep(40)
    assert moving.state() == "down"
    assert moving.endpoint() == f"{OLD}:51820"
    assert moving.fixed() == before


@pytest.mark.parametrize("moving", [WITH, ALONE], indirect=True, ids=["several processes", "one process"])
def test_with_leave_the_tunnel_comes_back_and_nothing_but_the_endpoint_has_changed(moving: Moving) -> None:
    eventually(lambda: moving.value("endpoint_dns_mismatch") == 0, within=LOOKED_UP)
    assert moving.value("endpoint_reresolved_total") == 0
    before = moving.fixed()
    moving.move()
    eventually(lambda: moving.state() == "down", within=60)
    eventually(lambda: moving.endpoint() == f"{NEW}:51820", within=90)
    eventually(lambda: moving.state() == "up", within=30)
    eventually(lambda: moving.value("endpoint_dns_mismatch") == 0, within=LOOKED_UP)
    assert moving.value("endpoint_reresolved_total") == 1
    assert moving.fixed() == before
    (line,) = moving.exporter.logged('msg="endpoint set"')
    assert f"before={OLD}:51820 after={NEW}:51820" in line
    time.sleep(5)
    assert moving.value("endpoint_reresolved_total") == 1


def sockets(pid: int) -> set[str]:
    """The sockets that a process has open, by number."""
    links = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
    return {link for link in links if link.startswith("socket:")}


@pytest.mark.parametrize("moving", [WITH], indirect=True)
def test_the_resolver_has_a_user_of_its_own_and_no_right_and_is_started_again(moving: Moving) -> None:
    pid = eventually(lambda: resolvers(moving.exporter).get("wg-dns"), within=30)
    uid = user(RESOLVER, NO_RESOLVER).uid
    none = [f"\n{name}:\t{0:016x}\n" for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh")]
    wanted = {f"\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n", "\nGroups:\t \n", "\nNoNewPrivs:\t1\n", *none}

    def lacking() -> set[str]:
        status = Path(f"/proc/{pid}/status").read_text()
        return {line for line in wanted if line not in status}

    eventually(lambda: not lacking(), within=30)  # it has its name first
    # Its only socket leads to the reader, which is not the one that leads to the exporter.
    mine, webs = (sockets(one) for one in (pid, moving.exporter.processes()["wg-web"]))
    assert mine
    assert not mine & webs
    os.kill(pid, 9)
    moving.move()
    eventually(lambda: moving.value("endpoint_dns_mismatch") == 1, within=90)
    assert eventually(lambda: resolvers(moving.exporter).get("wg-dns"), within=60) != pid


@pytest.mark.parametrize("moving", [OFF], indirect=True)
def test_turned_off_nothing_is_asked_and_no_process_is_there(moving: Moving) -> None:
    asked = len(moving.place.dns.asked)
    time.sleep(8)
    assert len(moving.place.dns.asked) == asked
    assert not resolvers(moving.exporter)
    assert moving.value("endpoint_dns_mismatch") is None


def test_a_name_that_fails_is_one_line_when_it_begins_and_one_when_it_ends(moving: Moving) -> None:
    eventually(lambda: moving.value("endpoint_dns_success") == 1, within=LOOKED_UP)
    moving.place.dns.names[NAME] = SERVFAIL
    moving.hub.process.terminate()
    eventually(lambda: moving.value("endpoint_dns_success") == 0, within=120)
    assert moving.value("endpoint_dns_mismatch") is None, "what it was is not known to be so"
    moving.place.dns.names[NAME] = [OLD]
    eventually(lambda: moving.value("endpoint_dns_success") == 1, within=120)
    moving.exporter.logged("host name resolved again")
    lines = moving.exporter.logged("host name")
    assert [re.search(r'msg="([^"]+)"', line)[1] for line in lines] == [
        "host name not resolved",
        "host name resolved again",
    ]


def test_a_scrape_is_not_slower_while_lookups_hang(moving: Moving) -> None:
    eventually(lambda: moving.value("endpoint_dns_success") == 1, within=LOOKED_UP)

    def quickest_quarter() -> float:
        times = []
        for _ in range(40):
            begun = time.monotonic()
            moving.metrics()
            times.append(time.monotonic() - begun)
            time.sleep(0.05)
        return sorted(times)[10]

    before = quickest_quarter()
    conf = moving.spoke.conf.read_text()
    more = [keypair().public for _ in range(12)]
    for number, key in enumerate(more):
        moving.place.dns.names[f"slow{number}.test"] = SILENT
        conf += f"[Peer]\nPublicKey = {key}\nEndpoint = slow{number}.test:1\n"
    moving.place.resolv.write_text(servers_text(SERVER).replace("timeout:1", "timeout:30"))
    moving.spoke.conf.write_text(conf)
    eventually(lambda: any(name.startswith("slow") for name, _ in moving.place.dns.asked), within=30)
    during = quickest_quarter()
    assert during < 3 * before + 0.05
    assert moving.state() == "up"
