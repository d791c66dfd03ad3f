"""Host names of endpoints: which endpoints have one, and whether the one in use is where the name leads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import conf_file, declared, device, key, peer, snapshot
from wg_exporter.conffile.endpoints import host_names
from wg_exporter.hostnames import (
    MEANINGS,
    NO_NAME,
    EndpointName,
    HostName,
    LookupFailure,
    address_of,
    differs,
    is_host_name,
)
from wg_exporter.model import Peers
from wg_exporter.names.endpoints import EndpointNames
from wg_exporter.status.host_name import told

NAME = "vpn.example.org:51820"
AT = 1_700_000_000.0


@pytest.mark.parametrize(
    "name", [NAME, "localhost:1", "127.1:1", "host:http", "xn--bcher-kva.example:1", "1.2.3.4.5:1"]
)
def test_what_is_no_address_is_a_name(name):
    assert is_host_name(name)


@pytest.mark.parametrize("address", ["", "192.0.2.1:51820", "[2001:db8::1]:51820", "[fe80::1%eth0]:51820", "51820"])
def test_an_address_is_no_name(address):
    assert not is_host_name(address)


def test_addresses_are_compared_whatever_they_are_written_as():
    assert address_of("192.0.2.1:51820") == "192.0.2.1"
    assert address_of("[2001:DB8:0::1]:51820") == "2001:db8::1"
    assert address_of("[fe80::1%eth0]:51820") == address_of("[fe80::1%3]:51820") == "fe80::1"
    assert address_of("[::ffff:192.0.2.1]:51820") == "192.0.2.1"


def test_an_endpoint_differs_if_it_is_none_of_several_addresses():
    found = ("192.0.2.1:51820", "[2001:db8::1]:51820")
    assert differs("192.0.2.9:51820", found) is True
    assert differs("192.0.2.1:51820", found) is False
    assert differs("[2001:db8::1]:51820", found) is False
    assert differs("192.0.2.1:40000", found) is False, "a NAT changes ports, and DNS has none"
    assert differs("", found) is None
    assert differs("192.0.2.1:51820", ()) is None


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=3))
def test_no_text_is_more_than_compared(endpoint, addresses):
    assert differs(endpoint, tuple(addresses)) in {True, False, None}
    assert is_host_name(endpoint) in {True, False}


def test_names_stand_in_the_files_of_an_interface_and_the_first_that_gives_an_endpoint_counts():
    files = (
        conf_file("wg0", declared(1, endpoint=NAME), declared(2, endpoint="192.0.2.2:51820"), declared(3)),
        conf_file(
            "wg0", declared(1, endpoint="other.example.org:1"), declared(3, endpoint="c.example.org:3"), path="/b"
        ),
        conf_file("", declared(4, endpoint="d.example.org:4"), path="/c"),
    )
    assert host_names(files) == {("wg0", key(1)): NAME, ("wg0", key(3)): "c.example.org:3"}


# --- rows of peers ----------------------------------------------------------------------------------------------------

CONF = (conf_file("wg0", declared(1, endpoint=NAME), declared(2)),)
HERE = HostName(NAME, ("192.0.0.1:51820",), AT)


def look(names: EndpointNames, *known: HostName, counts=None, conf=CONF, **changes):
    rows = device(peer(1, **changes), peer(2))
    found = snapshot(rows, conf=conf)._replace(host_names=known, reresolved=counts)
    names.follow(found)
    return names.rows(rows, found)


def test_a_peer_with_a_name_has_a_row_and_the_others_share_an_empty_one():
    row, other = look(EndpointNames(), HERE)
    assert row == EndpointName(NAME, HERE.addresses, AT, None, 0.0, mismatch=False, resolved=True)
    assert other is NO_NAME
    row, _ = look(EndpointNames(), HERE, endpoint="198.51.100.1:51820")
    assert row.mismatch is True


def test_what_is_not_known_is_neither():
    row, _ = look(EndpointNames())
    assert (row.name, row.mismatch, row.resolved) == (NAME, None, None), "it was not looked up yet"
    row, _ = look(EndpointNames(), HERE._replace(addresses=(), failure=LookupFailure.NOT_FOUND, failed_since=AT + 9))
    assert (row.mismatch, row.resolved, row.failure, row.failed_since) == (None, False, LookupFailure.NOT_FOUND, AT + 9)
    row, _ = look(EndpointNames(), HERE, endpoint="")
    assert (row.mismatch, row.resolved) == (None, True)


def test_a_device_without_names_or_in_another_namespace_has_no_rows():
    assert look(EndpointNames(), conf=(conf_file("wg0", declared(2)),)) == ()
    assert look(EndpointNames(), conf=(conf_file("wg1", declared(1, endpoint=NAME)),)) == ()
    elsewhere = device(peer(1), netns="blue")
    assert EndpointNames().rows(elsewhere, snapshot(elsewhere, conf=CONF)) == ()


def test_rows_are_the_same_objects_while_nothing_changed():
    names = EndpointNames()
    known, conf = (HERE,), CONF
    rows = Peers.of([peer(1), peer(2)])
    one = device()._replace(peers=rows)
    first = names.rows(one, snapshot(one, conf=conf)._replace(host_names=known))
    again = one._replace(peers=Peers.of([peer(1, rx_bytes=9), peer(2)], rows))
    assert names.rows(again, snapshot(again, conf=conf)._replace(host_names=known)) is first
    moved = one._replace(peers=Peers.of([peer(1), peer(2, endpoint="203.0.113.1:1")], rows))
    assert names.rows(moved, snapshot(moved, conf=conf)._replace(host_names=known))[0] is first[0]


def test_where_each_name_leads_is_the_same_object_while_nothing_is_looked_up():
    names, lost = EndpointNames(), HostName("gone.example.org:1", failure=LookupFailure.NOT_FOUND)
    once = snapshot(conf=CONF)._replace(host_names=(HERE, lost))
    first = names.resolved(once)
    assert first == {HERE.endpoint: frozenset(HERE.addresses)}
    assert names.resolved(once) is first
    assert names.resolved(once._replace(host_names=())) == {}


def test_what_was_set_is_counted_also_when_the_reader_begins_anew():
    names = EndpointNames()

    def count(number: int) -> int | None:
        return look(names, HERE, counts=(("wg0", key(1), number),) if number else ())[0].reresolved

    assert [count(number) for number in (0, 1, 1, 3)] == [0, 1, 1, 3]
    assert [count(number) for number in (0, 0, 2, 2)] == [3, 3, 5, 5]
    assert look(names, HERE)[0].reresolved is None, "it was turned off"


# --- in words ---------------------------------------------------------------------------------------------------------

MOVED = EndpointName(NAME, ("192.0.2.9:51820", "[2001:db8::9]:51820"), AT, mismatch=True, resolved=True)


def test_a_line_says_where_a_name_leads_and_what_to_do():
    line = "the host name in its file, vpn.example.org:51820, now resolves to 192.0.2.9, 2001:db8::9, and not to the "
    line += "endpoint in use"
    fix = f"; if the peer is there now: `wg set wg0 peer {key(1)} endpoint vpn.example.org:51820`"
    assert told(MOVED, "wg0", key(1)) == line + fix
    assert told(MOVED._replace(reresolved=0), "wg0", key(1)) == line, "it is done without anybody"
    assert told(MOVED._replace(mismatch=False), "wg0", key(1)) == ""
    assert told(NO_NAME, "wg0", key(1)) == ""


def test_a_line_tells_strangers_no_more_than_they_may_know():
    address = told(MOVED, "wg0", key(1), "address")
    assert "51820" not in address
    assert "vpn.example.org, now resolves to 192.0.2.9" in address
    off = told(MOVED, "wg0", key(1), "off")
    assert off == "the host name in its file does not resolve to the endpoint in use"
    failed = EndpointName(NAME, failure=LookupFailure.NO_ANSWER, resolved=False)
    assert "example" not in told(failed, "wg0", key(1), "off")


def test_each_failure_has_words():
    assert set(MEANINGS) == set(LookupFailure)
    for failure, meaning in MEANINGS.items():
        assert told(EndpointName(NAME, failure=failure), "wg0", key(1)) == (
            f"the host name in its file, {NAME}, could not be resolved: {meaning}"
        )
