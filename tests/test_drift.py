"""What is a difference between a file and a device, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import device, key, link, peer, snapshot
from wg_exporter.compared import KeyComparison, KeysDiffer
from wg_exporter.conffile import parse_netdev, parse_wg_quick
from wg_exporter.drift.book import Drifts
from wg_exporter.drift.compare import MOST
from wg_exporter.drift.forms import MOST_CHARACTERS
from wg_exporter.drift.kinds import MEANINGS, Difference, Drift, Kind
from wg_exporter.model import ConfFile, Outcome, SourceName

PATH = "/etc/wireguard/wg0.conf"
OWN = "10.0.0.254/24"
NONE = {kind: 0 for kind in Kind if kind not in (Kind.PRESHARED_KEY, Kind.PRIVATE_KEY)}

A = peer(1, endpoint="192.0.2.1:51820", allowed_ips=("10.0.0.1/32",), persistent_keepalive=0)
B = peer(2, endpoint="", allowed_ips=("10.0.0.2/32", "fd00::2/128"), persistent_keepalive=25)
HEAD = "[Interface]\nListenPort = 51820\nMTU = 1420\nAddress = 10.0.0.254/24\n"
OF_A = f"[Peer]\n# Anna\nPublicKey = {A.public_key}\nAllowedIPs = 10.0.0.1/32\nEndpoint = 192.0.2.1:51820\n"
OF_B = f"[Peer]\nPublicKey = {B.public_key}\nAllowedIPs = 10.0.0.2/32, fd00::2/128\nPersistentKeepalive = 25\n"


def quick(text: str, path: str = PATH) -> ConfFile:
    return parse_wg_quick(text, path)


def netdev(text: str) -> ConfFile:
    head = "[NetDev]\nName = wg0\nKind = wireguard\n"
    return parse_netdev(head + text, "/etc/systemd/network/wg0.netdev", read_key=lambda _: None)


def look(*files: ConfFile, peers=(A, B), at=..., keys=(), resolved=None, drifts=None, outcomes=(), **changes):
    """The drift of wg0, None if it has none."""
    row = device(*peers, **changes)
    where = (link(addresses=(OWN,)),) if at is ... else (at,) if at else ()
    seen = snapshot(row, links=where, conf=files, outcomes=outcomes)._replace(keys=keys)
    return (drifts or Drifts()).look(seen, resolved or {}).get((row.netns, row.name))


def counted(drift: Drift) -> dict[Kind, int]:
    """The kinds that differ."""
    return {kind: number for kind, number in drift.counts if number}


def test_a_device_that_is_as_its_file_says_has_every_kind_at_0():
    assert dict(look(quick(HEAD + OF_A + OF_B)).counts) == NONE


def test_each_kind_has_a_meaning():
    assert set(MEANINGS) == set(Kind)


# Forms in which a file and a device say the same thing.


@pytest.mark.parametrize(
    "text",
    [
        OF_A.replace("10.0.0.1/32", "10.0.0.1"),
        OF_A.replace("AllowedIPs = 10.0.0.1/32", "AllowedIPs = 10.0.0.1\nAllowedIPs = 10.0.0.1/32"),
        OF_A + "PersistentKeepalive = off\n",
        OF_A + "PersistentKeepalive = 0\n",
        OF_A + "Table = off\n",
        OF_A.replace("192.0.2.1:51820", "[192.0.2.1]:51820"),
        OF_A.replace("192.0.2.1:51820", "[::ffff:192.0.2.1]:51820"),
        OF_A.replace("Endpoint = 192.0.2.1:51820\n", ""),
        OF_A.replace("192.0.2.1:51820", "vpn.example.net:51820"),
        OF_A.replace("192.0.2.1:51820", "192.0.2.1:wireguard"),
        OF_A + f"[Peer]\nPublicKey = {key(999)}\n",  # the device's own key: WireGuard leaves such a peer out
    ],
)
def test_what_is_written_in_another_way_is_no_difference(text):
    assert counted(look(quick(HEAD + text + OF_B))) == {}


@pytest.mark.parametrize(
    ("wanted", "used"),
    [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.0.0.0/8, 192.168.0.0/16", ("192.168.0.0/16", "10.0.0.0/8")),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.1/128", "::ffff:192.0.2.1/128"),
        ("0.0.0.0/0,::/0", ("0.0.0.0/0", "::/0")),
        ("", ()),
    ],
)
def test_allowed_ips_are_networks_without_order_host_bits_and_spelling(wanted, used):
    row = A._replace(allowed_ips=(used,) if isinstance(used, str) else used)
    text = OF_A.replace("AllowedIPs = 10.0.0.1/32", f"AllowedIPs = {wanted}")
    assert counted(look(quick(HEAD + text), peers=(row,))) == {}
    other = row._replace(allowed_ips=(*row.allowed_ips, "198.51.100.0/24"))
    assert counted(look(quick(HEAD + text), peers=(other,))) == {Kind.ALLOWED_IPS: 1}


@pytest.mark.parametrize(
    "head",
    [
        "[Interface]\n",
        "[Interface]\nListenPort = 0\nFwMark = off\n",
        "[Interface]\nFwMark = 0\nPreUp = /etc/wireguard/up.sh\nTable = 42\n",
        "[Interface]\nListenPort = 51820\nListenPort = 0x\n",
        "[Interface]\nMTU = 1500\nMTU = 1420\nAddress = 10.0.0.254/24\n",
        "[Interface]\nPostUp = wg set %i private-key /etc/wireguard/key fwmark 7\n",
    ],
)
def test_what_a_file_leaves_open_is_not_judged(head):
    assert counted(look(quick(head + OF_A + OF_B), listen_port=51820, fwmark=51820)) == {}


def test_a_file_without_any_value_means_0_for_keepalive_and_none_for_allowed_ips():
    only = f"[Peer]\nPublicKey = {B.public_key}\n"
    assert counted(look(quick(only), peers=(B,))) == {Kind.ALLOWED_IPS: 1, Kind.KEEPALIVE: 1}


# One change at a time.


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"peers": (B,)}, Difference(Kind.PEER_MISSING, A.public_key, "10.0.0.1/32", "", "Anna")),
        (
            {"peers": (A, B, peer(3))},
            Difference(Kind.PEER_EXTRA, key(3), "", "10.0.0.3/32"),
        ),
        (
            {"peers": (A._replace(allowed_ips=("10.0.0.1/32", "10.9.0.0/16")), B)},
            Difference(Kind.ALLOWED_IPS, A.public_key, "10.0.0.1/32", "10.0.0.1/32, 10.9.0.0/16", "Anna"),
        ),
        (
            {"peers": (A._replace(endpoint="192.0.2.1:4711"), B)},
            Difference(Kind.ENDPOINT, A.public_key, "192.0.2.1:51820", "192.0.2.1:4711", "Anna"),
        ),
        (
            {"peers": (A._replace(endpoint=""), B)},
            Difference(Kind.ENDPOINT, A.public_key, "192.0.2.1:51820", "", "Anna"),
        ),
        (
            {"peers": (A, B._replace(persistent_keepalive=0))},
            Difference(Kind.KEEPALIVE, B.public_key, "25", "off"),
        ),
        (
            {"peers": (A._replace(persistent_keepalive=5), B)},
            Difference(Kind.KEEPALIVE, A.public_key, "off", "5", "Anna"),
        ),
        ({"listen_port": 51821}, Difference(Kind.LISTEN_PORT, "", "51820", "51821")),
        ({"at": link(mtu=1380, addresses=(OWN,))}, Difference(Kind.MTU, "", "1420", "1380")),
        ({"at": link(addresses=("10.0.0.254/32", "fe80::1/64"))}, Difference(Kind.ADDRESS, "", "10.0.0.254/24", "")),
    ],
)
def test_one_change_is_one_difference_of_its_kind(change, expected):
    found = look(quick(HEAD + OF_A + OF_B), **change)
    assert found.differences == (expected,)
    assert counted(found) == {expected.kind: 1}
    assert found.total == 1


def test_a_firewall_mark_that_the_file_gives_is_judged():
    file = quick("[Interface]\nFwMark = 0xCA6C\n" + OF_A + OF_B)
    assert counted(look(file, fwmark=51820)) == {}
    assert look(file, fwmark=0).differences == (Difference(Kind.FWMARK, "", "0xca6c", "0x0"),)


def test_addresses_that_the_file_does_not_name_are_nobodys_mistake():
    """Link-local ones come by themselves, and a VRRP daemon or a script may add others."""
    assert counted(look(quick(HEAD + OF_A + OF_B), at=link(addresses=(OWN, "10.0.0.9/24", "fe80::1/64")))) == {}
    bare = "[Interface]\nAddress = 10.0.0.254, fd00::1\n"
    assert counted(look(quick(bare + OF_A + OF_B), at=link(addresses=("10.0.0.254/32", "fd00::1/128")))) == {}
    assert counted(look(quick(bare + OF_A + OF_B))) == {Kind.ADDRESS: 2}


def test_without_its_link_neither_mtu_nor_addresses_are_known():
    found = dict(look(quick(HEAD + OF_A + OF_B), at=None).counts)
    assert found == {kind: 0 for kind in NONE if kind not in (Kind.MTU, Kind.ADDRESS)}


# Endpoints.


def test_a_host_name_is_judged_by_the_addresses_that_somebody_else_has_found():
    file = quick(OF_A.replace("192.0.2.1:51820", "vpn.example.net:51820"))

    def differs(endpoint: str, *addresses: str) -> bool:
        found = {"vpn.example.net:51820": frozenset(addresses)}
        return bool(counted(look(file, peers=(A._replace(endpoint=endpoint),), resolved=found)))

    assert not differs("192.0.2.1:51820", "192.0.2.1:51820", "[2001:db8::1]:51820")
    assert not differs("[2001:db8::1]:51820", "192.0.2.1:51820", "[2001:DB8::1]:51820")
    assert differs("192.0.2.7:51820", "192.0.2.1:51820")
    assert differs("192.0.2.1:4711", "192.0.2.1:51820")
    assert not differs("192.0.2.7:51820"), "a name without an address says nothing"
    assert counted(look(file, peers=(A._replace(endpoint=""),))) == {Kind.ENDPOINT: 1}, "no name resolves to nothing"


def test_a_zone_is_written_as_a_name_or_a_number_and_does_not_count():
    file = quick(OF_A.replace("192.0.2.1:51820", "[fe80::1%eth0]:51820"))
    assert counted(look(file, peers=(A._replace(endpoint="[fe80::1%2]:51820"),))) == {}
    assert counted(look(file, peers=(A._replace(endpoint="[fe80::2%2]:51820"),))) == {Kind.ENDPOINT: 1}


def test_a_file_that_wg_quick_saves_names_where_a_peer_was_and_not_where_it_shall_be():
    file = quick(HEAD + "SaveConfig = true\n" + OF_A + OF_B)
    found = look(file, peers=(A._replace(endpoint="198.51.100.1:1"), B._replace(persistent_keepalive=0)))
    assert counted(found) == {Kind.KEEPALIVE: 1}
    assert found.saved


# One allowed IP in several sections.


def test_the_last_peer_of_a_wg_quick_file_has_an_allowed_ip_that_several_name():
    text = OF_A + OF_B.replace("10.0.0.2/32", "10.0.0.2/32, 10.0.0.1/32")
    moved = (A._replace(allowed_ips=()), B._replace(allowed_ips=(*B.allowed_ips, "10.0.0.1/32")))
    assert counted(look(quick(text), peers=moved)) == {}
    assert counted(look(quick(text))) == {Kind.ALLOWED_IPS: 2}


def test_of_two_sections_for_one_key_the_later_one_takes_an_allowed_ip_back():
    text = OF_A + OF_B.replace("10.0.0.2/32", "10.0.0.1/32") + OF_A
    assert counted(look(quick(text), peers=(A, B._replace(allowed_ips=("fd00::2/128",))))) == {}


def test_what_a_section_took_that_was_replaced_by_a_later_one_for_its_key_is_not_judged():
    """The last of three sections takes nothing, and what the second took from the first peer is gone."""
    taken = OF_B.replace("10.0.0.2/32", "10.0.0.1/32")
    text = OF_A + taken + OF_B.replace("AllowedIPs = 10.0.0.2/32, fd00::2/128\n", "")
    gone = (A._replace(allowed_ips=()), B._replace(allowed_ips=()))
    assert counted(look(quick(text), peers=gone)) == {}


def test_which_peer_of_a_netdev_has_an_allowed_ip_that_several_name_is_not_known():
    text = (OF_A + OF_B.replace("10.0.0.2/32", "10.0.0.2/32, 10.0.0.1/32")).replace("[Peer]", "[WireGuardPeer]")
    moved = (A._replace(allowed_ips=()), B._replace(allowed_ips=(*B.allowed_ips, "10.0.0.1/32")))
    for peers in ((A, B), moved):
        assert counted(look(netdev(text), peers=peers)) == {}
    assert counted(look(netdev(text), peers=(A, B._replace(allowed_ips=())))) == {Kind.ALLOWED_IPS: 1}


# What was not understood, and what commands do.


def test_what_was_not_understood_is_not_judged_and_the_rest_is():
    text = OF_A.replace("10.0.0.1/32", "10.0.0.1/33") + "PersistentKeepalive = often\n"
    found = look(quick(HEAD + text.replace("192.0.2.1:", "192.0.2.1;") + OF_B.replace("25", "7")))
    assert counted(found) == {Kind.KEEPALIVE: 1}
    assert found.differences[0].public_key == B.public_key


def test_a_section_without_a_key_may_be_any_of_the_extra_peers():
    lost = "[Peer]\nAllowedIPs = 10.0.0.2/32\n"
    assert counted(look(quick(OF_A + lost))) == {}
    assert counted(look(quick(lost))) == {Kind.PEER_EXTRA: 1}


@pytest.mark.parametrize(
    "hook",
    [
        "PostUp = wg addconf %i /etc/wireguard/peers",
        "PreUp = sleep 1; /usr/bin/wg set %i peer x allowed-ips 10.0.0.0/8",
        "PostUp = awg syncconf wg0 <(cat x)",
    ],
)
def test_where_commands_of_the_file_make_peers_these_are_not_judged(hook):
    found = look(quick(HEAD + hook + "\n" + OF_A), listen_port=1, keys=(KeyComparison("wg0", PATH, False),))
    assert dict(found.counts) == {
        Kind.PRIVATE_KEY: 1,
        Kind.LISTEN_PORT: 1,
        Kind.FWMARK: 0,
        Kind.MTU: 0,
        Kind.ADDRESS: 0,
    }
    assert found.hooked


# networkd.


def test_a_netdev_says_the_same_in_its_own_words():
    text = "MTUBytes = 1K\n[WireGuard]\nListenPort = auto\nFirewallMark = 0x10\nRouteTable = 7\n" + OF_A.replace(
        "[Peer]", "[WireGuardPeer]\nRouteTable = main"
    )
    found = look(netdev(text), peers=(A,), at=link(mtu=1024), fwmark=16)
    assert counted(found) == {}
    found = look(netdev(text), peers=(A,), at=link(mtu=1420), fwmark=17)
    assert counted(found) == {Kind.MTU: 1, Kind.FWMARK: 1}


# Keys.


def test_of_keys_only_that_they_differ_is_told():
    compared = KeyComparison(
        "wg0",
        PATH,
        False,
        ((A.public_key, KeysDiffer.OTHER), (B.public_key, KeysDiffer.DEVICE_ONLY), (key(9), KeysDiffer.FILE_ONLY)),
    )
    found = look(quick(HEAD + OF_A + OF_B), keys=(compared,))
    assert counted(found) == {Kind.PRESHARED_KEY: 3, Kind.PRIVATE_KEY: 1}
    assert [one[1:4] for one in found.differences] == [
        (A.public_key, "set", "another"),
        (B.public_key, "", "set"),
        (key(9), "set", ""),
        ("", "set", "another"),
    ]


def test_keys_that_are_the_same_are_kinds_at_0():
    found = look(quick(HEAD + OF_A + OF_B), keys=(KeyComparison("wg0", PATH, None),))
    assert dict(found.counts) == dict.fromkeys(Kind, 0)


# Which file describes which device.


def test_no_file_no_drift():
    assert look() is None
    assert look(quick(OF_A, "/etc/wireguard/wg1.conf")) is None
    assert look(quick(OF_A), netns="blue") is None, "files describe this host's own namespace"


def test_files_that_could_not_be_read_at_this_look_say_nothing():
    for success in (True, False):
        outcome = Outcome(SourceName.CONF, "", success, 0.1, "" if success else "denied")
        assert (look(quick(OF_A), outcomes=(outcome,)) is None) != success


def test_of_two_files_for_one_device_the_one_that_fits_best_counts():
    other = "/etc/amnezia/amneziawg/wg0.conf"
    found = look(quick(OF_A, other), quick(HEAD + OF_A + OF_B))
    assert (found.path, found.others, counted(found)) == (PATH, (other,), {})
    found = look(quick(OF_A, other), quick(HEAD + OF_A + OF_B), peers=(A,))
    assert (found.path, found.others, counted(found)) == (other, (PATH,), {})


# Cost.


def test_what_did_not_change_is_the_same_object_and_counters_are_not_looked_at():
    drifts, file = Drifts(), quick(HEAD + OF_A + OF_B)
    rows = device(A, B._replace(persistent_keepalive=1))
    first = drifts.look(snapshot(rows, links=(link(addresses=(OWN,)),), conf=(file,)))
    moved = rows._replace(peers=rows.peers.of([one._replace(rx_bytes=7) for one in rows.peers], rows.peers))
    conf = (file,)
    again = drifts.look(snapshot(moved, links=(link(addresses=(OWN,)),), conf=conf))
    assert again is first
    assert first["", "wg0"].total == 1
    back = drifts.look(snapshot(device(A, B), links=(link(addresses=(OWN,)),), conf=conf))
    assert back["", "wg0"].total == 0


def test_more_differences_than_anybody_reads_are_counted_and_not_all_named():
    rows = [peer(n) for n in range(MOST + 500)]
    found = look(quick(HEAD), peers=rows)
    assert counted(found) == {Kind.PEER_EXTRA: MOST + 500}
    assert len(found.differences) == MOST
    many = A._replace(allowed_ips=tuple(f"10.{n >> 8}.{n & 255}.0/24" for n in range(4000)))
    shown = look(quick(HEAD + OF_A), peers=(many,)).differences[0].device
    assert len(shown) < MOST_CHARACTERS + 30
    assert shown.endswith(f", and {4000 - shown.count('/')} more")


# Any device, and the file that `wg showconf` would write of it.

PEERS = st.integers(1, 60).flatmap(
    lambda n: st.builds(
        lambda endpoint, ips, keepalive: peer(n, endpoint=endpoint, allowed_ips=ips, persistent_keepalive=keepalive),
        st.sampled_from(["", f"192.0.2.{n}:{n}", f"[2001:db8::{n}]:51820"]),
        st.sampled_from([(), (f"10.0.{n}.0/24",), (f"10.0.{n}.0/24", f"fd00:{n}::/32")]),
        st.sampled_from([0, 25, 65535]),
    )
)
DEVICES = st.builds(
    lambda rows, port, mark: device(*rows, listen_port=port, fwmark=mark),
    st.lists(PEERS, max_size=6, unique_by=lambda row: row.public_key),
    st.integers(1, 65535),
    st.sampled_from([0, 1, 0xFFFFFFFF]),
)


def shown(row) -> str:
    """As `wg showconf` writes it."""
    lines = ["[Interface]", f"ListenPort = {row.listen_port}", f"FwMark = {row.fwmark:#x}" if row.fwmark else ""]
    for one in row.peers:
        lines += ["", "[Peer]", f"PublicKey = {one.public_key}"]
        if one.allowed_ips:
            lines.append(f"AllowedIPs = {', '.join(one.allowed_ips)}")
        if one.endpoint:
            lines.append(f"Endpoint = {one.endpoint}")
        if one.persistent_keepalive:
            lines.append(f"PersistentKeepalive = {one.persistent_keepalive}")
    return "\n".join(lines)


def changed(row, drawn):
    """The device with one change, and the kind of it."""
    rows = list(row.peers)
    kinds = [Kind.PEER_EXTRA, Kind.LISTEN_PORT]
    if rows:
        kinds += [Kind.PEER_MISSING, Kind.ALLOWED_IPS, Kind.KEEPALIVE]
    if any(one.endpoint for one in rows):
        kinds.append(Kind.ENDPOINT)
    kind = drawn.draw(st.sampled_from(kinds))
    at = drawn.draw(
        st.sampled_from([n for n, one in enumerate(rows) if kind is not Kind.ENDPOINT or one.endpoint] or [0])
    )
    match kind:
        case Kind.PEER_EXTRA:
            rows.insert(at, peer(99))
        case Kind.PEER_MISSING:
            del rows[at]
        case Kind.ALLOWED_IPS:
            rows[at] = rows[at]._replace(allowed_ips=(*rows[at].allowed_ips, "198.51.100.0/24"))
        case Kind.KEEPALIVE:
            rows[at] = rows[at]._replace(persistent_keepalive=rows[at].persistent_keepalive ^ 7)
        case Kind.ENDPOINT:
            rows[at] = rows[at]._replace(endpoint="203.0.113.1:1")
        case Kind.LISTEN_PORT:
            return row._replace(listen_port=row.listen_port % 65535 + 1), kind
    return row._replace(peers=row.peers.of(rows)), kind


@given(DEVICES, st.data())
def test_a_file_made_from_a_device_never_differs_and_one_change_is_one_difference(row, drawn):
    file = parse_wg_quick(shown(row), PATH)
    drifts = Drifts()
    conf = (file,)
    assert drifts.look(snapshot(row, links=(link(),), conf=conf))["", "wg0"].total == 0
    now, kind = changed(row, drawn)
    found = drifts.look(snapshot(now, links=(link(),), conf=conf))["", "wg0"]
    assert counted(found) == {kind: 1}
    assert found == Drifts().look(snapshot(now, links=(link(),), conf=conf))["", "wg0"], "what was kept is as made anew"
    assert drifts.look(snapshot(row, links=(link(),), conf=conf))["", "wg0"].total == 0


WORDS = st.sampled_from(
    ["[Peer]", "[Interface]", "[WireGuardPeer]", "[NetDev]", "Kind=wireguard", "Name=wg0", f"PublicKey={A.public_key}",
     "AllowedIPs", "AllowedIPs=10.0.0.0/8", "Endpoint=", "Endpoint=x:1", "Endpoint=[::1%x]:99999", "MTU=99999999999",
     "MTUBytes=9G", "ListenPort=70000", "FwMark=0x", "FwMark=٣", "Address=1/2,::/0,%", "Address=10.0.0.1/33",
     "PostUp=wg set peer", "PresharedKey=", "PrivateKeyFile=/", "SaveConfig=true", "\\", "#"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=20)), max_size=25).map("\n".join)


@given(TEXTS, st.sampled_from(["192.0.2.1:51820", "", "x", "[::1]:1", ":", "]:1"]))
def test_any_file_and_any_endpoint_are_compared_without_an_error(text, endpoint):
    rows = (A._replace(endpoint=endpoint, allowed_ips=("10.0.0.0/8", "nonsense")), B)
    for file in (quick(text), netdev(text)):
        found = look(file, peers=rows, resolved={"x:1": frozenset({"nonsense", "192.0.2.1:1"})})
        assert found is None or all(number >= 0 for _, number in found.counts)
