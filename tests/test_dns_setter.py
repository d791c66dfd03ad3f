"""An endpoint is set, and nothing else: the bytes for the kernel, and the text for a daemon."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from base64 import b64decode
from typing import TYPE_CHECKING

import pytest

from tests.netlinking import FAMILY, FakeKernel, Request, done, error, message, nla
from tests.rows import key
from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import (
    GENERIC,
    GENL_ID_CTRL,
    NLM_F_ACK,
    NLM_F_REQUEST,
    attributes,
)
from wg_exporter.model import Backend
from wg_exporter.reader.dns.setter import Setter, uapi_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = key(1)
V4, V6 = "198.51.100.7:51820", "[2001:db8::7]:40000"


def kernel(number: int = 0, name: bytes = b"wireguard\0") -> FakeKernel:
    """One that has the family, and answers what it is told with this error number."""

    def answer(request: Request) -> list[bytes]:
        if request.kind == GENL_ID_CTRL:
            family = GENERIC.pack(1, 1, 0) + nla(2, name) + nla(1, struct.pack("=H", FAMILY))
            return [message(GENL_ID_CTRL, request.sequence, family), done(request.sequence)]
        return [error(request.sequence, -number)]

    return FakeKernel(answer)


def told(fake: FakeKernel) -> dict[int, bytes]:
    """The attributes of the last request, by type."""
    body = fake.requests[-1].body
    return {kind: body[start:end] for kind, start, end in attributes(body, GENERIC.size, len(body))}


def test_the_kernel_is_told_the_endpoint_of_one_peer_that_it_has_and_nothing_else():
    for endpoint, address in (
        (V4, struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 51820, bytes((198, 51, 100, 7)))),
        (
            V6,
            struct.pack("=H", socket.AF_INET6)
            + struct.pack("!HI16sI", 40000, 0, socket.inet_pton(socket.AF_INET6, "2001:db8::7"), 0),
        ),
    ):
        fake = kernel()
        Setter(fake.open, {}).set("wg0", Backend.KERNEL, KEY, endpoint)
        assert fake.requests[-1].kind == FAMILY
        assert fake.requests[-1].body[:4] == GENERIC.pack(1, 1, 0), "WG_CMD_SET_DEVICE"
        device = told(fake)
        assert set(device) == {2, 8}, "the name of the device, and its peers: no key, no port, no flags"
        assert device[2] == b"wg0\0"
        peers = [device[8][start:end] for _, start, end in attributes(device[8], 0, len(device[8]))]
        assert len(peers) == 1
        peer = {kind: peers[0][start:end] for kind, start, end in attributes(peers[0], 0, len(peers[0]))}
        assert peer == {1: b64decode(KEY), 3: struct.pack("=I", 4), 4: address}, "WGPEER_F_UPDATE_ONLY"


def test_the_kernel_is_asked_to_acknowledge_and_what_it_refuses_is_told():
    fake = kernel()
    Setter(fake.open, {}).set("wg0", Backend.KERNEL, KEY, V4)
    _length, _kind, flags, *_ = struct.unpack_from("=IHHII", fake.sockets[-1]._request)
    assert flags == NLM_F_REQUEST | NLM_F_ACK
    fake = kernel(errno.ENODEV)
    with pytest.raises(SourceError, match=os.strerror(errno.ENODEV)):
        Setter(fake.open, {}).set("wg0", Backend.KERNEL, KEY, V4)
    with pytest.raises(SourceError, match="knows no such devices"):
        Setter(kernel(name=b"other\0").open, {}).set("wg0", Backend.AMNEZIAWG, KEY, V4)


class Daemon:
    """A control socket on which the test answers."""

    def __init__(self, directory: Path, answer: bytes) -> None:
        self.heard = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(directory / "wg0.sock"))
        self._socket.listen()
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        talk, _ = self._socket.accept()
        with talk:
            while b"\n\n" not in self.heard and (more := talk.recv(4096)):
                self.heard += more
            talk.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    return tmp_path


def say(directory: Path, answer: bytes, backend: Backend = Backend.USERSPACE) -> bytes:
    daemon = Daemon(directory, answer)
    fake = kernel()
    try:
        Setter(fake.open, {backend: (str(directory),)}).set("wg0", backend, KEY, V6)
    finally:
        daemon.close()
    assert not fake.sockets, "a daemon has it, so the kernel is not asked"
    return daemon.heard


def test_a_daemon_is_told_the_endpoint_of_one_peer_that_it_has_and_nothing_else(directory):
    expected = f"set=1\npublic_key={b64decode(KEY).hex()}\nupdate_only=true\nendpoint={V6}\n\n".encode()
    assert say(directory, b"errno=0\n\n") == uapi_request(KEY, V6) == expected


def test_a_daemon_of_amneziawg_is_told_too(directory):
    assert say(directory, b"errno=0\n\n", Backend.AMNEZIAWG)


@pytest.mark.parametrize("answer", [b"errno=-22\n\n", b"", b"nonsense", b"errno=0" * 2000])
def test_what_a_daemon_refuses_or_does_not_understand_is_told(directory, answer):
    with pytest.raises(SourceError, match="refuses it"):
        say(directory, answer)


def test_without_its_socket_nothing_is_set(directory):
    with pytest.raises(SourceError, match="its control socket is gone"):
        Setter(kernel().open, {Backend.USERSPACE: (str(directory),)}).set("wg0", Backend.USERSPACE, KEY, V4)


def test_a_daemon_that_hangs_is_given_up(directory, monkeypatch):
    monkeypatch.setattr("wg_exporter.reader.dns.setter.TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(directory / "wg0.sock"))
        hanging.listen()
        with pytest.raises(SourceError, match="does not take it"):
            Setter(kernel().open, {Backend.USERSPACE: (str(directory),)}).set("wg0", Backend.USERSPACE, KEY, V4)
