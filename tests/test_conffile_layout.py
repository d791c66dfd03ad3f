"""Which name in a configuration file is whose, for files as people and their tools write them in the field."""

import base64
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter.conffile import parse_netdev, parse_wg_quick
from wg_exporter.conffile.keys import could_hold_key

PATH = "/etc/wireguard/wg0.conf"
INTERFACE = "[Interface]\nAddress = 10.8.0.1/24\nListenPort = 51820\nPostDown =\n"


def key(number: int) -> str:
    return base64.b64encode(random.Random(number).randbytes(31) + bytes([number])).decode()


def peer(number: int, *, under: str = "", inside: str = "") -> str:
    """One section; the comments without a blank line around them."""
    lines = ["[Peer]", under, f"PublicKey = {key(number)}", inside, f"AllowedIPs = 10.8.0.{number}/32"]
    return "".join(f"{line}\n" for line in lines if line)


def names(*parts: str) -> list[str]:
    found = parse_wg_quick("".join(parts), PATH)
    assert found.problems == ()
    return [row.name for row in found.peers]


# Friendly names: over each [Peer], or inside


@pytest.mark.parametrize("blank", ["", "\n"])
@pytest.mark.parametrize("form", ["# friendly_name = {}", "#friendly-name: {}", '# friendly_json = {{"name": "{}"}}'])
def test_friendly_names_that_stand_over_the_first_peer_stand_over_all_with_or_without_blank_lines(
    form: str, blank: str
) -> None:
    alice, bob, carol = (form.format(name) + "\n" for name in ("Alice", "Bob", "Carol"))
    parts = (alice, peer(1), blank, bob, peer(2), blank, carol, peer(3))
    assert names(INTERFACE, *parts) == ["Alice", "Bob", "Carol"]
    assert names(INTERFACE, "\n", *parts) == ["Alice", "Bob", "Carol"]
    assert names(*parts) == ["Alice", "Bob", "Carol"]


def test_friendly_names_over_the_header_are_missing_where_they_are_missing() -> None:
    parts = ("# friendly_name = Alice\n", peer(1), peer(2), "# friendly_name = Carol\n", peer(3))
    assert names(INTERFACE, *parts) == ["Alice", "", "Carol"]


def test_friendly_names_at_the_end_of_each_section_belong_to_it() -> None:
    alice, bob = "# friendly_name = Alice\n", "# friendly_name = Bob\n"
    assert names(INTERFACE, peer(1), alice, peer(2), bob) == ["Alice", "Bob"]
    assert names(INTERFACE, peer(1), alice, "\n", peer(2), bob, "\n") == ["Alice", "Bob"]
    assert names(INTERFACE, peer(1), "\n", alice, "\n", peer(2), "\n", bob) == ["Alice", "Bob"]


def test_the_first_friendly_name_within_a_section_shows_that_a_later_one_at_its_end_is_not_of_the_peer_below() -> None:
    inside, under = "# friendly_name = Alice", "# friendly_name = Carol"
    assert names(peer(1, under=inside), peer(2), "\n# friendly_name = Bob\n", peer(3)) == ["Alice", "Bob", ""]
    assert names(peer(1, inside=inside), peer(2), "# friendly_name = Bob\n", peer(3, under=under)) == [
        "Alice",
        "Bob",
        "Carol",
    ]


def test_of_two_friendly_names_for_one_peer_the_one_over_a_peer_without_is_the_name_of_that() -> None:
    assert names(peer(1, under="# friendly_name = Alice"), "\n# friendly_name = Bob\n", peer(2)) == ["Alice", "Bob"]


def test_a_friendly_name_with_notes_between_it_and_its_header_is_a_name() -> None:
    notes = "\n# phone, since May\n# call before you change it\n"
    parts = ("# friendly_name = Alice\n", notes, peer(1), "\n# friendly_name = Bob\n", notes, peer(2))
    assert names(INTERFACE, "\n", *parts) == ["Alice", "Bob"]
    assert names(INTERFACE, "\n", *parts[:3], peer(3), *parts[3:]) == ["Alice", "", "Bob"]


@pytest.mark.parametrize(
    "line",
    [
        *("# friendly_name = Alice", "# friendly_name: Alice", "# friendly-name: Alice", "#Friendly-Name=Alice"),
        *(
            "# friendly name: Alice",
            "# FriendlyName = Alice",
            "; friendly_name : Alice",
            '# friendly-json: {"name": "Alice"}',
        ),
        *("# Name = Alice", "#Name# = Alice", "# name: Alice", "#NAME=Alice", "# Peer name: Alice", "# Client = Alice"),
        *("# peer_name = Alice", "#\u200f friendly_name = Alice", "# \u2067Name: Alice"),
    ],
)
def test_a_line_that_says_that_it_is_a_name_counts_wherever_in_the_section_it_stands(line: str) -> None:
    assert names(peer(1, under=line)) == ["Alice"]
    assert names(peer(1, under="# a note", inside=line)) == ["Alice"]
    assert names(INTERFACE, line, "\n", peer(1)) == ["Alice"]
    assert names(peer(1), line, "\n") == ["Alice"]


# The lines of managers


def test_labels_stand_over_or_under_their_peers_as_the_first_one_does() -> None:
    """WGDashboard and hand-made files, without the blank lines that would tell."""
    assert names(INTERFACE, peer(1, under="#Name# = Alice"), peer(2), "#Name# = Bob\n", peer(3)) == ["Alice", "Bob", ""]
    parts = ("# Name = Alice\n", peer(1), "# Name = Bob\n", peer(2), "# Name = Carol\n", peer(3))
    assert names(INTERFACE, *parts) == ["Alice", "Bob", "Carol"]


def test_friendly_names_and_labels_may_stand_in_different_places() -> None:
    parts = [
        f"\n### Client {name}\n" + peer(number, inside=f"# friendly_name = {friendly}" if friendly else "")
        for number, (name, friendly) in enumerate([("a", "Alice"), ("bob", ""), ("c", "Carol")], 1)
    ]
    assert names(INTERFACE, *parts) == ["Alice", "bob", "Carol"]


def test_of_two_labels_the_one_next_to_the_header_counts() -> None:
    assert names(INTERFACE, "# Client: far (1)\n# Client: near (2)\n", peer(1)) == ["near"]
    assert names(INTERFACE, "### Client far\n\n# BEGIN_PEER near\n\n", peer(1)) == ["near"]
    assert names(peer(1, under="# Name = near\n# Name = far")) == ["near"]


def test_an_opening_line_names_the_peer_below_past_notes_and_blank_lines() -> None:
    for line in ("### Client {}", "# BEGIN_PEER {}", "### begin {} ###", "# 7: {} > wgclient_{}.conf", "# {} start"):
        opened = [line.format(name, name) for name in ("alice", "bob")]
        parts = (opened[0], "\n\n# has a new phone\n", peer(1), opened[1], "\n\n", peer(2))
        assert names(INTERFACE, *parts) == ["alice", "bob"]


def test_wireguard_manager_marks_start_and_end() -> None:
    parts = [f"# {name} start\n{peer(number)}# {name} end\n" for number, name in enumerate(("alice", "bob"), 1)]
    assert names(INTERFACE, *parts) == ["alice", "bob"]
    shouted = [f"### {name} - START\n{peer(number)}### {name} - END\n\n" for number, name in enumerate(("a", "b"), 1)]
    assert names(INTERFACE, *shouted) == ["a", "b"]
    assert names(INTERFACE, *(part.replace("bob", "Bob the builder") for part in parts)) == ["alice", "Bob the builder"]


@pytest.mark.parametrize("mark", ["# {} ANSIBLE MANAGED BLOCK alice", "# {} alice", "#### {} alice"])
def test_blocks_between_begin_and_end_are_called_by_what_both_say(mark: str) -> None:
    block = f"{mark.format('BEGIN')}\n{peer(1)}{mark.format('END')}\n"
    assert names(INTERFACE, block, block.replace("alice", "bob").replace(key(1), key(2))) == ["alice", "bob"]


def test_an_ansible_block_without_a_name_names_nobody() -> None:
    block = f"# BEGIN ANSIBLE MANAGED BLOCK\n{peer(1)}# END ANSIBLE MANAGED BLOCK\n"
    assert names(INTERFACE, block, "[Peer]\n", f"PublicKey = {key(2)}\n") == ["", ""]


def test_the_name_of_a_peer_that_is_switched_off_at_the_end_of_the_file_is_not_that_of_the_peer_above() -> None:
    off = "#[disabled] [Peer]\n#[disabled] PublicKey = x\n"
    pivpn = ("### begin alice ###\n", peer(1), "### end alice ###\n### begin bob ###\n", off, "### end bob ###\n")
    assert names(INTERFACE, *pivpn) == ["alice"]
    assert names(INTERFACE, peer(1), "### Client bob\n") == [""]
    for line in ("# Client: {} (1)", "# friendly_name = {}", "# Name = {}"):
        over = (line.format("alice"), "\n", peer(1), "BLANK", line.format("bob"), "\n# [Peer]\n# PublicKey = x\n")
        for blank in ("", "\n"):
            parts = [part.replace("BLANK", blank) for part in over]
            assert names(INTERFACE, *parts) == ["alice"]
            assert names(INTERFACE, *parts[:3], peer(2), *parts[3:]) == ["alice", ""]


def test_a_name_that_merely_ends_in_end_or_begins_with_start_is_a_name() -> None:
    assert names("# West end\n", peer(1), "\n# Start up office\n", peer(2), "\n# The cold start\n", peer(3)) == [
        "West end",
        "Start up office",
        "The cold start",
    ]


def test_easy_wg_quick_lists_number_name_and_file() -> None:
    parts = [f"\n# {n}: {name} > wgclient_{name}.conf\n{peer(n)}" for n, name in ((10, "10"), (11, "bob phone"))]
    assert names("# Hub configuration created on hub on Mon Jan 1\n", INTERFACE, *parts) == ["10", "bob phone"]
    assert names("# 2nd floor > 3rd floor\n", peer(1)) == ["2nd floor > 3rd floor"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Alice / alice@example.org / Updated: 2024-03-02 / Created: 2023-01-01", "Alice"),
        ("Berlin / Mitte / b@example.org / Updated: 2024-03-02 / Created: 2023-01-01", "Berlin / Mitte"),
        ("Alice /  / Updated: 2024-03-02 / Created: 2023-01-01", "Alice"),
        ("Berlin / Mitte /  / Updated: 2024-03-02 / Created: 2023-01-01", "Berlin / Mitte"),
        ("hub / Updated: 2024-03-02 / Created: 2023-01-01", "hub"),
        ("Berlin / Mitte", "Berlin / Mitte"),
    ],
)
def test_wg_gen_web_names_may_hold_slashes(line: str, name: str) -> None:
    assert names(INTERFACE, f"# {line}\n", peer(1)) == [name]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("# Client: Alice (7d3b6fc2-5d5b-4b7e-9a77-0b9b3a6f2c11)", "Alice"),
        ("# Client: Alice (12)", "Alice"),
        ("# Client: Alice (work) (12)", "Alice (work)"),
        ("# Client: Alice (work)", "Alice (work)"),
        ("# Name: Alice (work)", "Alice (work)"),
        ("# Name: Alice (2)", "Alice (2)"),
        ("# Name = Alice (2)", "Alice (2)"),
        ("# -WGP- Display name: Alice (phone)", "Alice (phone)"),
        ("### Client Alice (phone)", "Alice (phone)"),
        ("### begin Alice (2) ###", "Alice (2)"),
        ("# friendly_name = Alice (12)", "Alice (12)"),
        ("# Alice (phone)", "Alice (phone)"),
    ],
)
def test_brackets_belong_to_the_name_but_for_the_id_that_wg_easy_writes(line: str, name: str) -> None:
    assert names(INTERFACE, "\n", line, "\n", peer(1)) == [name]


def test_a_description_is_a_bare_comment_without_the_word_before_it() -> None:
    assert names(peer(1, under="# Description = Alice's laptop")) == ["Alice's laptop"]
    assert names(peer(1, under="# Device: laptop\n# Name: Alice")) == ["Alice"]


# Bare comments


def test_where_names_stand_under_the_headers_notes_at_the_end_of_a_section_name_nobody() -> None:
    note = "\n# lost her phone in March\n"
    assert names(INTERFACE, "\n", peer(1, under="# Alice"), note, peer(2)) == ["Alice", ""]
    assert names(INTERFACE, "\n", peer(1, under="# Alice"), note.lstrip(), peer(2), peer(3)) == ["Alice", "", ""]
    heading, bob = "# Peers\n", peer(2, under="# Bob")
    assert names(INTERFACE, heading, peer(1, under="# Alice"), "\n", bob, note, peer(3)) == ["Alice", "Bob", ""]


def test_names_under_the_headers_are_better_than_notes_that_stand_apart_over_every_one() -> None:
    parts = ("\n# bought in May\n\n", peer(1, under="# Alice"), "\n# bought in June\n\n", peer(2, under="# Bob"))
    assert names(INTERFACE, *parts) == ["Alice", "Bob"]


def test_where_names_stand_over_the_headers_notes_under_one_do_not_replace_them() -> None:
    bob = peer(2, under="# lent to Carol")
    assert names(INTERFACE, "\n# Alice\n", peer(1), "\n# Bob\n", bob) == ["Alice", "Bob"]
    assert names(INTERFACE, "# Alice\n", peer(1), "# Bob\n", bob) == ["Alice", "Bob"]


def test_a_peer_with_comments_on_both_sides_is_read_as_those_with_one() -> None:
    both = peer(1, under="# phone")
    assert names(INTERFACE, "\n# Alice\n", both, "\n# Bob\n", peer(2)) == ["Alice", "Bob"]
    assert names(INTERFACE, "\n# Alice\n", both, "\n", peer(2, under="# laptop")) == ["phone", "laptop"]


def test_notes_between_a_name_and_its_header_where_every_peer_has_both() -> None:
    parts = ("\n# Alice\n\n# has a new phone\n", peer(1), "\n# Bob\n\n# on holiday\n", peer(2))
    assert names(INTERFACE, *parts) == ["Alice", "Bob"]


def test_a_heading_over_some_peers_is_no_name() -> None:
    parts = ("\n# Phones\n\n# Alice\n", peer(1), "\n# Bob\n", peer(2), "\n# Laptops\n\n# Carol\n", peer(3))
    assert names(INTERFACE, *parts) == ["Alice", "Bob", "Carol"]


def test_comments_that_touch_no_header_are_names_where_each_peer_has_its_own() -> None:
    apart = ("\n# Alice\n\n", peer(1), "\n# Bob\n\n", peer(2))
    assert names(INTERFACE, *apart) == ["Alice", "Bob"]
    assert names(INTERFACE, *apart, "\n", peer(3)) == ["", "", ""]
    inside = (peer(1, inside="# Alice"), "\n", peer(2, inside="# Bob"))
    assert names(INTERFACE, "\n", *inside) == ["Alice", "Bob"]
    assert names(INTERFACE, "\n", peer(1, inside="# full tunnel"), peer(2, inside="# full tunnel")) == ["", ""]
    trailing = (peer(1), "# Alice\n", peer(2), "# Bob\n")
    assert names(INTERFACE, "\n", *trailing) == ["Alice", "Bob"]


def test_each_file_is_read_for_itself() -> None:
    """Drop-ins may be by other hands than the file that they go on with."""
    main = f"[NetDev]\nName=wg0\nKind=wireguard\n[WireGuardPeer]\n# Alice\nPublicKey={key(1)}\n"
    more = f"# Bob\n[WireGuardPeer]\nPublicKey={key(2)}\n# Carol\n[WireGuardPeer]\n# a note\nPublicKey={key(3)}\n"
    found = parse_netdev(main, "/n/a.netdev", read_key=lambda _: None, drop_ins=[("/n/a.netdev.d/1.conf", more)])
    assert [row.name for row in found.peers] == ["Alice", "Bob", "Carol"]


# Sections


@pytest.mark.parametrize(
    "header", ["[Per]", "[Peers]", "[peer1]", "[Pear] # Bob", "[]", "[Interfaces]", "[Peer Alice]"]
)
def test_an_unknown_section_is_one_warning_that_says_what_to_write(header: str) -> None:
    found = parse_wg_quick(f"{INTERFACE}\n# Alice\n{peer(1)}\n# Bob\n{peer(2).replace('[Peer]', header)}", PATH)
    assert [row.name for row in found.peers] == ["Alice"]
    assert found.problems == (
        f"{PATH}:12: unknown section, skipped with its settings; write [Peer] for a peer, or [Interface]",
    )


def test_an_unknown_section_in_a_file_of_networkd_names_its_sections_and_others_are_free_to_use_x() -> None:
    text = (
        f"[Match]\nHost=hub\n[NetDev]\nName=wg0\nKind=wireguard\n[X-Notes]\na=b\n[WireguardPeers]\nPublicKey={key(1)}\n"
    )
    found = parse_netdev(text, "/n/a.netdev", read_key=lambda _: None)
    problem = "unknown section, skipped with its settings; write [WireGuardPeer] for a peer, [WireGuard] or [NetDev]"
    assert found.problems == (f"/n/a.netdev:8: {problem}",)
    bridge = parse_netdev("[NetDev]\nName=b\nKind=bridge\n[Bridge]\nSTP=1\n", "/n/b.netdev", read_key=lambda _: None)
    assert bridge.problems == ()


def test_a_secret_on_the_line_of_a_section_is_not_repeated() -> None:
    assert key(9)[:8] not in repr(parse_wg_quick(f"[{key(9)}]\n[PresharedKey {key(9)}]\n", PATH))


# Keepalive


@pytest.mark.parametrize(("value", "seconds"), [("20-30", 30), ("30-20", 30), ("0-0", 0), ("25 - 30", 30)])
def test_of_a_range_of_waits_the_longest_counts(value: str, seconds: int) -> None:
    found = parse_wg_quick(f"{peer(1)}PersistentKeepalive = {value} # AmneziaWG\n", "/etc/amnezia/amneziawg/awg0.conf")
    assert (found.peers[0].persistent_keepalive, found.problems) == (seconds, ())


@pytest.mark.parametrize("value", ["20-", "-20", "20-65536", "20-30-40", "off-20", "20-٣"])
def test_a_range_that_is_none_is_a_problem(value: str) -> None:
    found = parse_wg_quick(f"{peer(1)}PersistentKeepalive = {value}\n", PATH)
    assert found.peers[0].persistent_keepalive is None
    assert len(found.problems) == 1


# Keys, however they are written


def groups(text: str, size: int, mark: str) -> str:
    return mark.join(text[at : at + size] for at in range(0, len(text), size))


KEYS = st.binary(min_size=32, max_size=32)
WRITTEN = {
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "base64url, closed": lambda raw: base64.urlsafe_b64encode(raw).decode(),
    "hex": lambda raw: raw.hex(),
    "HEX": lambda raw: raw.hex().upper(),
    "colon-hex": lambda raw: raw.hex(":"),
    "COLON-HEX": lambda raw: raw.hex(":").upper(),
    "hex in fours": lambda raw: groups(raw.hex(), 4, " "),
    "hex in eights": lambda raw: groups(raw.hex(), 8, "-"),
    "0x": lambda raw: ", ".join(f"0x{byte:02x}" for byte in raw),
    **{
        f"in {size}s by {mark!r}": lambda raw, size=size, mark=mark: groups(
            base64.b64encode(raw).decode().rstrip("="), size, mark
        )
        for size in (1, 2, 3, 4, 5, 8, 11, 22)
        for mark in (" ", ".", "-", ":", " - ", "\u200e")
    },
}


@pytest.mark.parametrize("writing", WRITTEN)
@given(raw=st.randoms(use_true_random=False).map(lambda source: source.randbytes(32)))
@settings(max_examples=60, deadline=None)
def test_a_key_is_told_in_any_of_the_usual_ways_to_write_one(writing: str, raw: bytes) -> None:
    written = WRITTEN[writing](raw)
    assert could_hold_key(written)
    assert could_hold_key(f"old key of Alice {written}")


@given(st.randoms(use_true_random=False), st.integers(1, 42), st.sampled_from(" .-:"))
@settings(max_examples=300, deadline=None)
def test_a_key_that_is_split_once_anywhere_is_told(source: random.Random, at: int, mark: str) -> None:
    written = base64.b64encode(source.randbytes(32)).decode().rstrip("=")
    assert could_hold_key(f"{written[:at]}{mark}{written[at:]}")


@pytest.mark.parametrize("raw", [bytes([byte]) * 32 for byte in (0, 1, 2, 3, 0x55, 0xAB)])
def test_a_key_of_one_byte_again_and_again_is_told_too(raw: bytes) -> None:
    for size in (2, 4, 22):
        assert could_hold_key(groups(base64.b64encode(raw).decode().rstrip("="), size, "-"))


@pytest.mark.parametrize(
    "line",
    [
        *(
            "# {}",
            "# Name = {}",
            "#Name# = {}",
            "# {} start",
            "# 10: {} > file",
            "# {} / a@b / Updated: 1 / Created: 2",
        ),
        *(
            "### Client {}",
            "# BEGIN_PEER {}",
            "# Client: Bob ({})",
            "# Description: {}",
            "# BEGIN {}",
            "# friendly: {}",
        ),
    ],
)
@pytest.mark.parametrize("writing", ["base64url", "colon-hex", "hex", "in 4s by '.'", "in 4s by '-'", "in 22s by ' '"])
def test_no_line_of_any_manager_makes_a_key_a_name(line: str, writing: str) -> None:
    raw = random.Random(line).randbytes(32)
    comment = line.format(WRITTEN[writing](raw))
    for text in (f"{INTERFACE}\n{comment}\n{peer(1)}", peer(1, under=comment), peer(1, inside=comment)):
        assert names(text) == [""]


@pytest.mark.parametrize("writing", WRITTEN)
def test_a_friendly_name_that_is_a_key_in_another_writing_is_refused_and_not_repeated(writing: str) -> None:
    written = WRITTEN[writing](bytes(range(7, 39)))
    for name in ("friendly_name = ", "friendly-name: "):
        found = parse_wg_quick(peer(1, under=f"# {name}{written}"), PATH)
        assert [row.name for row in found.peers] == [""]
        assert found.problems == (f"{PATH}:2: friendly_name holds what could be a key, so it is not shown",)


@pytest.mark.parametrize(
    "name",
    [
        "the-raspberry-pi-4-in-the-attic-of-my-parents-house",
        "Alice's MacBook Pro 2021 in the office on the 3rd floor, room 3B",
        "OnePlus 6T of Bob (2nd floor, room 3B) and iPhone 12 of Carol",
        "very.long.host.name.of.a.router.in.rack.12.dc1.example.org",
        "Donaudampfschifffahrtsgesellschaft Rechtsschutzversicherung",
        "HEADQUARTERS - BUILDING 7 - SERVER ROOM IN THE BASEMENT",
        "Zoë, Renée, Jürgen, Søren and Łukasz share this one laptop at home",
        "00:11:22:33:44:55 and 66:77:88:99:AA:BB are its two network cards",
        "Alice 7d3b6fc2-5d5b-4b7e-9a77-0b9b3a6f2c11 Berlin",
        "2001:db8:1234:5678:9abc:def0:1234:5678 in Berlin",
        "ab3f9c1d2e4f5a6b.eu-west-1.elb.amazonaws.com behind the balancer",
        "телефон Алисы, который она купила в прошлом году в Берлине",
    ],
)
def test_a_long_name_of_words_is_a_name(name: str) -> None:
    assert names(peer(1, under=f"# friendly_name = {name}")) == [name]
    assert names(peer(1, under=f"# Name: {name}")) == [name]


MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u206a\u206f"


@pytest.mark.parametrize("line", ["# {}", "# Name = {}", "# friendly_name = {}", "### Client {}", "# {} start"])
def test_marks_of_direction_are_removed(line: str) -> None:
    found = names(peer(1, under=line.format(MARKS.join("Alice"))))
    assert found == ["Alice"]


# Hostile files

LINES = st.sampled_from(
    [
        *("[Peer]", "[Per]", "[Interface]", "", f"PublicKey = {key(1)}", f"PublicKey = {key(2)}", "AllowedIPs = ::/0"),
        *("# Alice", "# friendly_name = A", "# Name = B", "# c start", "# c end", "# long d start", "# long d end"),
        *("# END_PEER x", "# [Peer]", "### Client e", "# BEGIN f", "# END f", '# friendly_json = {"name": "G"}'),
    ]
)


@given(st.lists(LINES, max_size=60))
@settings(max_examples=500, deadline=None)
def test_whatever_the_order_of_lines_every_peer_has_a_name_or_none_and_nothing_raises(lines: list[str]) -> None:
    found = parse_wg_quick("\n".join(lines), PATH)
    assert len(found.peers) <= 2
    given_ = {
        "A",
        "B",
        "G",
        "Alice",
        "c",
        "c end",
        "long d",
        "long d start",
        "long d end",
        "e",
        "f",
        "BEGIN f",
        "END f",
    }
    assert {row.name for row in found.peers} <= {"", *given_}


@pytest.mark.parametrize(
    "line",
    [
        "# a",
        "# friendly_name = a",
        "# a\n",
        "# x start",
        "# x end",
        "# END_PEER",
        "# [Peer]",
        "# A a" * 400,
        "# a -" + " " * 4000,
    ],
)
def test_a_file_of_comments_alone_costs_little_time_and_keeps_little(line: str) -> None:
    count = 400_000 // len(line)
    text = f"{peer(1)}{(line + chr(10)) * count}{peer(2)}"
    found = parse_wg_quick(text, PATH)
    assert len(found.peers) == 2
    assert re.fullmatch(r"[\w .-]*…?", found.peers[1].name)
