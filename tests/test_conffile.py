"""Names and intent from configuration files: every case is a file as people or their tools write it."""

import base64
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter.conffile import PEERS_PER_FILE, PROBLEMS_PER_FILE, parse_netdev, parse_wg_quick
from wg_exporter.model import ConfDevice, ConfFile, ConfPeer

SAMPLES = Path(__file__).parent / "data" / "conf"
PATH = "/etc/wireguard/wg0.conf"


def key(number: int) -> str:
    return base64.b64encode(bytes([number]) * 32).decode()


A, B, C, SECRET = key(1), key(2), key(3), key(0xAB)


def names(text: str) -> list[str]:
    return [peer.name for peer in parse_wg_quick(text, PATH).peers]


def one(settings_: str) -> ConfFile:
    return parse_wg_quick(f"[Peer]\nPublicKey = {A}\n{settings_}\n", PATH)


def netdev(text: str, keys: dict[str, str] | None = None) -> ConfFile:
    return parse_netdev(text, "/etc/systemd/network/wg.netdev", read_key=(keys or {}).get)


# What the common managers write


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ("angristan.conf", ["alice", "bob-phone"]),
        ("nyr.conf", ["alice", "bob"]),
        ("pivpn.conf", ["alice", "bob"]),
        ("wg-easy.conf", ["Alice's phone", "Bob (work)"]),
        ("wg-gen-web.conf", ["Alice", "Bob the builder"]),
        ("wireguard-ui.conf", ["Alice", ""]),
        ("wg-portal.conf", ["Alice Peer 1", "Bob Peer 7", ""]),
        ("linuxserver.conf", ["peer_laptop", "peer_phone"]),
        ("wgdashboard.conf", ["Donald's iPhone", "Office (2nd floor)", ""]),
        ("wireguard-manager.conf", ["alice", "bob-phone"]),
        ("easy-wg-quick.conf", ["10", "laptop"]),
        ("friendly-over.conf", ["gateway-berlin", "gateway-paris", "laptop"]),
        ("friendly.conf", ["OnePlus 6T", "Zoë ☃", "", "varch.local (laptop)", ""]),
    ],
)
def test_files_of_the_common_managers_give_the_names_that_they_show(sample: str, expected: list[str]) -> None:
    found = parse_wg_quick((SAMPLES / sample).read_text(), f"/etc/wireguard/{sample}")
    assert [peer.name for peer in found.peers] == expected
    assert found.problems == ()


@pytest.mark.parametrize("sample", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_no_key_of_a_sample_shows_but_the_public_keys_of_its_peers(sample: Path) -> None:
    text = sample.read_text()
    found = parse_netdev(text, "x.netdev", read_key=lambda _: B) if sample.suffix == ".netdev" else None
    found = found or parse_wg_quick(text, PATH)
    public = {peer.public_key for peer in found.peers}
    others = set(re.findall(r"[A-Za-z0-9+/]{43}=", text)) - public
    assert others
    assert not [secret for secret in others if secret[:20] in repr(found)]


def test_a_netdev_file_gives_its_device_names_and_intent() -> None:
    text = (SAMPLES / "networkd.netdev").read_text()
    found = parse_netdev(text, "x.netdev", read_key={"/etc/systemd/network/bob.pub": B + "\n"}.get)
    assert found.interface == "wg-office"
    assert found.problems == ()
    alice, bob = found.peers
    assert alice[1:5] == ("Alice", "alice.example.org:51820", ("10.30.0.2/32", "10.31.0.0/24"), 25)
    assert bob == ConfPeer(B, "Bob", "", ("10.30.0.3/32",), None)


# Precedence


def test_friendly_name_beats_friendly_json_beats_a_bare_comment() -> None:
    bare, by_json, by_name = "# bare", '# friendly_json = {"name": "json"}', "# friendly_name = name"
    assert one(f"{by_name}\n{by_json}").peers[0].name == "name"
    assert names(f"{bare}\n[Peer]\n{by_json}\nPublicKey = {A}") == ["json"]
    assert names(f"[Peer]\n{bare}\n{by_name}\n{by_json}\nPublicKey = {A}") == ["name"]
    assert names(f"[Peer]\n{bare}\nPublicKey = {A}") == ["bare"]


def test_an_empty_friendly_name_leaves_the_next_best_name() -> None:
    assert names(f"[Peer]\n# Alice\n# friendly_name =\nPublicKey = {A}") == ["Alice"]


def test_a_friendly_name_counts_anywhere_in_its_section_even_after_a_blank_line() -> None:
    text = f"[Peer]\nPublicKey = {A}\n\nAllowedIPs = ::/0\n\n  #friendly_name=Alice\n\n[Peer]\nPublicKey = {B}"
    assert names(text) == ["Alice", ""]


def test_a_comment_under_the_header_beats_one_over_it() -> None:
    assert names(f"# over\n[Peer]\n# under\nPublicKey = {A}") == ["under"]


def test_a_managers_line_beats_free_text_on_either_side() -> None:
    assert names(f"### Client bob\n[Peer]\n# lost his phone\nPublicKey = {A}") == ["bob"]


def test_the_nearest_line_that_can_be_a_name_counts() -> None:
    assert names(f"# far\n# near\n# a = b\n[Peer]\nPublicKey = {A}") == ["near"]
    assert names(f"[Peer]\n# AllowedIPs = ::/0\n# near\n# far\nPublicKey = {A}") == ["near"]


def test_a_comment_at_the_end_of_the_header_is_a_name() -> None:
    assert names(f"[Peer] # Alice\n# her phone\nPublicKey = {A}") == ["Alice"]


# Which peer a comment belongs to


def test_a_blank_line_parts_a_bare_comment_from_the_peer() -> None:
    assert names(f"# Our phones\n\n[Peer]\nPublicKey = {A}\n") == [""]
    assert names(f"[Peer]\n\n# Alice\nPublicKey = {A}\n") == [""]


def test_a_comment_between_a_peers_last_line_and_the_next_header_names_the_next() -> None:
    assert names(f"[Peer]\nPublicKey = {A}\n# Bob\n[Peer]\nPublicKey = {B}\n") == ["", "Bob"]


def test_a_comment_that_trails_a_peer_names_nobody() -> None:
    assert names(f"[Peer]\nPublicKey = {A}\n# moved out\n\n[Peer]\nPublicKey = {B}\n") == ["", ""]


def test_an_end_mark_is_nothing_and_keeps_what_is_above_it_from_the_next_peer() -> None:
    text = f"[Peer]\nPublicKey = {A}\n# his own\n# END_PEER alice\n[Peer]\nPublicKey = {B}\n"
    assert names(text) == ["", ""]
    assert names(text.replace("# END_PEER alice", "### end alice ###")) == ["", ""]


def test_the_comment_under_a_header_is_not_the_one_over_the_next() -> None:
    assert names(f"[Peer]\n# nobody\n[Peer]\nPublicKey = {A}\n") == [""]


def test_a_friendly_name_that_heads_a_peer_belongs_to_it_and_not_to_the_peer_above() -> None:
    text = f"[Peer]\nPublicKey = {A}\n\n# friendly_name = Bob\n[Peer]\nPublicKey = {B}\n"
    assert names(text) == ["", "Bob"]


def test_a_friendly_name_that_touches_the_settings_above_belongs_to_them() -> None:
    text = f"[Peer]\nPublicKey = {A}\n# friendly_name = Alice\n[Peer]\nPublicKey = {B}\n"
    assert names(text) == ["Alice", ""]


def test_a_friendly_name_over_a_peer_that_has_its_own_belongs_to_the_peer_above() -> None:
    text = f"[Peer]\nPublicKey = {A}\n\n# friendly_name = Alice\n[Peer]\nPublicKey = {B}\n# friendly_name = Bob\n"
    assert names(text) == ["Alice", "Bob"]


def test_the_names_of_a_commented_out_peer_go_to_nobody() -> None:
    off = f"# [Peer]\n# # friendly_name = Off\n# friendly_name = Off\n# Off\n# PublicKey = {C}\n"
    assert names(f"[Peer]\nPublicKey = {A}\n{off}[Peer]\nPublicKey = {B}\n") == ["", ""]
    assert names(f"[Peer]\nPublicKey = {A}\n\n{off}\n# Bob\n[Peer]\nPublicKey = {B}\n") == ["", "Bob"]


def test_a_friendly_name_of_a_commented_out_peer_goes_to_nobody_even_over_the_first_or_past_a_blank_line() -> None:
    off = "# [Peer]\n# friendly_name = Off\n"
    assert names(f"[Interface]\n{off}[Peer]\nPublicKey = {A}\n") == [""]
    assert names(f"[Peer]\nPublicKey = {A}\n# [Peer]\n\n# friendly_name = Off\n\n[Peer]\nPublicKey = {B}\n") == ["", ""]
    own = f"\n# friendly_name = Off\n[Peer]\n# friendly_name = Bob\nPublicKey = {B}\n"
    assert names(f"[Peer]\nPublicKey = {A}\n# [Peer]\n{own}") == ["", "Bob"]


def test_a_setting_after_a_commented_out_header_shows_that_the_section_goes_on() -> None:
    assert names(f"[Peer]\n# [Peer]\nPublicKey = {A}\n# friendly_name = Alice\n") == ["Alice"]


def test_a_line_that_pivpn_switched_off_is_no_name() -> None:
    off = f"#[disabled] [Peer]\n#[disabled] PublicKey = {C}\n#[disabled] # Off\n"
    assert names(f"[Peer]\nPublicKey = {A}\n{off}[Peer]\nPublicKey = {B}\n") == ["", ""]


def test_a_friendly_name_between_an_end_mark_and_a_header_names_the_next_peer() -> None:
    text = f"[Peer]\nPublicKey = {A}\n# END_PEER a\n# friendly_name = Bob\n[Peer]\nPublicKey = {B}\n"
    assert names(text) == ["", "Bob"]


# What never becomes a name


@pytest.mark.parametrize(
    "comment",
    [
        f"# PresharedKey = {SECRET}",
        f"# PresharedKey {SECRET}",
        f"#PresharedKey: {SECRET}",
        f"# presharedkey {SECRET[:30]}",
        "# Preshared Key on paper",
        "# PSK on paper",
        f"# {SECRET}",
        f"# {SECRET[:-1]}",
        f"# old:{SECRET}",
        f"# Client: {SECRET} (1)",
        f"### Client {SECRET}",
        f"# BEGIN_PEER {SECRET}",
        f"# Name: {SECRET[:20]}\u200b{SECRET[20:]}",
        f"# Name: {SECRET[:20]}\u200b{SECRET[20:-1]}",
        f"# {SECRET} / x@example.org / Updated: now / Created: then",
        "# AllowedIPs 10.0.0.0/8",
        "# Endpoint old.example.org",
        "# Table off",
        "# RouteTable main",
        "# a = b",
        "# ---------",
        "#",
        "# END_PEER alice",
        "# " + "x" * 5000,
    ],
)
def test_a_comment_that_is_a_setting_a_key_or_decoration_is_never_a_name(comment: str) -> None:
    for text in (f"[Peer]\n{comment}\nPublicKey = {A}", f"{comment}\n[Peer]\nPublicKey = {A}"):
        found = parse_wg_quick(text, PATH)
        assert found == ConfFile(PATH, "wg0", (ConfPeer(A),))


def test_a_word_that_merely_begins_like_a_setting_is_a_name() -> None:
    assert names(f"# Tablet of Alice\n[Peer]\nPublicKey = {A}") == ["Tablet of Alice"]
    assert names(f"# [office] printer\n[Peer]\nPublicKey = {A}") == ["[office] printer"]


@pytest.mark.parametrize(
    "value",
    [
        f"friendly_name = {SECRET}",
        f"friendly_name = x{SECRET}y",
        f"friendly_name = {' '.join(SECRET)}",
        f"friendly_name = {'x' * 200} {SECRET}",
        f'friendly_json = {{"name": "{SECRET}"}}',
        'friendly_json = {"name": "' + "".join(f"\\u{ord(c):04x}" for c in SECRET) + '"}',
        f"friendly_name = \u202e{SECRET[:9]}\u2066{SECRET[9:]}",
    ],
)
def test_a_friendly_name_that_could_be_a_key_is_refused_by_line_and_not_repeated(value: str) -> None:
    found = one(f"# {value}")
    assert found.peers == (ConfPeer(A),)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{PATH}:3: friendly_")
    assert SECRET[:8] not in repr(found)


@pytest.mark.parametrize("value", ["{", "[1]", "7", "", '{"name": 7}', "[" * 3000, '{"name": null}', "9" * 4000])
def test_a_friendly_json_that_is_no_object_with_a_name_of_text_is_one_problem(value: str) -> None:
    found = one(f"# friendly_json = {value}")
    assert found.peers == (ConfPeer(A),)
    assert re.fullmatch(r"/etc/wireguard/wg0\.conf:3: friendly_json .*", "\n".join(found.problems))


def test_names_are_any_text_on_one_line_without_control_characters() -> None:
    assert one('# friendly_name = Zoë ☎ "quoted" \\ 日本').peers[0].name == 'Zoë ☎ "quoted" \\ 日本'
    assert one('# friendly_json = {"name": "a\\nb\\u0000\\u202ec\\ud800"}').peers[0].name == "a b c\ufffd"
    assert one("# friendly_name = a\x1b[31mb\x85c\u2028d").peers[0].name == "a [31mb c d"


def test_a_long_name_is_cut_to_128_characters() -> None:
    name = one("# friendly_name = " + "ab " * 100).peers[0].name
    assert len(name) == 128
    assert name.endswith("…")


# Settings


def test_settings_are_read_as_wg_reads_them() -> None:
    text = f"""
[ PEER ] # the far end
public key = {A[:10]} {A[10:]} # inline
ALLOWEDIPS = 10.1.2.3/8, fd00::0:1 ,
AllowedIPs=192.0.2.1,+198.51.100.0/24#and this
EndPoint = [2001:db8::1]:51820 # comment
PersistentKeepalive = 25 # seconds
"""
    expected = ConfPeer(
        A, "the far end", "[2001:db8::1]:51820", ("10.0.0.0/8", "fd00::1/128", "192.0.2.1/32", "198.51.100.0/24"), 25
    )
    assert parse_wg_quick(text, PATH) == ConfFile(PATH, "wg0", (expected,))


@pytest.mark.parametrize(("value", "seconds"), [("off", 0), ("OFF", 0), ("0", 0), ("65535", 65535)])
def test_keepalive_is_off_or_seconds(value: str, seconds: int) -> None:
    assert one(f"PersistentKeepalive = {value}").peers[0].persistent_keepalive == seconds


@pytest.mark.parametrize(
    "setting",
    [
        "PersistentKeepalive = 65536",
        "PersistentKeepalive = 0x10",
        "PersistentKeepalive = ",
        "PersistentKeepalive = ٣",
        "AllowedIPs = 10.0.0.0/33",
        "AllowedIPs = 10.0.0.0/255.0.0.0",
        f"AllowedIPs = {SECRET}",
        "Endpoint = example.org",
        "Endpoint = 2001:db8::1",
        "Endpoint = [2001:db8::g]:51820",
        "Endpoint = fe80::1%:51820",
        "Endpoint = [192.0.2.1:51820",
        f"Endpoint = {SECRET[:-1]}:51820",
        f"Endpoint = {SECRET}",
        "some words",
        SECRET[:-1],
    ],
)
def test_a_setting_that_does_not_fit_is_one_problem_with_its_line_and_without_its_value(setting: str) -> None:
    found = one(setting)
    (peer,) = found.peers
    field = {"P": "persistent_keepalive", "A": "allowed_ips", "E": "endpoint"}.get(setting[0])
    assert peer == ConfPeer(A, unclear=(field,) if field else ()), "what somebody wanted there is not known"
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{PATH}:3: ")
    assert SECRET[:8] not in repr(found)


@pytest.mark.parametrize(
    ("value", "endpoint"),
    [
        ("192.0.2.1:51820", "192.0.2.1:51820"),
        ("vpn.example.org:wireguard", "vpn.example.org:wireguard"),
        ("[2001:db8::7]:51820", "[2001:db8::7]:51820"),
        ("2001:db8::7:51820", "[2001:db8::7]:51820"),
        ("::1:51820", "[::1]:51820"),
        ("fe80::1%eth0:51820", "[fe80::1%eth0]:51820"),
        ("[fe80::1%eth0]:51820", "[fe80::1%eth0]:51820"),
        ("[vpn.example.org]:51820", "vpn.example.org:51820"),
        ("[192.0.2.1]:51820", "192.0.2.1:51820"),
        ("::ffff:192.0.2.1:51820", "[::ffff:192.0.2.1]:51820"),
    ],
)
def test_an_endpoint_is_read_as_wg_reads_it(value: str, endpoint: str) -> None:
    found = one(f"Endpoint = {value}")
    assert (found.peers[0].endpoint, found.problems) == (endpoint, ())


@pytest.mark.parametrize(
    ("saves", "endpoint"), [("true", ""), ("True # by itself", ""), ("false", "192.0.2.1:1"), ("", "192.0.2.1:1")]
)
def test_an_endpoint_in_a_file_that_is_saved_by_itself_is_where_a_phone_was_last_seen_and_no_intent(
    saves: str, endpoint: str
) -> None:
    text = f"[Interface]\nSaveConfig = {saves}\n[Peer]\nPublicKey = {A}\nEndpoint = 192.0.2.1:1\n"
    assert parse_wg_quick(text, PATH).peers == (ConfPeer(A, endpoint=endpoint),)


@pytest.mark.parametrize("bad", ["", "x", A[:-1], A + "=", A[:-2] + "F=", "@credential", "é" * 44])
def test_a_peer_with_an_invalid_public_key_is_left_out_with_one_problem_and_the_rest_goes_on(bad: str) -> None:
    found = parse_wg_quick(f"[Peer]\nPublicKey = {bad}\n[Peer]\n# Bob\nPublicKey = {B}\n", PATH)
    assert found.peers == (ConfPeer(B, "Bob"),)
    assert len(found.problems) == 1
    assert found.problems[0].startswith(f"{PATH}:2: PublicKey is not a key")


def test_a_peer_without_a_public_key_is_a_problem_at_its_header() -> None:
    assert parse_wg_quick("\n[Peer]\nAllowedIPs = ::/0\n", PATH).problems == (
        f"{PATH}:2: this peer has no PublicKey and is left out; give it one",
    )


def test_of_two_sections_for_one_key_the_later_has_the_last_word_as_with_wg_setconf() -> None:
    first = f"[Peer]\n# Alice\nPublicKey = {A}\nAllowedIPs = 10.0.0.1/32\nEndpoint = 192.0.2.1:1\n"
    second = f"PersistentKeepalive = 5\n[Peer]\nPublicKey = {A}\nAllowedIPs = 10.0.0.2/32\n"
    found = parse_wg_quick(first + second, PATH)
    assert found.peers == (ConfPeer(A, "Alice", "192.0.2.1:1", ("10.0.0.2/32",), 5),)


def test_the_interface_is_the_stem_of_the_file_where_that_can_be_a_device() -> None:
    assert parse_wg_quick("", "/etc/wireguard/wg-a.b.conf").interface == "wg-a.b"
    assert parse_wg_quick("", "/etc/wireguard/sixteen-letters-.conf").interface == ""
    assert parse_wg_quick("", "/etc/wireguard/a b.conf").interface == ""


def test_a_private_key_is_read_from_nowhere() -> None:
    text = f"[Interface]\nPrivateKey = {SECRET}\nListenPort = 1\n[Peer]\nPublicKey = {A}\nPre shared key={SECRET}\n"
    assert parse_wg_quick(text, PATH) == ConfFile(PATH, "wg0", (ConfPeer(A),), device=ConfDevice(1))


# .netdev files


def test_a_netdev_of_another_kind_describes_nothing_and_is_no_problem() -> None:
    text = f"[NetDev]\nName=br0\nKind=bridge\n[Peer]\nPublicKey=x\n[Peer]\nPublicKey={A}\n"
    assert netdev(text) == ConfFile("/etc/systemd/network/wg.netdev", "")
    assert netdev("\0\0") == ConfFile("/etc/systemd/network/wg.netdev", "")


def test_drop_ins_go_on_where_the_file_ends_and_problems_name_the_right_file() -> None:
    found = parse_netdev(
        f"[NetDev]\nName=wg1\nKind=wireguard\n[WireGuardPeer]\nPublicKey={A}\n",
        "/n/wg.netdev",
        read_key=lambda _: None,
        drop_ins=[("/n/wg.netdev.d/1.conf", f"[WireGuardPeer]\n# Bob\nPublicKey={B}\nEndpoint=x\n[NetDev]\nName=wg2")],
    )
    assert found.interface == "wg2"
    assert found.peers == (ConfPeer(A), ConfPeer(B, "Bob", unclear=("endpoint",)))
    assert found.problems == ("/n/wg.netdev.d/1.conf:4: Endpoint not understood; write HOST:PORT or [IPv6]:PORT",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "PublicKeyFile cannot be read"),
        ("garbage", "PublicKeyFile does not hold a public key"),
        (f"{A}\n{B}", "PublicKeyFile does not hold a public key"),
    ],
)
def test_a_public_key_file_that_gives_no_key_is_one_problem(content: str | None, problem: str) -> None:
    keys = {} if content is None else {"/k": content}
    found = netdev("[NetDev]\nName=wg0\nKind=wireguard\n[WireGuardPeer]\nPublicKeyFile=/k\n", keys)
    assert found.peers == ()
    assert found.problems[0].startswith(f"/etc/systemd/network/wg.netdev:4: {problem}")


def test_a_private_key_file_is_not_read_as_a_public_one_by_mistake() -> None:
    text = "[NetDev]\nName=wg0\nKind=wireguard\n[WireGuard]\nPrivateKeyFile=/k\n[WireGuardPeer]\nPublicKeyFile=/k\n"
    found = netdev(text, {"/k": SECRET})
    assert found.peers == ()
    assert len(found.problems) == 1
    assert SECRET not in repr(found)


def test_allowed_ips_are_cleared_by_nothing_as_in_systemd_and_one_is_removed_by_a_minus_as_in_wg() -> None:
    assert one("AllowedIPs = 10.0.0.0/8, ::/0\nAllowedIPs = -::/0").peers[0].allowed_ips == ("10.0.0.0/8",)
    assert one("AllowedIPs = ::/0\nAllowedIPs=\nAllowedIPs = 10.0.0.0/8").peers[0].allowed_ips == ("10.0.0.0/8",)


def test_a_line_may_go_on_after_a_backslash_to_the_end_of_the_file() -> None:
    text = f"[NetDev]\nName=wg0\nKind=wireguard\n[WireGuardPeer]\nPublicKey={A}\nAllowedIPs=::/0,\\\n"
    assert netdev(text + "; between\n10.0.0.0/8\\").peers == (ConfPeer(A, "", "", ("::/0", "10.0.0.0/8")),)


# Broken and hostile files


def test_crlf_and_a_byte_order_mark_are_harmless() -> None:
    text = f"\ufeff[Peer]\r\n# Alice\r\nPublicKey = {A}\r\n"
    assert parse_wg_quick(text, PATH) == ConfFile(PATH, "wg0", (ConfPeer(A, "Alice"),))


def test_a_broken_header_ends_the_peer_before_it() -> None:
    found = parse_wg_quick(f"[Peer]\nPublicKey = {A}\n[Peer\nPublicKey = {B}\n", PATH)
    assert found.peers == (ConfPeer(A),)
    assert found.problems == (f"{PATH}:3: a section's name must end with ]; the section is skipped",)


def test_a_file_that_is_no_wireguard_file_is_one_problem() -> None:
    assert len(parse_wg_quick("<html>\n=\n" * 50, PATH).problems) == 1
    assert parse_wg_quick("\n# nothing yet\n", PATH).problems != ()
    assert parse_wg_quick(" \n", PATH).problems == ()


def test_problems_peers_and_lines_are_bounded_and_one_line_each() -> None:
    many = parse_wg_quick("[Peer]\n" * (PEERS_PER_FILE + 5), "/etc/a\nb.conf")
    assert len(many.problems) == PROBLEMS_PER_FILE + 1
    assert not any("\n" in problem for problem in many.problems)
    assert "too long" in one("AllowedIPs = " + "::/0," * 300_000).problems[0]


PIECES = st.sampled_from(
    [
        *("[Peer]", "[Interface]", "[WireGuardPeer]", "[NetDev]", "Kind=wireguard", "Name=wg0", "[", "]", "# [Peer]"),
        *("PublicKey=", "PublicKeyFile=/k", f"PublicKey = {A}", "Endpoint=", "AllowedIPs=", "PersistentKeepalive="),
        *(
            "# friendly_name =",
            "# friendly_json =",
            '{"name": "',
            '"}',
            "### Client ",
            "# Client: ",
            " (id)",
            "[disabled]",
        ),
        *(
            "# END_PEER",
            "# BEGIN_PEER ",
            "### begin ",
            "###",
            "# Alice",
            "#",
            ";",
            "\\",
            "\n",
            "\r\n",
            "\0",
            "=",
            " / ",
        ),
    ]
)
JUNK = st.lists(PIECES | st.text(max_size=8), max_size=40).map("".join)


@given(JUNK | st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@settings(max_examples=400, deadline=None)
def test_no_text_makes_the_parsers_raise_or_write_more_than_a_line(text: str) -> None:
    for found in (
        parse_wg_quick(text, PATH),
        netdev(text),
        netdev("[NetDev]\nKind=wireguard\nName=wg0\n" + text, {"/k": text}),
    ):
        shown = [*found.problems, *(value for peer in found.peers for value in peer[:3])]
        assert not [value for value in shown if re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", value)]
        assert all(len(peer.name) <= 128 for peer in found.peers)


secrets = st.binary(min_size=32, max_size=32).map(lambda data: base64.b64encode(data).decode())
wrappings = st.sampled_from(
    [
        *(
            "PresharedKey = {}",
            "PrivateKey={}",
            "# PresharedKey = {}",
            "#PresharedKey={}",
            "# PresharedKey {}",
            "# {}",
            "#{}",
        ),
        *(
            "; {}",
            "# psk: {}",
            "# key '{}'",
            "# Client: {} (7)",
            "# Client: Bob ({})",
            "### Client {}",
            "# BEGIN_PEER {}",
        ),
        *(
            "### begin {} ###",
            "# Name: {}",
            "# -WGP- PrivateKey: {}",
            "# friendly_name = {}",
            "# friendly_name = Bob {}",
        ),
        *(
            '# friendly_json = {{"name": "{}"}}',
            '# friendly_json = {{"key": "{}"}}',
            "[Peer] # {}",
            "# {} / a / Updated: / Created:",
        ),
        *(
            "Endpoint = {}",
            "Endpoint = {}:51820",
            "AllowedIPs = {}",
            "PersistentKeepalive = {}",
            "Unknown = {}",
            "{}",
            "[{}]",
        ),
        *(
            "#[disabled] PresharedKey = {}",
            "# [Peer] {}",
            "AllowedIPs = ::/0 # {}",
            "# Alice\t{}",
            "# {0} {0}",
            "Name = {}",
        ),
    ]
)
plain = st.sampled_from(["", "[Peer]", "[Interface]", "# Alice", f"PublicKey = {A}", f"PublicKey = {B}", "[NetDev]"])


@given(st.lists(secrets, min_size=1, max_size=3), st.data())
@settings(max_examples=400, deadline=None)
def test_a_secret_key_shows_nowhere_whatever_is_written_around_it(keys: list[str], data: st.DataObject) -> None:
    line = plain | st.tuples(wrappings, st.sampled_from(keys)).map(lambda pair: pair[0].format(pair[1]))
    lines = data.draw(st.lists(line, max_size=25))
    text = "\n".join([f"[Peer]\nPublicKey = {A}", *lines])
    for found in (parse_wg_quick(text, PATH), netdev("[NetDev]\nName=wg0\nKind=wireguard\n" + text)):
        assert not [secret for secret in keys if secret in repr(found) or secret[:43] in repr(found)]
        assert not [secret for secret in keys if len(set(secret)) > 8 and secret[4:20] in repr(found)]


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ("Table = off", True),
        ("table=1234", True),
        ("TABLE = auto", False),
        ("Table = main # as usual", False),
        ("Table =", False),
        ("MTU = 1400", False),
    ],
)
def test_a_table_other_than_the_usual_says_that_routes_are_made_by_somebody_else(line: str, own: bool) -> None:
    assert parse_wg_quick(f"[Interface]\n{line}\n[Peer]\nPublicKey = {A}\n", PATH).own_table is own
    assert not parse_wg_quick(f"[Peer]\nPublicKey = {A}\n{line}\n", PATH).own_table


@pytest.mark.parametrize(
    ("device", "peer", "own"),
    [
        ("RouteTable=off", "", True),
        ("RouteTable=main", "", False),
        ("", "RouteTable=77", True),
        ("", "RouteTable=main", False),
    ],
)
def test_a_route_table_of_networkd_says_the_same(device: str, peer: str, own: bool) -> None:
    text = f"[NetDev]\nName=wg0\nKind=wireguard\n[WireGuard]\n{device}\n[WireGuardPeer]\nPublicKey={A}\n{peer}\n"
    assert parse_netdev(text, "/etc/systemd/network/wg0.netdev", read_key=lambda _: None).own_table is own


# --- settings that there are not -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("[Peer]", "Endpont = 192.0.2.1:51820", "unknown setting, did you mean Endpoint?"),
        ("[Peer]", "PersistentKeepAlives = 25", "unknown setting, did you mean PersistentKeepalive?"),
        ("[Interface]", "Adress = 10.0.0.1/24", "unknown setting, did you mean Address?"),
        ("[Interface]", "Colour = red", "unknown setting, for which `wg` refuses the file; remove the line"),
        ("[Peer]", SECRET, "unknown setting, for which `wg` refuses the file; remove the line"),
    ],
)
def test_a_setting_that_there_is_not_is_told_and_never_repeated(section, line, said):
    key = f"PublicKey = {A}\n" if section == "[Peer]" else "ListenPort = 1\n"
    [problem] = parse_wg_quick(f"{section}\n{key}{line}\n", PATH).problems
    assert problem == f"{PATH}:3: {said}"


def test_all_settings_of_wg_and_wg_quick_and_amneziawg_are_known():
    text = (
        "[Interface]\nListenPort = 1\nFwMark = 1\nAddress = 10.0.0.1/24\nDNS = 1.1.1.1\nMTU = 1420\nTable = off\n"
        "PreUp = a\nPostUp = a\nPreDown = a\nPostDown = a\nSaveConfig = false\nJc = 4\nS1 = 9\nH4 = 7\nI1 = <b 0x1>\n"
        f"[Peer]\nPublicKey = {A}\nAllowedIPs = 10.0.0.2/32\nEndpoint = a:1\nPersistentKeepalive = 25\n"
        "AdvancedSecurity = on\npersistent keepalive = 25\n"
    )
    assert parse_wg_quick(text, "wg0.conf").problems == ()


def test_of_networkd_only_what_looks_like_a_slip_is_told_and_other_sections_are_not_ours():
    text = (
        "[NetDev]\nName = wg0\nKind = wireguard\nColour = red\n[WireGuard]\nListenPrt = 1\nRouteTable = main\nFoo = 1\n"
        f"X-Mine = 1\n[WireGuardPeer]\nPublicKey = {A}\nRouteMetric = 7\nEndpont = a:1\n"
    )
    found = parse_netdev(text, "wg0.netdev", read_key=lambda _: None).problems
    assert found == (
        "wg0.netdev:6: unknown setting, did you mean ListenPort?",
        "wg0.netdev:13: unknown setting, did you mean Endpoint?",
    )
