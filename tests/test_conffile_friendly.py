"""`friendly_json` comments: which of their keys become labels, and how values are written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import key
from wg_exporter.conffile import parse_wg_quick
from wg_exporter.conffile.friendly import labels_from_json
from wg_exporter.config import Config
from wg_exporter.model import Peer
from wg_exporter.names.identity import Identity

ISSUED = '{"id":482217555,"username":"DrProxy", "first_name": "Coordinator", "auth_date":1614869789}'


def section(n, *lines):
    return "\n".join(("[Peer]", *lines, f"PublicKey = {key(n)}", ""))


def test_each_key_is_a_label_and_they_are_in_order():
    assert labels_from_json(ISSUED) == (
        ("auth_date", "1614869789"),
        ("first_name", "Coordinator"),
        ("id", "482217555"),
        ("username", "DrProxy"),
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("true", "true"),
        ("false", "false"),
        ("-7", "-7"),
        ("18446744073709551615", "18446744073709551615"),
        ("18446744073709551616", "1.8446744073709552e19"),
        ("1.0", "1.0"),
        ("0.1", "0.1"),
        ("1e15", "1000000000000000.0"),
        ("1e16", "1e16"),
        ("1.5e300", "1.5e300"),
        ("0.0001", "0.0001"),
        ("1.5e-5", "0.000015"),
        ("1e-6", "1e-6"),
        ('"a \\u202eb"', "a b"),
        ('""', ""),
    ],
)
def test_values_are_written_as_the_original_writes_them_but_for_what_turns_text_around(value, found):
    assert labels_from_json('{"x": %s}' % value) == (("x", found),)  # noqa: UP031 - braces


@pytest.mark.parametrize("value", ["null", "[1]", '{"a": 1}', "NaN", "Infinity", "1" + "0" * 400, f'"{key(3)}"'])
def test_what_can_not_be_the_value_of_a_label_or_could_be_a_key_is_left_out(value):
    assert labels_from_json('{"x": %s}' % value) == ()  # noqa: UP031 - braces


@pytest.mark.parametrize("name", ["", "1a", "a-b", "__name__", "a b", "ü", 'a"b', "a" * 65])
def test_a_key_that_can_not_be_the_name_of_a_label_is_left_out_and_the_others_stay(name):
    assert labels_from_json(json.dumps({name: "1", "ok": "2"})) == (("ok", "2"),)


def test_a_key_of_wireguard_is_no_name_of_a_label_either():
    assert labels_from_json(json.dumps({key(3).rstrip("=").replace("+", "a").replace("/", "a"): 1, "ok": 2})) == (
        ("ok", "2"),
    )


@pytest.mark.parametrize("text", ["", "[]", "7", "{", '{"a": 1} x', "[" * 4000])
def test_what_is_no_object_has_no_labels(text):
    assert labels_from_json(text) == ()


@given(st.text())
def test_nothing_is_raised_whatever_it_is(text):
    labels_from_json(text)
    labels_from_json('{"a": %s}' % text)  # noqa: UP031 - braces


def test_a_file_tells_the_labels_of_each_peer_and_its_names_stay_as_they_were():
    text = section(1, f"# friendly_json = {ISSUED}") + section(2, '# friendly_json = {"name": "berta", "n": 2}')
    found = parse_wg_quick(text + section(3, "# carla"), "/etc/wireguard/wg0.conf")
    assert found.labels == ((key(1), labels_from_json(ISSUED)), (key(2), (("n", "2"), ("name", "berta"))))
    assert [peer.name for peer in found.peers] == ["", "berta", "carla"]
    assert found.problems == ()


def test_a_name_that_is_no_text_is_told_and_is_a_label_all_the_same():
    found = parse_wg_quick(section(1, '# friendly_json = {"name": 5}'), "/etc/wireguard/wg0.conf")
    assert (found.peers[0].name, found.labels) == ("", ((key(1), (("name", "5"),)),))
    assert len(found.problems) == 1


def test_labels_belong_to_the_peer_on_its_device_and_else_wherever_it_is_described():
    files = [
        parse_wg_quick(section(1, '# friendly_json = {"at": "wg0"}'), "/etc/wireguard/wg0.conf"),
        parse_wg_quick(section(1, '# friendly_json = {"at": "wg1"}'), "/etc/wireguard/wg1.conf"),
    ]
    identity = Identity(Config(), files)
    row = Peer(key(1), "", (), 0, 0, 0, 0)
    found = {name: identity.meta("", name, row).labels for name in ("wg0", "wg1", "wg7")}
    assert found == {"wg0": (("at", "wg0"),), "wg1": (("at", "wg1"),), "wg7": (("at", "wg0"),)}
    assert identity.meta("", "wg0", row._replace(public_key=key(2))).labels == ()
