"""Fast echoes in the configuration: what may stand there, and how many peers may have them."""

from __future__ import annotations

import base64

import pytest

from wg_exporter.config import Config, ConfigError, Fast, parse
from wg_exporter.config.fast import MOST_FAST

KEY = base64.b64encode(bytes(32)).decode()


def one(fast: str) -> Config:
    return parse(f"peers: [{{public_key: {KEY}, fast: {fast}}}]", "f")


def many(number: int, fast: str = "{}") -> str:
    keys = (base64.b64encode(bytes([n]) * 32).decode() for n in range(number))
    return "peers:\n" + "".join(f"  - {{public_key: {key}, fast: {fast}}}\n" for key in keys)


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    (found,) = caught.value.problems
    return str(found)


def test_a_peer_has_fast_echoes_if_its_entry_says_so_and_that_is_enough_to_say():
    assert one("{}").peers[0].fast == Fast(0.1, 6)
    assert one("{interval: 200ms, multiplier: 3}").peers[0].fast == Fast(0.2, 3)
    assert parse(f"peers: [{{public_key: {KEY}, name: a}}]", "f").peers[0].fast is None


@pytest.mark.parametrize(
    ("fast", "what"),
    [
        ("{interval: 10ms}", "fast.interval: must be at least 50ms"),
        ("{interval: 11s}", "fast.interval: must be at most 10s"),
        ("{interval: 100}", 'is not a duration ("100"); write 100ms'),
        ("{interval: 5}", 'is not a duration ("5"); write 5s'),
        ("{multiplier: 1}", "fast.multiplier: must be at least 2 (1); write 2 or more"),
        ("{multiplier: 51}", "fast.multiplier: must be at most 50 (51); write 50 or less"),
        ("{multiplyer: 6}", "did you mean multiplier?"),
        ("true", "must be keys and values"),
        ("", "fast: must be keys and values, not nothing; write it like {interval: ...}"),
    ],
)
def test_what_makes_no_sense_is_said(fast, what):
    assert what in problem(f"peers: [{{public_key: {KEY}, fast: {fast}}}]")


def test_a_host_has_64_such_peers_at_100_ms_and_no_more():
    assert len(parse(many(MOST_FAST), "f").peers) == MOST_FAST
    assert "peers[64].fast: is one of 65 peers with fast echoes, and 64 are the most" in problem(many(MOST_FAST + 1))


def test_whoever_wants_them_faster_has_fewer_of_them():
    assert len(parse(many(32, "{interval: 50ms}"), "f").peers) == 32
    found = problem(many(33, "{interval: 50ms}"))
    assert "makes 660 fast echoes a second with the others, and 640 are the most" in found


@pytest.mark.parametrize(
    ("path", "right"),
    [("/var/lib/wg-exporter/track", None), ("/a//b/./c/", "/a/b/c"), ("/run/x/", "/run/x")],
)
def test_the_directory_of_the_track_files_is_one_path(path, right):
    assert parse(f"track_files: {path}", "f").track_files == (right or path)
    assert parse("", "f").track_files is None


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("track", "is a relative path"),
        ("/", "is no directory of its own"),
        ("/a/../b", "has .. in it"),
        ("/run", "own"),
    ],
)
def test_a_directory_that_is_nobodys_own_is_none(path, what):
    assert what in problem(f"track_files: {path}")


def test_a_number_in_place_of_true_or_false_gets_no_advice_on_numbers():
    assert problem("accounting: on").endswith("; write it like {enabled: true}")
    assert problem("accounting: {enabled: 1}") == 'f:1: accounting.enabled: must be true or false ("1")'
    assert problem(f"peers: [{{public_key: {KEY}, fast: {{multiplier: 010}}}}]").endswith(
        "write it in decimal, without leading zeros"
    )
