"""The list of targets behind the tunnels: whose address is in it, and that no list lacks somebody."""

from __future__ import annotations

import gzip
import json
import threading

import pytest

from tests.rows import device, key, link, peer
from tests.serving import App, eventually, running
from wg_exporter.health.states import PeerHealth, State
from wg_exporter.model import Backend, FailedDevice, Failure, Outcome, SourceName
from wg_exporter.names.tunnel import tunnel_name
from wg_exporter.status.discovery import UnknownTargetsError, address_of, at_port, targets
from wg_exporter.status.rows import DeviceRow, Overview, PeerRow

OWN = ("10.0.0.1/24", "fd00::1/64")


@pytest.mark.parametrize(
    ("allowed", "address"),
    [
        (("10.0.0.2/32",), "10.0.0.2"),
        (("fd00::2/128",), "fd00::2"),
        (("fd00::2/128", "10.0.0.2/32"), "10.0.0.2"),
        (("10.0.0.0/24", "10.0.0.2/32"), "10.0.0.2"),
        (("192.168.7.7/32", "10.0.0.2/32"), "10.0.0.2"),
        (("192.168.7.7/32", "192.168.7.8/32"), "192.168.7.7"),
        (("192.168.7.7/32", "fd00::2/128"), "192.168.7.7"),
        (("fd99::9/128", "fd00::2/128"), "fd00::2"),
        (("10.1.0.0/16", "fd00::/64"), ""),
        (("0.0.0.0/0", "::/0"), ""),
        ((), ""),
    ],
)
def test_a_peer_is_where_its_single_address_is(allowed, address):
    assert address_of(peer(1, allowed_ips=allowed), OWN) == address


def test_without_addresses_of_the_interface_the_first_single_one_counts():
    assert address_of(peer(1, allowed_ips=("192.168.7.7/32", "10.0.0.2/32")), ()) == "192.168.7.7"


def row(number: int, **changes: object) -> PeerRow:
    known = PeerRow(peer(number), f"peer {number}", True, True, health=PeerHealth(State.UP, None, "", 0.0))
    return known._replace(**changes)


def overview(*rows: DeviceRow, outcomes: tuple[Outcome, ...] = ()) -> Overview:
    return Overview(0.0, rows, outcomes, ())


def of_device(*peers: PeerRow, **changes: object) -> DeviceRow:
    read = device(*(one.peer for one in peers if not one.gone), **changes)
    return DeviceRow(read, None, link(addresses=OWN), peers)


def test_the_port_can_be_put_in_afterwards_and_no_name_is_taken_for_it():
    rows = [of_device(row(2)._replace(name=name, peer=peer(2, allowed_ips=(allowed,)))) for name, allowed in (
        ("x:0", "10.0.0.2/32"), ('a:0"]', "fd00::2/128"), ('\\:0"],', "10.0.0.4/32"), ("", "fd00::/128"),
    )]  # fmt: skip
    assert at_port(targets(overview(*rows), 0), 9100) == targets(overview(*rows), 9100)
    assert targets(overview(*rows), 9100).count(b':9100"]') == 4


def listed(*rows: DeviceRow, **how: tuple[Outcome, ...]) -> list[dict]:
    return json.loads(targets(overview(*rows, **how), 9100))


def test_each_peer_with_an_address_is_one_target_with_all_that_is_known_of_it():
    first = row(2, name="Büro \udcff", expected_up=False, health=PeerHealth(None, None, "", 0.0))
    second = row(3, peer=peer(3, allowed_ips=("fd00::3/128",)))
    networks = row(4, peer=peer(4, allowed_ips=("10.1.0.0/16",)))
    gone = row(5, gone=True)
    found = listed(of_device(first, second, networks, gone, netns="blue"))
    assert [one["targets"] for one in found] == [["10.0.0.2:9100"], ["[fd00::3]:9100"]]
    assert found[0]["labels"] == {
        "__meta_wireguard_interface": "wg0",
        "__meta_wireguard_netns": "blue",
        "__meta_wireguard_public_key": key(2),
        "__meta_wireguard_peer": "Büro ?",
        "__meta_wireguard_tunnel": tunnel_name(key(999), key(2)),
        "__meta_wireguard_expected_up": "false",
        "__meta_wireguard_state": "",
    }
    labels = found[1]["labels"]
    assert (labels["__meta_wireguard_state"], labels["__meta_wireguard_expected_up"]) == ("up", "true")


def test_where_there_is_nobody_the_list_is_there_and_empty():
    assert targets(overview(), 9100) == b"[]"
    assert targets(overview(of_device()), 9100) == b"[]"
    gone = DeviceRow(None, None, None, (row(5, gone=True),), ("", "wg9"))
    assert listed(gone, of_device(row(2)))[0]["targets"] == ["10.0.0.2:9100"]


def outcome(source: SourceName, failure: Failure) -> Outcome:
    return Outcome(source, "blue", success=False, duration=0.0, problem="no permission", failure=failure)


def test_while_a_device_can_not_be_read_there_is_no_list():
    failed = DeviceRow(None, FailedDevice("", "wg1", Backend.KERNEL, "it did not answer"), None, ())
    with pytest.raises(UnknownTargetsError, match=r"^wg1 can't be read: it did not answer$"):
        listed(of_device(row(2)), failed)
    for source in (SourceName.KERNEL, SourceName.USERSPACE, SourceName.AMNEZIAWG):
        with pytest.raises(UnknownTargetsError, match=rf"^{source} in blue can't be read: no permission$"):
            listed(of_device(row(2)), outcomes=(outcome(source, Failure.DENIED),))


def test_what_was_read_and_what_has_no_peers_keeps_no_list_back():
    good = outcome(SourceName.KERNEL, Failure.OTHER)._replace(success=True, problem="")
    assert len(listed(of_device(row(2)), outcomes=(good,))) == 1
    for source, failure in ((SourceName.CONF, Failure.OTHER), (SourceName.KERNEL, Failure.NAMESPACE_GONE)):
        assert len(listed(of_device(row(2)), outcomes=(outcome(source, failure),))) == 1


# --- over HTTP --------------------------------------------------------------------------------------------------------


def test_the_list_is_json_for_the_port_that_was_asked_for():
    with running() as server:
        answer = server.get("/sd?port=9100")
        assert (answer.status, answer.body) == (200, b'[{"targets":["10.0.0.2:9100"]}]')
        assert answer.headers["Content-Type"] == "application/json"
        assert server.get("/sd?port=65535").body == b'[{"targets":["10.0.0.2:65535"]}]'


@pytest.mark.parametrize("query", ["", "?port=", "?port=0", "?port=65536", "?port=-1", "?port=1e3", "?port=%D9%A1"])
def test_a_port_that_is_none_is_400_with_one_line(query):
    with running() as server:
        answer = server.get(f"/sd{query}")
    assert answer.status == 400
    assert answer.body == b"say at which port the peers are to be scraped, from 1 to 65535: /sd?port=9100\n"


def test_what_is_not_known_is_503_with_the_reason_and_no_line_in_the_log(caplog):
    app = App()
    app.unknown = "wg1 can't be read: it did not answer"
    with running(app) as server:
        for headers in ({}, {"Accept_Encoding": "gzip"}):
            answer = server.get("/sd?port=9100", **headers)
            assert (answer.status, answer.body) == (503, b"wg1 can't be read: it did not answer\n")
        app.unknown = ""
        assert server.get("/sd?port=9100").status == 200
    assert not caplog.records


def test_lists_for_many_ports_at_once_are_made_once_and_keep_no_scrape_waiting():
    app = App()
    app.list_gate.clear()
    got: dict[int, bytes] = {}

    def ask(port: int) -> None:
        how = {"Accept_Encoding": "gzip"} if port % 2 else {}
        body = server.get(f"/sd?port={port}", **how).body
        got[port] = gzip.decompress(body) if port % 2 else body

    with running(app) as server:
        threads = [threading.Thread(target=ask, args=(port,)) for port in range(1, 41)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(server.server._lists._under_way) >= 40)
        for _ in range(3):
            assert server.get("/metrics").status == 200
        app.list_gate.set()
        for thread in threads:
            thread.join(30)
    assert got == {port: b'[{"targets":["10.0.0.2:%d"]}]' % port for port in range(1, 41)}
    assert app.lists == 1
