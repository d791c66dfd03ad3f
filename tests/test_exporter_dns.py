"""Host names in the exporter: what a scrape, the document, `show` and the log say of them; what the reader is told."""

from __future__ import annotations

import io
import json
import logging

import pytest

from tests.rigs import Rig, found, labelled
from tests.rows import WALL, conf_file, declared, device, key, link, peer
from wg_exporter.cli.show.screen import console, render
from wg_exporter.config import Config, EndpointMode, Metrics
from wg_exporter.daemon.exporter import Exporter
from wg_exporter.hostnames import HostName, LookupFailure
from wg_exporter.model import ConfDevice, Usage
from wg_exporter.reader.host import reader_of

NAME = "vpn.example.org:51820"
HERE, ELSEWHERE = ("192.0.0.1:51820",), ("198.51.100.7:51820", "[2001:db8::7]:51820")
ME = labelled(interface="wg0", peer=key(1)[:8])
MISMATCH, SUCCESS = "wireguard_peer_endpoint_dns_mismatch", "wireguard_peer_endpoint_dns_success"
INFO, RERESOLVED = "wireguard_peer_endpoint_dns_info", "wireguard_peer_endpoint_reresolved_total"


class Names:
    """Whoever looks names up: says what the test says, and remembers what it was told."""

    def __init__(self) -> None:
        self.rows: tuple[HostName, ...] = ()
        self.reresolved = None
        self.usage = Usage(cpu=7.0)
        self.told: list[object] = []

    def know(self, *addresses: str, failure: LookupFailure | None = None) -> None:
        self.rows = (HostName(NAME, addresses, WALL, failure, WALL if failure else 0.0),)

    def look(self, devices, files) -> None:
        self.seen = devices, files

    def unwell(self, peers) -> None:
        self.told.append(peers)

    def stop(self) -> None:
        pass


class Named(Rig):
    """A rig whose first peer has a host name in its file; all have keepalive, and are expected up if a file says so."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Names()
        self.host.devices, self.host.links = [device(peer(1), peer(2), peer(3))], [link()]
        self.host.conf = (
            conf_file("wg0", declared(1, endpoint=NAME), declared(2, endpoint="192.0.0.2:1"), declared(3)),
        )

    def exporter(self, config: Config | None = None, **more: object) -> Exporter:
        def sources(config, clock):
            return reader_of(self.host.workers(config, clock), clock, names=self.names)

        exporter = Exporter(config or Config(), None, sources, self.time.clock, **more)
        self.made.append(exporter)
        return exporter


@pytest.fixture
def named():
    one = Named()
    yield one
    one.stop()


def document(exporter, *, private=True):
    rows = json.loads(exporter.document(private=private))["devices"][0]["peers"]
    return {row["public_key"]: row["endpoint_name"] for row in rows}


def test_a_scrape_says_of_each_peer_with_a_name_whether_it_leads_to_the_endpoint(named):
    exporter = named.exporter()
    named.tick(exporter)
    for name in (MISMATCH, SUCCESS, INFO, RERESOLVED):
        assert found(exporter, name) == {}, "nothing is known yet"
    named.names.know(*HERE)
    assert (found(exporter, MISMATCH), found(exporter, SUCCESS), found(exporter, INFO)) == ({ME: 0}, {ME: 1}, {})
    named.names.know(*ELSEWHERE)
    assert (found(exporter, MISMATCH), found(exporter, SUCCESS)) == ({ME: 1}, {ME: 1})
    where = labelled(interface="wg0", peer=key(1)[:8], host="vpn.example.org", resolves_to="198.51.100.7,2001:db8::7")
    assert found(exporter, INFO) == {where: 1}
    named.names.know(failure=LookupFailure.NOT_FOUND)
    assert (found(exporter, MISMATCH), found(exporter, SUCCESS), found(exporter, INFO)) == ({}, {ME: 0}, {})


def test_of_many_addresses_few_are_in_the_label(named):
    exporter = named.exporter()
    named.names.know(*(f"198.51.100.{n}:51820" for n in range(1, 8)))
    named.tick(exporter)
    ((labels, _),) = found(exporter, INFO).items()
    assert dict(labels)["resolves_to"] == "198.51.100.1,198.51.100.2,198.51.100.3,198.51.100.4,+3"


@pytest.mark.parametrize("mode", list(EndpointMode))
def test_strangers_learn_of_names_and_addresses_as_the_metrics_may_tell(named, mode):
    exporter = named.exporter(Config(metrics=Metrics(endpoint=mode)))
    named.names.know(*ELSEWHERE)
    named.tick(exporter)
    assert found(exporter, MISMATCH) == {ME: 1}
    body = b"".join(exporter.scrape("")) + exporter.document(private=False)
    off = mode is EndpointMode.OFF
    assert (b"vpn.example" in body) == (b"198.51.100.7" in body) == (not off)
    assert document(exporter)[key(1)]["name"] == NAME, "over the Unix socket all is told"
    stranger = document(exporter, private=False)[key(1)]
    assert stranger["name"] == {"full": NAME, "address": "vpn.example.org", "off": None}[mode]
    assert stranger["mismatch"] is True


def test_the_document_has_it_of_peers_with_a_name_alone(named):
    exporter = named.exporter()
    named.names.know(*ELSEWHERE)
    named.tick(exporter)
    rows = document(exporter)
    assert rows[key(2)] is rows[key(3)] is None
    assert rows[key(1)].pop("finding").startswith("the host name in its file, vpn.example.org:51820, now resolves to ")
    assert rows[key(1)] == {
        "name": NAME,
        "resolves_to": ["198.51.100.7", "2001:db8::7"],
        "resolved_at": WALL,
        "mismatch": True,
        "failure": None,
        "failed_since": None,
        "reresolved": None,
    }
    named.names.know(failure=LookupFailure.LATE)
    row = document(exporter)[key(1)]
    assert (row["resolves_to"], row["mismatch"], row["failure"], row["failed_since"]) == ([], None, "late", WALL)


def shown(exporter) -> str:
    overview = exporter.overview()
    (row,) = overview.devices
    out = io.StringIO()
    console(out).print(render(overview._replace(devices=(row._replace(peers=row.peers[:1]),)), width=200))
    return out.getvalue()


def test_show_says_of_one_peer_where_its_name_leads(named):
    exporter = named.exporter()
    named.tick(exporter)
    assert "host name" not in shown(exporter)
    named.names.know(*HERE)
    assert "  the host name in its file, vpn.example.org:51820, resolves to the endpoint in use\n" in shown(exporter)
    named.names.know(*ELSEWHERE)
    assert "now resolves to 198.51.100.7, 2001:db8::7, and not to the endpoint in use" in shown(exporter)


def test_the_reader_is_told_which_peers_with_a_name_are_not_well(named):
    exporter = named.exporter()
    named.names.know(*HERE)
    for _ in range(3):
        named.tick(exporter)
    assert set(named.names.told) == {frozenset()}
    for _ in range(8):
        named.host.devices = [device(*(peer(n, tx_bytes=10_000 + 148 * len(named.names.told)) for n in (1, 2, 3)))]
        named.tick(exporter)
    states = found(exporter, "wireguard_peer_state")
    assert states[(*ME, ("state", "down"))] == 1
    assert named.names.told[-1] == frozenset({("wg0", key(1), True)}), "the second is down too, and has an address"


def test_what_was_set_is_counted_from_0_where_it_may_be(named):
    exporter = named.exporter()
    named.names.reresolved = ()
    named.tick(exporter)
    assert found(exporter, RERESOLVED) == {ME: 0}
    named.names.reresolved = (("wg0", key(1), 2),)
    named.tick(exporter)
    named.names.reresolved = (("wg0", key(1), 1),)  # another reader
    named.tick(exporter)
    assert found(exporter, RERESOLVED) == {ME: 3}
    assert document(exporter)[key(1)]["reresolved"] == 3


def test_a_failure_is_a_line_when_it_begins_changes_and_ends(named, caplog):
    caplog.set_level(logging.INFO, "wg_exporter")
    exporter = named.exporter()

    def lines() -> list[tuple[str, str]]:
        found = [row for row in caplog.records if "host name" in row.getMessage()]
        caplog.clear()
        return [(row.getMessage(), row.fields.get("problem", "")) for row in found]

    named.names.know(*HERE)
    named.tick(exporter)
    assert lines() == []
    named.names.know(failure=LookupFailure.NO_ANSWER)
    named.tick(exporter)
    named.tick(exporter)
    assert lines() == [("host name not resolved", "no DNS server answers, or none can tell")]
    named.names.know(failure=LookupFailure.NOT_FOUND)
    named.tick(exporter)
    assert lines() == [("host name not resolved", "there is no such name, or it has no address")]
    named.names.know(*HERE)
    named.tick(exporter)
    assert lines() == [("host name resolved again", "")]


def test_what_the_resolver_costs_is_counted(named):
    exporter = named.exporter()
    named.tick(exporter)
    before = found(exporter, "process_cpu_seconds_total")[()]
    named.names.usage = Usage(cpu=1000.0)
    assert found(exporter, "process_cpu_seconds_total")[()] > before + 900


def test_an_endpoint_that_its_name_leads_to_is_no_drift_and_any_other_is(named):
    exporter = named.exporter()
    named.tick(exporter)
    endpoint = labelled(interface="wg0", kind="endpoint")
    named.host.conf = (
        conf_file("wg0", declared(1, endpoint=NAME), declared(2), declared(3))._replace(device=ConfDevice()),
    )
    for known, differences in ((None, 0), (HERE, 0), (ELSEWHERE, 1)):
        if known:
            named.names.know(*known)
        named.tick(exporter)
        assert found(exporter, "wireguard_config_drift")[endpoint] == differences
