"""The decoder of UAPI answers: what daemons really send, what no daemon may make us believe, and where secrets go."""

from __future__ import annotations

import random
import traceback
import tracemalloc
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from wg_exporter.model import SOME_TIME
from wg_exporter.reader.userspace import uapi
from wg_exporter.reader.userspace.uapi import DecodeError, decode

PRIVATE = "58c2a1f0" * 8
PRESHARED = "77d3e4b1" * 8
OTHER_SECRET = "19ab20cd" * 8
ALICE, BOB, CAROL = "a1" * 32, "b2" * 32, "c3" * 32
NOW = 1_700_000_000_000_000_000

ALICE_LINES = [
    f"public_key={ALICE}",
    f"preshared_key={PRESHARED}",
    "protocol_version=1",
    "endpoint=192.0.2.7:51820",
    "last_handshake_time_sec=1700000000",
    "last_handshake_time_nsec=5",
    "tx_bytes=123456789012",
    "rx_bytes=18446744073709551615",
    "persistent_keepalive_interval=25",
    "allowed_ip=10.0.0.1/32",
    "allowed_ip=fd00::1/128",
]
BOB_LINES = [
    f"public_key={BOB}",
    f"preshared_key={'0' * 64}",
    "protocol_version=1",
    "last_handshake_time_sec=0",
    "last_handshake_time_nsec=0",
    "tx_bytes=0",
    "rx_bytes=0",
    "persistent_keepalive_interval=0",
]
DEVICE_LINES = [f"private_key={PRIVATE}", "listen_port=51820", "fwmark=4294967295"]


def b64(hex_key: str) -> str:
    return b64encode(bytes.fromhex(hex_key)).decode()


def answer(*lines: str, end: str = "errno=0\n\n") -> bytearray:
    return bytearray("".join(line + "\n" for line in lines).encode() + end.encode())


def whole(*, alice: list[str] = ALICE_LINES) -> bytearray:
    return answer(*DEVICE_LINES, *alice, *BOB_LINES)


def peer(*lines: str) -> uapi.Peer:
    """The one peer of an answer with these lines in it."""
    (only,) = decode(answer(f"public_key={ALICE}", *lines), NOW).peers
    return only


def problem(data: bytearray) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(data, NOW)
    return str(caught.value)


def attempt(data: bytearray, known: dict | None = None) -> uapi.Answer | DecodeError:
    try:
        return decode(data, NOW, known)
    except DecodeError as error:
        return error


# What daemons send


def test_every_value_of_device_and_peers_is_read():
    got = decode(whole(), NOW)
    own = X25519PrivateKey.from_private_bytes(bytes.fromhex(PRIVATE)).public_key().public_bytes_raw()
    assert (got.public_key, got.listen_port, got.fwmark) == (b64encode(own).decode(), 51820, 0xFFFFFFFF)
    assert got.peers == (
        uapi.Peer(
            b64(ALICE),
            "192.0.2.7:51820",
            ("10.0.0.1/32", "fd00::1/128"),
            25,
            1_700_000_000_000_000_005,
            18446744073709551615,
            123456789012,
        ),
        uapi.Peer(b64(BOB), "", (), 0, 0, 0, 0),
    )


def test_the_public_key_is_that_of_rfc_7748():
    private = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"  # section 6.1, Bob
    public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert decode(answer(f"private_key={private}"), NOW).public_key == b64(public)


def test_a_private_key_within_another_value_is_not_the_devices():
    got = decode(answer(f"later_key=private_key={PRESHARED}", *DEVICE_LINES), NOW)
    assert got.public_key == decode(whole(), NOW).public_key


@pytest.mark.parametrize("lines", [[], ["listen_port=1"], [f"private_key={'0' * 64}"]])
def test_a_device_without_a_private_key_has_no_public_key_and_no_peers(lines):
    got = decode(answer(*lines), NOW)
    assert (got.public_key, got.peers) == ("", ())


def test_an_answer_may_end_with_the_connection_instead_of_the_empty_line():
    assert decode(answer(*DEVICE_LINES, *ALICE_LINES, end="errno=0\n"), NOW) == decode(
        answer(*DEVICE_LINES, *ALICE_LINES), NOW
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_a_peers_lines_does_not_matter(seed):
    lines = ALICE_LINES[1:-2]
    random.Random(seed).shuffle(lines)
    shuffled = answer(ALICE_LINES[0], *lines, *ALICE_LINES[-2:])
    assert decode(shuffled, NOW).peers == decode(answer(*ALICE_LINES), NOW).peers


def test_keys_of_amneziawg_and_of_the_future_are_skipped():
    amnezia = ["jc=4", "jmin=40", "s1=1", "h1=5-9", "i1=<b 0xff><t>", f"obfs_psk={OTHER_SECRET}", "later_key=x=y"]
    got = decode(answer(*DEVICE_LINES, *amnezia, *ALICE_LINES, "later_key="), NOW)
    assert got[:4] == decode(answer(*DEVICE_LINES, *ALICE_LINES), NOW)[:4]


def test_of_a_keepalive_range_the_longest_wait_counts():
    assert peer("persistent_keepalive_interval=20-35").persistent_keepalive == 35


@pytest.mark.parametrize(
    "endpoint", ["0.0.0.0:0", "255.255.255.255:65535", "[::1]:1", "[fe80::1%eth0.5]:51820", "[::ffff:192.0.2.1]:7"]
)
def test_an_endpoint_is_kept_as_given(endpoint):
    assert peer(f"endpoint={endpoint}").endpoint == endpoint


# boringtun: an answer as version 0.6.0 really gave it, but for the keys

BORINGTUN = f"""own_public_key={CAROL}
listen_port=51998
public_key={ALICE}
endpoint=127.0.0.1:51999
allowed_ip=10.0.0.2/32
allowed_ip=fd00::/64
last_handshake_time_sec=3
last_handshake_time_nsec=405472147
rx_bytes=0
tx_bytes=0
errno=0

"""


def test_boringtun_sends_the_age_of_a_handshake_and_its_public_key():
    got = decode(bytearray(BORINGTUN.encode()), NOW)
    assert got.public_key == b64(CAROL)
    assert got.peers[0].last_handshake_ns == NOW - 3_405_472_147


def test_boringtuns_handshake_does_not_move_with_the_jitter_of_reading():
    first = decode(bytearray(BORINGTUN.encode()), NOW)
    later = BORINGTUN.replace("_sec=3", "_sec=8").encode()
    second = decode(bytearray(later), NOW + 5_030_000_000, first.known)
    assert second.peers[0] is first.peers[0]
    third = decode(bytearray(BORINGTUN.replace("_sec=3", "_sec=1").encode()), NOW + 9_000_000_000, second.known)
    assert third.peers[0].last_handshake_ns == NOW + 9_000_000_000 - 1_405_472_147


def test_boringtuns_handshake_is_counted_from_the_clock_as_it_is_after_that_was_set_back():
    first = decode(bytearray(BORINGTUN.encode()), NOW)
    back = NOW - 3600 * 1_000_000_000
    second = decode(bytearray(BORINGTUN.replace("_sec=3", "_sec=4").encode()), back, first.known)
    assert second.peers[0].last_handshake_ns == back - 4_405_472_147


def test_an_age_is_an_age_in_the_order_of_wireguard_go_too():
    usual = [*ALICE_LINES[:4], "last_handshake_time_sec=60", *ALICE_LINES[5:]]
    (got,) = decode(answer(f"own_public_key={CAROL}", *usual), NOW).peers
    assert got.last_handshake_ns == NOW - 60_000_000_005


def test_a_handshake_older_than_the_clock_is_still_not_never():
    assert decode(bytearray(BORINGTUN.encode()), 1_000_000_000).peers[0].last_handshake_ns == 1


def test_a_fixed_boringtun_that_sends_a_time_is_believed():
    fixed = BORINGTUN.replace("_sec=3", "_sec=1700000000")
    assert decode(bytearray(fixed.encode()), NOW).peers[0].last_handshake_ns == 1_700_000_000_405_472_147


def test_a_boringtun_peer_without_a_handshake_has_none():
    never = "".join(line for line in BORINGTUN.splitlines(keepends=True) if not line.startswith("last_"))
    assert decode(bytearray(never.encode()), NOW).peers[0].last_handshake_ns == 0


@pytest.mark.parametrize(
    ("received", "stamp"), [(0, 0), (148, 0), (148 * 90_000, 0), (13_000_000, SOME_TIME), (180, SOME_TIME)]
)
def test_a_peer_whose_stamp_is_left_out_was_heard_some_time_if_it_sent_more_than_initiations(received, stamp):
    """boringtun leaves it out once the session has ended."""
    never = "".join(line for line in BORINGTUN.splitlines(keepends=True) if not line.startswith("last_"))
    found = decode(bytearray(never.replace("rx_bytes=0", f"rx_bytes={received}").encode()), NOW)
    assert found.peers[0].last_handshake_ns == stamp


def test_a_stamp_that_a_daemon_makes_anew_at_each_read_stays_the_same_until_the_next_handshake():
    """gotatun and NepTUN: the present less what has elapsed, which wobbles by microseconds."""
    first = decode(whole(), NOW)
    (nanoseconds,) = {line for line in ALICE_LINES if line.startswith("last_handshake_time_nsec")}

    def read(before, sec, nsec):
        lines = [line.replace(nanoseconds, f"last_handshake_time_nsec={nsec}") for line in ALICE_LINES]
        lines = [line.replace("time_sec=1700000000", f"time_sec={sec}") for line in lines]
        return decode(whole(alice=lines), NOW, before.known)

    wobbles = read(first, 1_700_000_000, 4_711)
    assert wobbles.peers[0] is first.peers[0]
    assert read(wobbles, 1_700_000_003, 0).peers[0].last_handshake_ns == 1_700_000_003_000_000_000


# From read to read


def test_a_peer_that_did_not_change_is_the_same_object_again():
    first = decode(whole(), NOW)
    moved = [line.replace("tx_bytes=123456789012", "tx_bytes=123456789013") for line in ALICE_LINES]
    second = decode(whole(alice=moved), NOW, first.known)
    assert second.peers[1] is first.peers[1]
    assert second.peers[0].tx_bytes == 123456789013
    assert second.peers[0].allowed_ips is first.peers[0].allowed_ips
    assert decode(whole(alice=moved), NOW, second.known).peers[0] is second.peers[0]


@pytest.mark.parametrize("extra", ["later_key=1", "later_key=2"])
def test_a_peer_with_unknown_keys_is_the_same_object_when_its_values_are(extra):
    first = decode(answer(*ALICE_LINES, "later_key=1"), NOW)
    assert decode(answer(*ALICE_LINES, extra), NOW, first.known).peers[0] is first.peers[0]


def test_every_change_of_a_peer_is_seen():
    first = decode(whole(), NOW)
    for old, new in [
        ("endpoint=192.0.2.7:51820", "endpoint=192.0.2.8:51820"),
        ("endpoint=192.0.2.7:51820", None),
        ("time_sec=1700000000", "time_sec=1700000005"),
        ("interval=25", "interval=26"),
        ("allowed_ip=10.0.0.1/32", "allowed_ip=10.0.0.2/32"),
        ("allowed_ip=10.0.0.1/32", None),
    ]:
        changed = [line.replace(old, new) if new else line for line in ALICE_LINES if new or line != old]
        assert decode(whole(alice=changed), NOW, first.known).peers == decode(whole(alice=changed), NOW).peers
        assert decode(whole(alice=changed), NOW).peers != first.peers


def test_peers_keep_their_place_although_the_daemon_shuffles_them():
    first = decode(answer(*ALICE_LINES, *BOB_LINES), NOW)
    second = decode(answer(f"public_key={CAROL}", *BOB_LINES, *ALICE_LINES), NOW, first.known)
    assert [p.public_key for p in second.peers] == [b64(ALICE), b64(BOB), b64(CAROL)]
    third = decode(answer(f"public_key={CAROL}", *ALICE_LINES), NOW, second.known)
    assert [p.public_key for p in third.peers] == [b64(ALICE), b64(CAROL)]


# What is not believed


@pytest.mark.parametrize(
    "end", ["", "errno=0", "\n", "errno=\n\n", "errno=zero\n\n", "errno=0\n\nerrno=0\n\nx", "\n\n"]
)
def test_an_answer_that_does_not_end_with_errno_is_cut_short(end):
    assert "cut short" in problem(answer(*DEVICE_LINES, *ALICE_LINES, end=end))


@pytest.mark.parametrize(("code", "name"), [(-1, "EPERM"), (5, "EIO"), (2147483647, "unknown errno")])
def test_an_error_of_the_daemon_is_an_error_whatever_comes_with_it(code, name):
    assert problem(answer(*ALICE_LINES, end=f"errno={code}\n\n")).endswith(name)


BAD_PEER_LINES = [
    ("rx_bytes=18446744073709551616", "rx_bytes is not a number"),
    ("rx_bytes=-1", "rx_bytes is not a number"),
    ("rx_bytes=+1", "rx_bytes is not a number"),
    ("rx_bytes=1_000", "rx_bytes is not a number"),
    ("rx_bytes= 1", "rx_bytes is not a number"),
    ("rx_bytes=٣", "rx_bytes is not a number"),
    ("rx_bytes=", "rx_bytes is not a number"),
    ("rx_bytes=" + "9" * 5000, "rx_bytes is not a number"),
    ("tx_bytes=18446744073709551616", "tx_bytes is not a number"),
    ("tx_bytes=1\r", "tx_bytes is not a number"),
    ("persistent_keepalive_interval=65536", "persistent_keepalive_interval is not a number"),
    ("persistent_keepalive_interval=1-65536", "persistent_keepalive_interval is not a number"),
    ("last_handshake_time_sec=9223372036", "last_handshake_time_sec is not a number"),
    ("last_handshake_time_nsec=1000000000", "last_handshake_time_nsec is not a number"),
    ("endpoint=", "endpoint is not address:port"),
    ("endpoint=vpn.example.com:51820", "endpoint is not address:port"),
    ("endpoint=192.0.2.256:51820", "endpoint is not address:port"),
    ("endpoint=192.0.2.1:65536", "endpoint is not address:port"),
    ("endpoint=192.0.2.1", "endpoint is not address:port"),
    ("endpoint=::1:51820", "endpoint is not address:port"),
    ('endpoint=[fe80::1%et"h0]:1', "endpoint is not address:port"),
    ("endpoint=[fe80::1%]:1", "endpoint is not address:port"),
    ("allowed_ip=10.0.0.1", "allowed_ip is not address/prefix length"),
    ("allowed_ip=10.0.0.1/33", "allowed_ip is not address/prefix length"),
    ("allowed_ip=10.0.0.1/08", "allowed_ip is not address/prefix length"),
    ("allowed_ip=fd00::/129", "allowed_ip is not address/prefix length"),
    ("allowed_ip=fd00::g/64", "allowed_ip is not address/prefix length"),
    ('allowed_ip=10.0.0.1/32"', "allowed_ip is not address/prefix length"),
    ("allowed_ip=10.0.0.1\x00/32", "allowed_ip is not address/prefix length"),
    ("listen_port=1", "listen_port is in the wrong place"),
    ("private_key=" + PRIVATE, "private_key is in the wrong place"),
    ("errno=0", "errno is in the wrong place"),
    ("rx_bytes", "not key=value"),
    ("", "not key=value"),
    ("=1", "not key=value"),
    ("\x1b[31m=1", "not key=value"),
    (f"public_key={ALICE.upper()}", "public_key is the same as an earlier peer's"),
    ("public_key=" + "a" * 63, "public_key is not 64 hex digits"),
    ("public_key=" + "g" * 64, "public_key is not 64 hex digits"),
    ("public_key=", "public_key is not 64 hex digits"),
]


@pytest.mark.parametrize(("line", "says"), BAD_PEER_LINES)
def test_a_bad_line_of_a_peer_is_an_error_with_its_number(line, says):
    key = line.partition("=")[0] + "="
    good = [*DEVICE_LINES, ALICE_LINES[0], *[kept for kept in ALICE_LINES[1:] if not kept.startswith(key)]]
    assert problem(answer(*good, line, *BOB_LINES)).startswith(f"line {len(good) + 1}: {says}")


@pytest.mark.parametrize(
    ("line", "says"),
    [bad for bad in BAD_PEER_LINES if bad[0].partition("=")[0].encode() in uapi.PEER_KEYS],
)
def test_a_bad_line_is_an_error_in_its_usual_place_too_where_the_fast_way_meets_it(line, says):
    key = line.partition("=")[0] + "="
    at = next(i for i, kept in enumerate(ALICE_LINES) if kept.startswith(key))
    lines = [*DEVICE_LINES, *ALICE_LINES[:at], line, *ALICE_LINES[at + 1 :], *BOB_LINES]
    assert problem(answer(*lines)).startswith(f"line {len(DEVICE_LINES) + at + 1}: {says}")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("listen_port=65536", "listen_port is not a number"),
        ("fwmark=4294967296", "fwmark is not a number"),
        ("fwmark=0x10", "fwmark is not a number"),
        ("rx_bytes=1", "rx_bytes is in the wrong place"),
        ("allowed_ip=10.0.0.1/32", "allowed_ip is in the wrong place"),
        ("own_public_key=12", "own_public_key is not 64 hex digits"),
        ("rubbish", "not key=value"),
    ],
)
def test_a_bad_line_of_the_device_is_an_error_with_its_number(line, says):
    assert problem(answer("jc=1", line, *ALICE_LINES)).startswith(f"line 2: {says}")


@pytest.mark.parametrize("key", ["rx_bytes=1", "endpoint=192.0.2.1:1", f"preshared_key={PRESHARED}", "listen_port=1"])
def test_a_key_given_twice_is_an_error(key):
    lines = [key, key] if key == "listen_port=1" else [f"public_key={CAROL}", key, key]
    assert "is given twice" in problem(answer(*lines))


@pytest.mark.parametrize("value", ["", "ab", "g" * 64, "ab" * 33, "ab" * 31 + " 1"])
def test_a_private_key_that_is_none_is_an_error(value):
    assert problem(answer(f"private_key={value}")) == "private_key is not 64 hex digits"


def test_more_peers_than_wireguard_go_allows_are_an_error():
    lines = [f"public_key={i:064x}" for i in range(uapi.MAX_PEERS + 1)]
    assert len(decode(answer(*lines[:-1]), NOW).peers) == uapi.MAX_PEERS
    assert problem(answer(*lines)) == "more than 65536 peers"


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a=1"] * (uapi.MAX_LINES + 1), "more than 64 lines before the first peer"),
        ([*DEVICE_LINES, *ALICE_LINES, *["a=1"] * 70], "or 64 other lines"),
        ([*DEVICE_LINES, *ALICE_LINES, *["a=1"] * 1_200_000], "more lines than so many peers have"),
        ([*ALICE_LINES, *["allowed_ip=10.0.0.1/32"] * (uapi.MAX_ALLOWED_IPS_EACH + 1)], "more than 32768 allowed IPs"),
        (["allowed_ip=10.0.0.1/32"] * (uapi.MAX_ALLOWED_IPS + 1), "more than 262144 allowed IPs"),
        ([*ALICE_LINES, "x=" + "y" * 200_000], "a line of more than 4096 bytes"),
        ([f"public_key={ALICE}"] * (uapi.MAX_PEERS + 1), "more than 65536 peers"),
    ],
)
def test_what_no_daemon_says_is_refused_before_it_takes_memory(lines, says):
    data = answer(*lines)
    size = len(data)
    tracemalloc.start()
    try:
        assert says in problem(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * size + (1 << 20)
    finally:
        tracemalloc.stop()


def test_it_gives_up_when_it_is_told_to():
    asked = []

    def overdue():
        asked.append(1)
        return len(asked) > 2

    with pytest.raises(DecodeError, match="it takes too long to read"):
        decode(answer(*[f"public_key={i:064x}" for i in range(2000)]), NOW, None, overdue)
    assert len(asked) == 3


# Secrets


def everything_in(error: BaseException) -> str:
    """All that a log could show of an exception, its causes and what it carries."""
    text = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    while error.__context__:
        error = error.__context__
        text += repr(error) + str(vars(error))
    return text


def test_the_secrets_are_overwritten_in_the_buffer_and_in_what_is_kept():
    data = answer(*DEVICE_LINES, f"header_protection_key={OTHER_SECRET}", *ALICE_LINES, *BOB_LINES)
    size = len(data)
    got = decode(data, NOW)
    assert len(data) == size
    for secret in (PRIVATE, PRESHARED, OTHER_SECRET):
        assert secret not in data.decode()
        assert secret not in repr(got)
        assert b64(secret) not in repr(got)


def test_an_unknown_key_of_a_peer_may_be_a_secret_and_is_not_kept():
    assert OTHER_SECRET not in repr(decode(answer(*ALICE_LINES, f"future_secret={OTHER_SECRET}"), NOW))


@pytest.mark.parametrize("at", range(len(DEVICE_LINES + ALICE_LINES)))
@pytest.mark.parametrize("bad", ["{}\x00", "x{}", "{}={}", "{} ", "{}\nrx_bytes={}", "private_key={}", "public_key={}"])
def test_no_error_shows_anything_of_the_answer(at, bad):
    lines = [*DEVICE_LINES, *ALICE_LINES]
    lines[at] = bad.replace("{}", lines[at])
    data = answer(*lines)
    result = attempt(data)
    if isinstance(result, DecodeError):
        values = [PRIVATE, PRESHARED, ALICE, "192.0.2.7", "10.0.0.1", "123456789012"]
        assert not [value for value in values if value in everything_in(result)]
        assert "\n" not in str(result)
    assert PRIVATE not in data.decode()
    assert PRESHARED not in data.decode()


# Anything at all

POSSIBLE_LINES = st.sampled_from([*DEVICE_LINES, *ALICE_LINES, *BOB_LINES, "", "errno=0", "errno=1", "later=1", "="])


@st.composite
def mutated(draw: st.DrawFn) -> bytearray:
    data = bytearray(whole())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 7, 80])))
        data[start:end] = draw(st.binary(max_size=4) | st.sampled_from([b"\n", b"=", b"0", b"\npublic_key=", b"%s"]))
    return data


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        mutated(),
        st.binary(max_size=200).map(bytearray),
        st.lists(POSSIBLE_LINES, max_size=30).map(lambda lines: answer(*lines)),
    )
)
def test_whatever_comes_is_rows_or_a_clean_error(data):
    known = decode(whole(), NOW).known
    got, compared = attempt(bytearray(data)), attempt(bytearray(data), known)
    if isinstance(got, DecodeError):
        assert str(compared) == str(got)
        assert "\n" not in str(got)
        assert PRIVATE[:16] not in everything_in(got)
        assert PRESHARED[:16] not in everything_in(got)
        return
    # A stamp that moved by less than handshakes are apart is that of before.
    for one, other in zip(sorted(compared.peers), sorted(got.peers), strict=True):
        assert one._replace(last_handshake_ns=0) == other._replace(last_handshake_ns=0)
        assert abs(one.last_handshake_ns - other.last_handshake_ns) < uapi.SAME_HANDSHAKE
    texts = [text for p in got.peers for text in (p.endpoint, *p.allowed_ips)]
    assert all(text.isascii() and text.isprintable() and not set(text) & set("\"'\\ ") for text in texts)


PEER = st.fixed_dictionaries(
    {
        "last_handshake_time_sec": st.integers(0, uapi.LAST_SECOND),
        "last_handshake_time_nsec": st.integers(0, 999_999_999),
        "tx_bytes": st.integers(0, 2**64 - 1),
        "rx_bytes": st.integers(0, 2**64 - 1),
    },
    optional={
        "endpoint": st.builds("{}:{}".format, st.ip_addresses(v=4), st.integers(0, 65535))
        | st.builds("[{}]:{}".format, st.ip_addresses(v=6), st.integers(0, 65535)),
        "persistent_keepalive_interval": st.integers(0, 65535),
    },
)
CIDRS = st.lists(
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32))
    | st.builds("{}/{}".format, st.ip_addresses(v=6), st.integers(0, 128)),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(PEER, CIDRS)
def test_the_fast_way_and_the_line_by_line_way_read_the_same(values, cidrs):
    order = ["endpoint", "last_handshake_time_sec", "last_handshake_time_nsec", "tx_bytes", "rx_bytes"]
    order.append("persistent_keepalive_interval")
    lines = [f"{key}={values[key]}" for key in order if key in values]
    allowed = [f"allowed_ip={cidr}" for cidr in cidrs]
    fast = peer("protocol_version=1", *lines, *allowed)
    slow = peer(*allowed, *reversed(lines))
    assert fast == slow
    stamp = values["last_handshake_time_sec"] * 10**9 + values["last_handshake_time_nsec"]
    assert fast.last_handshake_ns == (stamp or (SOME_TIME if values["rx_bytes"] % 148 else 0))
    assert (fast.rx_bytes, fast.tx_bytes) == (values["rx_bytes"], values["tx_bytes"])
    assert fast.endpoint == values.get("endpoint", "")
    assert fast.persistent_keepalive == values.get("persistent_keepalive_interval", 0)
    assert fast.allowed_ips == tuple(cidrs)
