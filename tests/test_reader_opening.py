"""Initiations are opened as the other side of the handshake sealed them, the key is used once and wiped, and nothing
that a stranger sends says more than that it can't be opened."""

from __future__ import annotations

import struct
import tempfile
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.initiator import hash_, initiation, mac, party, tai64n
from tests.netlinking import FAMILY, nla
from tests.test_reader_userspace import Daemons, answers, hangs
from wg_exporter.linux.errors import SourceError
from wg_exporter.model import Backend
from wg_exporter.reader import opening
from wg_exporter.reader.initiation import Opened, made_for, open_initiation

HUB = party(bytes(range(32)))
CALLER = party(bytes(range(32, 64)))
STRANGER = party(bytes(range(64, 96)))
WHEN = 1_764_395_000.5
LOW_ORDER = bytes(32)  # a point that gives no secret with any key (RFC 7748, section 6.1)


def test_an_initiation_says_who_calls_and_when():
    opened = open_initiation(HUB.key, initiation(CALLER, HUB.public_bytes, WHEN))
    assert opened == Opened(CALLER.public, WHEN)


@pytest.mark.parametrize("wall", [0.0, 1.25, 253402300799.75, 2.0**33])
def test_stamps_of_clocks_that_stand_anywhere_are_told_as_they_are(wall):
    opened = open_initiation(HUB.key, initiation(CALLER, HUB.public_bytes, wall))
    assert opened
    assert opened.stamp == pytest.approx(wall, abs=1e-6)


def test_what_is_made_for_another_key_does_not_open_and_is_known_without_any_secret():
    message = initiation(CALLER, STRANGER.public_bytes, WHEN)
    assert made_for(STRANGER.public_bytes, message)
    assert not made_for(HUB.public_bytes, message)
    assert open_initiation(HUB.key, message) is None
    # The MAC alone may be made for us by anybody.
    assert open_initiation(HUB.key, initiation(CALLER, STRANGER.public_bytes, WHEN, mac1_for=HUB.public_bytes)) is None


def test_a_liar_who_names_the_key_of_somebody_else_is_not_believed():
    message = initiation(STRANGER, HUB.public_bytes, WHEN, claimed=CALLER.public_bytes)
    assert made_for(HUB.public_bytes, message)
    assert open_initiation(HUB.key, message) is None


def test_points_that_give_no_secret_are_refused():
    assert open_initiation(HUB.key, initiation(STRANGER, HUB.public_bytes, WHEN, claimed=LOW_ORDER)) is None
    message = bytearray(initiation(CALLER, HUB.public_bytes, WHEN))
    message[8:40] = LOW_ORDER
    assert open_initiation(HUB.key, remade(message)) is None


def remade(message: bytearray) -> bytes:
    """With a right MAC, so that the message is looked into."""
    message[116:132] = mac(hash_(b"mac1----" + HUB.public_bytes), bytes(message[:116]))
    return bytes(message)


@pytest.mark.parametrize("at", [8, 39, 40, 87, 88, 115])
def test_one_bit_changed_opens_nothing(at):
    message = bytearray(initiation(CALLER, HUB.public_bytes, WHEN))
    assert open_initiation(HUB.key, remade(message))
    message[at] ^= 1
    assert open_initiation(HUB.key, remade(message)) is None


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_comes_it_is_no_initiation(data):
    assert open_initiation(HUB.key, data) is None
    assert open_initiation(HUB.key, data.ljust(148, b"\0")[:148]) is None


@settings(deadline=None)
@given(st.binary(min_size=148, max_size=148))
def test_whatever_has_the_right_mac_raises_nothing(data):
    assert open_initiation(HUB.key, remade(bytearray(b"\1\0\0\0" + data[4:]))) is None


@settings(deadline=None)
@given(st.binary(min_size=12, max_size=12))
def test_whatever_stamp_a_peer_of_ours_makes_is_a_number(stamp):
    made = party()
    message = initiation(made, HUB.public_bytes, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.initiator.tai64n", lambda _stamp: stamp)
        message = initiation(made, HUB.public_bytes, 0.0)
    opened = open_initiation(HUB.key, message)
    assert opened
    assert opened.caller == made.public
    assert isinstance(opened.stamp, float)


def test_the_stamp_is_tai64n_as_wireguard_writes_it():
    assert tai64n(0.5).hex() == "400000000000000a1dcd6500"


# --- where the key comes from -----------------------------------------------------------------------------------------


@pytest.fixture
def directory():
    with tempfile.TemporaryDirectory(prefix="uapi-") as path:
        yield Path(path)


@pytest.fixture
def daemons(directory):
    made = Daemons(directory)
    yield made
    made.close()


def says(key: bytes) -> bytes:
    return b"private_key=" + key.hex().encode() + b"\nlisten_port=51820\nerrno=0\n\n"


def from_daemon(directory: Path, *messages: bytes) -> list[Opened | None]:
    return opening.opened("wg0", Backend.USERSPACE, messages, directories={Backend.USERSPACE: [str(directory)]})


def test_a_daemon_is_asked_for_its_key_once_for_all_messages(daemons, directory):
    daemons.start("wg0", answers(says(HUB.key.private_bytes_raw())))
    good = initiation(CALLER, HUB.public_bytes, WHEN)
    assert from_daemon(directory, good, b"", good) == [Opened(CALLER.public, WHEN), None, Opened(CALLER.public, WHEN)]
    assert len(from_daemon(directory, *[good] * (opening.MOST + 5))) == opening.MOST


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"own_public_key=00\nerrno=0\n\n", "does not tell its private key"),
        (says(bytes(32)), "does not tell its private key"),
        (b"private_key=xyz\nerrno=0\n\n", "not 64 hex digits"),
    ],
)
def test_a_daemon_that_tells_no_key_is_an_error_of_one_line(daemons, directory, answer, said):
    daemons.start("wg0", answers(answer))
    with pytest.raises(SourceError, match=said) as raised:
        from_daemon(directory, initiation(CALLER, HUB.public_bytes, WHEN))
    assert "\n" not in str(raised.value)


def test_a_daemon_that_hangs_or_is_gone_is_an_error(daemons, directory, monkeypatch):
    monkeypatch.setattr(opening.whole_answer.__wrapped__, "__defaults__", (0.2,))
    daemons.start("wg0", hangs)
    with pytest.raises(SourceError, match="did not answer"):
        from_daemon(directory)
    with pytest.raises(SourceError, match="no daemon answers"):
        opening.opened("wg1", Backend.USERSPACE, (), directories={Backend.USERSPACE: [str(directory)]})
    with pytest.raises(SourceError, match="can't be opened"):
        opening.opened("wg1", Backend.AMNEZIAWG, ())


class Kernel:
    """A netlink socket that knows one device."""

    def __init__(self, key: bytes | None) -> None:
        self.key = key
        self.closed = False
        self.queue: list[bytes] = []

    def send(self, data: bytes) -> None:
        _length, kind, _flags, sequence, _port = struct.unpack_from("=IHHII", data)
        if kind == 16:
            payload = struct.pack("=BBH", 1, 2, 0) + nla(2, b"wireguard\0") + nla(1, struct.pack("=H", FAMILY))
        else:
            assert data[20:].startswith(nla(2, b"wg0\0"))
            payload = struct.pack("=BBH", 0, 1, 0) + nla(2, b"wg0\0") + (nla(3, self.key) if self.key else b"")
        done = struct.pack("=IHHIIi", 20, 3, 2, sequence, 0, 0)
        self.queue += [struct.pack("=IHHII", 16 + len(payload), kind, 2, sequence, 0) + payload, done]

    def recvmsg_into(self, buffers: list[memoryview]) -> tuple[int, list[object], int, tuple[int, int]]:
        data = self.queue.pop(0)
        buffers[0][: len(data)] = data
        return len(data), [], 0, (0, 0)

    def close(self) -> None:
        self.closed = True


def test_the_kernel_is_asked_for_the_key_of_one_device():
    made = []

    def opened(_protocol: int) -> Kernel:
        made.append(Kernel(HUB.key.private_bytes_raw()))
        return made[-1]

    message = initiation(CALLER, HUB.public_bytes, WHEN)
    assert opening.opened("wg0", Backend.KERNEL, [message], netlink=opened) == [Opened(CALLER.public, WHEN)]
    assert all(one.closed for one in made)
    with pytest.raises(SourceError, match="does not tell"):
        opening.opened("wg0", Backend.KERNEL, [message], netlink=lambda _: Kernel(None))


@pytest.mark.parametrize("fails", [False, True])
def test_the_key_is_overwritten_whatever_comes_of_it(monkeypatch, fails):
    kept = []

    def take(key: bytearray, _name: str, _where: object) -> None:
        key[:] = HUB.key.private_bytes_raw()
        kept.append(key)
        if fails:
            raise SourceError("the daemon died")

    monkeypatch.setattr(opening, "_from_daemon", take)
    message = initiation(CALLER, HUB.public_bytes, WHEN)
    if fails:
        with pytest.raises(SourceError):
            opening.opened("wg0", Backend.USERSPACE, [message])
    else:
        assert opening.opened("wg0", Backend.USERSPACE, [message])
    assert kept == [bytearray(32)]


def test_the_library_takes_the_key_from_a_buffer_that_can_be_wiped():
    buffer = bytearray(HUB.key.private_bytes_raw())
    key = X25519PrivateKey.from_private_bytes(buffer)
    buffer[:] = bytes(32)
    assert key.public_key().public_bytes_raw() == b64decode(HUB.public)
