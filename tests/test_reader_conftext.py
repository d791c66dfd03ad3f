"""Secrets of a configuration file end in the buffer that it is read into; what else it says stays as it is."""

from __future__ import annotations

import base64
import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wg_exporter.conffile import parse_netdev, parse_wg_quick
from wg_exporter.reader.conftext import ROOM, ConfText


def key(number: int) -> str:
    return base64.b64encode(random.Random(number).randbytes(32)).decode()


SECRET, PUBLIC, PRESHARED = key(1), key(2), key(3)
CLEAN = "0" * 43 + "="


def read(text: str | bytes, limit: int = 1 << 20, **how: bool) -> str | None:
    content = ConfText()
    found = content.read(io.BytesIO(text if isinstance(text, bytes) else text.encode()), limit, **how)
    assert not any(content._buffer), "the buffer is overwritten"
    return found


@pytest.mark.parametrize(
    "line",
    [
        f"PrivateKey = {SECRET}",
        f"privatekey={SECRET}",
        f"PRESHAREDKEY\t=\t{SECRET}  # of Anna",
        f"  Private Key = {SECRET}",
        f"P r e s h a r e d K e y = {SECRET}",
        f"#PrivateKey = {SECRET}",
        f"; # PresharedKey = {SECRET}",
        f"PrivateKey = {SECRET[:20]} {SECRET[20:]}",
        f"PrivateKey = {SECRET}\r",
        f"PrivateKey =\\\n {SECRET}",
        f"# the old one was {SECRET}",
        f"PostUp = wg set %i peer x preshared-key <(echo {SECRET})",
        f"Endpoint = {SECRET}:51820",
        f"PublicKey {SECRET}",
        f"XPublicKey = {SECRET}",
        f"PublicKey = x {SECRET}",
        "PrivateKey = not a key at all",
        "PrivateKey = ",
        f"{SECRET}",
    ],
)
def test_a_secret_is_overwritten_wherever_it_stands_and_the_lines_around_it_stay(line):
    before, after = f"[Peer]\nPublicKey = {PUBLIC}\n", f"\nAllowedIPs = 10.0.0.2/32\n[Peer]\npublic key={PUBLIC}"
    found = read(before + line + after)
    for part in (SECRET, SECRET[:20], SECRET[20:43], "not a key"):
        assert part not in found
    assert found.startswith(before)
    assert found.endswith(after)
    assert len(found) == len(before + line + after)


@pytest.mark.parametrize(
    "line",
    [
        "PrivateKeyFile = /etc/wireguard/the/way/to/the/keys/of/this/gateway/private",
        f"PublicKey = {PUBLIC}",
        f" publickey={PUBLIC} # Anna",
        f"P u b l i c K e y\t=\t{PUBLIC}",
        "# friendly_name = private key of nobody = x",
        '# friendly_json = {"name": "a", "url": "http://example.net/?privatekey=x"}',
        "# " + "x" * 100,
        f"# {SECRET[:42]}",
        "",
    ],
)
def test_what_is_no_secret_stays(line):
    assert read(line) == line


def test_a_file_that_holds_a_public_key_by_its_name_is_left_alone():
    assert read(PUBLIC + "\n", secrets=False) == PUBLIC + "\n"


def test_a_file_larger_than_the_buffer_is_read_whole_and_a_larger_one_than_the_limit_not():
    peers = "".join(f"[Peer]\nPublicKey = {key(n + 10)}\nPresharedKey = {PRESHARED}\n" for n in range(3000))
    assert len(peers) > 4 * ROOM
    assert read(peers) == peers.replace(" " + PRESHARED, "0" * 45)
    for size in (ROOM - 1, ROOM, ROOM + 1):
        assert read("x" * size, size) == "x" * size
        assert read("x" * size, size - 1) is None


def test_a_line_that_is_no_utf8_is_latin_1_and_its_secret_is_overwritten():
    found = read(f"# J\xfcrgen\nPrivateKey = {SECRET}\n# \u00fc".encode("latin-1") + b"\n" + "# Zoë".encode())
    assert found == f"# J\xfcrgen\nPrivateKey ={'0' * 45}\n# \u00fc\n# Zoë"


LINES = st.sampled_from(
    [
        "[Interface]",
        "[Peer]",
        "[WireGuardPeer]",
        "[NetDev]",
        "Kind = wireguard",
        "Name = wg0",
        "",
        "# Anna",
        "### begin bob ###",
        f"# friendly_name = {SECRET}",
        f"# {SECRET}",
        "# Name = x",
        f'# friendly_json = {{"name": "{SECRET}"}}',
        "; a",
        f"PublicKey = {PUBLIC}",
        f"PublicKey = {key(4)} # c",
        f"PrivateKey = {SECRET}",
        f"PresharedKey = {PRESHARED}",
        f"Endpoint = {SECRET}:1",
        "Endpoint = example.net:51820",
        "AllowedIPs = 10.0.0.2/32",
        f"AllowedIPs = {SECRET}",
        "PersistentKeepalive = 25",
        "PublicKeyFile = /a",
        f"PublicKeyFile = {SECRET}",
        "PrivateKeyFile = /a",
        f"{SECRET}",
        f"PublicKey = {SECRET[:43]}",
        "PresharedKey = \\",
        "SaveConfig = true",
        f"[{SECRET}]",
        "nonsense",
    ]
)


@given(st.lists(LINES, max_size=30).map("\n".join))
def test_a_file_says_the_same_without_its_secrets(text):
    """What is read of it was never its secrets, so nothing that is said of it may change."""
    found = read(text)
    assert SECRET not in found
    assert PRESHARED not in found
    assert parse_wg_quick(found, "/etc/wireguard/wg0.conf") == parse_wg_quick(text, "/etc/wireguard/wg0.conf")
    netdev = [parse_netdev(one, "/wg0.netdev", read_key=lambda _: None) for one in (found, text)]
    assert netdev[0] == netdev[1]
