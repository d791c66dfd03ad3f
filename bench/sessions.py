"""Make chosen peers of a kernel device move bytes, cheaply and exactly.

A peer's counters move when WireGuard accepts a message. So this file is the far end of every peer: it does the
handshake with the device over loopback as the initiator (the device then only answers, and never begins a handshake
or a retry by itself), and afterwards one keepalive of 32 bytes moves the counter of exactly the peer that it is sent
for. A session lives 180 s (REJECT_AFTER_TIME). On demand a process answers the echo requests that come through them.

Source: the WireGuard paper, sections 5.4.2 to 5.4.6 (https://www.wireguard.com/papers/wireguard.pdf).
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import select
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SAFE_AGE = 160.0  # seconds: REJECT_AFTER_TIME is 180
KEEPALIVE_SIZE = 32
REKEY_TIMEOUT = 5.0  # seconds until a handshake is tried again
MOST_ATTEMPTS = 4
UNDER_WAY = 128  # handshakes; above 512 the device asks for cookies
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
QUEUED = 512  # packets under way at once; a device holds 1,024 and drops the rest
UDP_SEGMENT, SEGMENTS = 103, 64  # linux/udp.h: one send becomes up to 64 datagrams of equal size


# Answers have numbers of their own, above those of prepared keepalives and within the window of 8,128 (RFC 6479) in
# which a device takes messages in any order.
FIRST_ANSWER = 1000

ICMP, ECHO_REQUEST = 1, 8


_IPAD, _OPAD = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def _hash(*parts: bytes) -> bytes:
    return hashlib.blake2s(b"".join(parts)).digest()


def keyed(key: bytes, data: bytes) -> bytes:
    """HMAC-BLAKE2s (RFC 2104). That of the standard library goes through OpenSSL, whose preparations take longer than
    all else of a handshake in an emulated processor.
    """
    inner = hashlib.blake2s(key.ljust(64, b"\0").translate(_IPAD) + data).digest()
    return hashlib.blake2s(key.ljust(64, b"\0").translate(_OPAD) + inner).digest()


def _kdf(count: int, key: bytes, data: bytes) -> list[bytes]:
    secret = keyed(key, data)
    out = [b""]
    for n in range(1, count + 1):
        out.append(keyed(secret, out[-1] + bytes([n])))
    return out[1:]


_CHAIN = _hash(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
_IDENTIFIED = _hash(_CHAIN, b"WireGuard v1 zx2c4 Jason@zx2c4.com")
_NO_NONCE = bytes(12)


class Identity(NamedTuple):
    """A peer of the device: its number is the index that the device answers to."""

    number: int
    private: X25519PrivateKey
    public: bytes


def identity(number: int, private: bytes) -> Identity:
    """The peer of this number with this private key (32 bytes)."""
    key = X25519PrivateKey.from_private_bytes(private)
    return Identity(number, key, key.public_key().public_bytes_raw())


class Session(NamedTuple):
    """The keys to send and to receive with, and the receiver index that the device knows it by."""

    send: ChaCha20Poly1305
    receive: ChaCha20Poly1305
    receiver: int


class FarEnds:
    """The far end of many peers of one device that listens on 127.0.0.1, by their numbers."""

    def __init__(self, device_public: bytes, port: int, peers: Iterable[Identity], received: Callable[[], int]) -> None:
        """`received` tells how many packets the device has taken in so far."""
        self._received = received
        self._device_public = device_public
        self._mac1_key = _hash(b"mac1----", device_public)
        self._peers = {who.number: who for who in peers}
        # One ephemeral key for all handshakes: no way to treat secrets, but half the curve operations of a long wait.
        self._ephemeral = X25519PrivateKey.generate()
        device = X25519PublicKey.from_public_bytes(device_public)
        self._first_shared = self._ephemeral.exchange(device)
        self._static_shared = {who.number: who.private.exchange(device) for who in self._peers.values()}
        self._sessions: dict[int, Session] = {}
        self._ready: dict[int, list[bytes]] = {}
        self._counter = 1  # of the next keepalive that is made
        self._connected_at = 0.0
        self._hello, self._data = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for one in (self._hello, self._data):
            one.connect(("127.0.0.1", port))
            one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
            one.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
        self._data.setsockopt(socket.SOL_UDP, UDP_SEGMENT, KEEPALIVE_SIZE)

    def close(self) -> None:
        """Forget all sessions."""
        self._hello.close()
        self._data.close()

    def age(self) -> float:
        """Seconds since the last `connect` began."""
        return time.monotonic() - self._connected_at

    def connect(self, numbers: Sequence[int]) -> None:
        """A handshake for each of these peers, confirmed by a first keepalive. Raises TimeoutError.

        What can be is made beforehand, as time is short: the first session must live until the last one moves. A busy
        machine may lose some of the messages: those are sent again, as WireGuard does after 5 s.
        """
        waiting = deque((number, *self._initiation(self._peers[number])) for number in numbers)
        self._connected_at, self._counter = time.monotonic(), 1
        before = self._received()
        pending, attempts = dict[int, bytes](), 1
        while waiting or pending:
            more = waiting and len(pending) < UNDER_WAY
            if select.select([self._hello], [], [], 0 if more else REKEY_TIMEOUT)[0]:
                self._take_response(pending)
                attempts = 1
            elif more:
                number, chain, message = waiting.popleft()
                self._hello.send(message)
                pending[number] = chain
            elif attempts == MOST_ATTEMPTS:
                raise TimeoutError(f"the device did not answer {len(pending)} handshakes")
            else:
                attempts += 1
                for number in pending:
                    pending[number], message = self._initiation(self._peers[number])
                    self._hello.send(message)
        self._wait(before + len(numbers))

    def _take_response(self, pending: dict[int, bytes]) -> None:
        """Make a session of a response and confirm it, if it is one to a `pending` initiation."""
        answer = self._hello.recv(256)
        kind, index, number = struct.unpack_from("<III", answer)
        if kind == 2 and number in pending:
            session = self._derive(pending.pop(number), self._peers[number], answer, index)
            self._sessions[number] = session
            self._data.send(_message(session, 0, b""))

    def prepare(self, numbers: Sequence[int], moves: int) -> None:
        """Make the keepalives for this many moves of these peers beforehand, because encryption takes time.

        What was made before and is not sent yet is thrown away.
        """
        first, self._counter = self._counter, self._counter + moves
        for number in numbers:
            session = self._sessions[number]
            self._ready[number] = [_message(session, n, b"") for n in range(self._counter - 1, first - 1, -1)]

    def move(self, numbers: Sequence[int]) -> None:
        """One keepalive from each of these peers, until all are counted: its rx_bytes grow by 32.

        Raises TimeoutError if the device does not take them all.
        """
        packets = [self._ready[number].pop() for number in numbers]
        goal = self._received()
        for start in range(0, len(packets), SEGMENTS):
            chunk = packets[start : start + SEGMENTS]
            self._data.send(b"".join(chunk))
            goal += len(chunk)
            last = start + SEGMENTS >= len(packets)
            self._wait(goal if last else goal - QUEUED)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Answer echo requests in the sessions of now, in a process of its own."""
        process = multiprocessing.get_context("fork").Process(target=self._answer, daemon=True)
        process.start()
        try:
            yield
        finally:
            process.terminate()
            process.join()

    def _answer(self) -> None:
        whole = [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", 0))]  # one datagram, whatever its length
        counters = dict.fromkeys(self._sessions, FIRST_ANSWER)
        while True:
            message = self._data.recv(2048)
            number = int.from_bytes(message[4:8], "little")
            if message[0] != 4 or number not in self._sessions:
                continue
            session = self._sessions[number]
            try:
                reply = _echo_reply(session.receive.decrypt(bytes(4) + message[8:16], message[16:], None))
            except InvalidTag:
                continue
            if reply:
                self._data.sendmsg([_message(session, counters[number], reply)], whole)
                counters[number] += 1

    def _wait(self, goal: int) -> None:
        deadline = time.monotonic() + 30
        while (now := self._received()) < goal:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the device did not take {goal - now} keepalives")
            time.sleep(0.001)

    def _initiation(self, who: Identity) -> tuple[bytes, bytes]:
        """A handshake initiation (5.4.2): the chaining key after it, and the message."""
        public = self._ephemeral.public_key().public_bytes_raw()
        transcript = _hash(_hash(_IDENTIFIED, self._device_public), public)
        (chain,) = _kdf(1, _CHAIN, public)
        chain, key = _kdf(2, chain, self._first_shared)
        static = ChaCha20Poly1305(key).encrypt(_NO_NONCE, who.public, transcript)
        transcript = _hash(transcript, static)
        chain, key = _kdf(2, chain, self._static_shared[who.number])
        now = time.time_ns()
        stamp = struct.pack(">QI", 0x400000000000000A + now // 10**9, now % 10**9)
        message = struct.pack("<II", 1, who.number) + public + static
        message += ChaCha20Poly1305(key).encrypt(_NO_NONCE, stamp, transcript)
        mac1 = hashlib.blake2s(message, digest_size=16, key=self._mac1_key).digest()
        return chain, message + mac1 + bytes(16)

    def _derive(self, chain: bytes, who: Identity, answer: bytes, index: int) -> Session:
        """The session from a handshake response (5.4.3, 5.4.5). Whether it is authentic is not looked at."""
        theirs = X25519PublicKey.from_public_bytes(answer[12:44])
        (chain,) = _kdf(1, chain, answer[12:44])
        (chain,) = _kdf(1, chain, self._ephemeral.exchange(theirs))
        (chain,) = _kdf(1, chain, who.private.exchange(theirs))
        chain = _kdf(3, chain, bytes(32))[0]
        send, receive = map(ChaCha20Poly1305, _kdf(2, chain, b""))
        return Session(send, receive, index)


def _message(session: Session, counter: int, packet: bytes) -> bytes:
    """A transport message (5.4.6). Without a packet it is a keepalive."""
    head = struct.pack("<IIQ", 4, session.receiver, counter)
    padded = packet + bytes(-len(packet) % 16)
    return head + session.send.encrypt(bytes(4) + counter.to_bytes(8, "little"), padded, None)


def _echo_reply(packet: bytes) -> bytes:
    """The answer to an ICMP echo request over IPv4 without options (RFC 791, RFC 792); empty for all else.

    Addresses that change places leave the header's checksum as it was; another type changes that of ICMP by as much.
    """
    if len(packet) < 28 or packet[0] != 0x45 or packet[9] != ICMP or packet[20] != ECHO_REQUEST:
        return b""
    packet = packet[: int.from_bytes(packet[2:4], "big")]  # the rest is padding
    checksum = int.from_bytes(packet[22:24], "big") + (ECHO_REQUEST << 8)
    checksum = (checksum & 0xFFFF) + (checksum >> 16)
    return packet[:12] + packet[16:20] + packet[12:16] + bytes(2) + checksum.to_bytes(2, "big") + packet[24:]
