"""Sets the endpoint of a peer, and nothing else: the only place where a device is written to.

`update only` keeps both kinds of device from making a peer that has just been removed. Neither touches what is not in
the request.

Sources: linux/wireguard.h (WG_CMD_SET_DEVICE), https://www.wireguard.com/xplatform/#configuration-protocol
"""

from __future__ import annotations

import socket
import struct
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import GENERIC, NETLINK_GENERIC, Families, Netlink, attribute
from wg_exporter.model import Backend
from wg_exporter.reader.kernel.dump import (
    WGDEVICE_A_IFNAME,
    WGDEVICE_A_PEERS,
    WGPEER_A_FLAGS,
    WGPEER_A_PUBLIC_KEY,
)
from wg_exporter.reader.userspace.source import DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WG_CMD_SET_DEVICE = 1
WG_GENL_VERSION = 1
WGPEER_A_ENDPOINT = 4
WGPEER_F_UPDATE_ONLY = 1 << 2
NLA_F_NESTED = 1 << 15

TIMEOUT = 2.0  # seconds for a daemon to answer
LONGEST = 4096  # bytes of its answer


class Setter:
    """Sets endpoints of devices in the namespace of its thread. Not thread-safe."""

    def __init__(
        self,
        open_socket: Callable[[int], socket.socket] | None = None,
        directories: Mapping[Backend, Sequence[str]] = DIRECTORIES,
    ) -> None:
        self._netlink = Netlink(NETLINK_GENERIC, open_socket) if open_socket else Netlink(NETLINK_GENERIC)
        self._families = Families(self._netlink)
        self._directories = directories

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def set(self, interface: str, backend: Backend, public_key: str, endpoint: str) -> None:
        """Set it. Raises SourceError with the reason in one line if that fails."""
        for directory in self._directories.get(backend, ()):
            path = Path(directory) / f"{interface}.sock"
            if path.is_socket():
                _tell_daemon(path, uapi_request(public_key, endpoint))
                return
        if backend is Backend.USERSPACE:
            raise SourceError("its control socket is gone")
        family = self._families.get("amneziawg" if backend is Backend.AMNEZIAWG else "wireguard")
        if family is None:
            raise SourceError("the kernel knows no such devices any more")
        self._netlink.command(family, netlink_request(interface, public_key, endpoint))


def netlink_request(interface: str, public_key: str, endpoint: str) -> bytes:
    """The payload of a generic netlink message that sets the endpoint of one peer."""
    peer = attribute(WGPEER_A_PUBLIC_KEY, b64decode(public_key))
    peer += attribute(WGPEER_A_FLAGS, struct.pack("=I", WGPEER_F_UPDATE_ONLY))
    peer += attribute(WGPEER_A_ENDPOINT, sockaddr(endpoint))
    peers = attribute(NLA_F_NESTED | WGDEVICE_A_PEERS, attribute(NLA_F_NESTED, peer))
    name = attribute(WGDEVICE_A_IFNAME, interface.encode() + b"\0")
    return GENERIC.pack(WG_CMD_SET_DEVICE, WG_GENL_VERSION, 0) + name + peers


def uapi_request(public_key: str, endpoint: str) -> bytes:
    """What a daemon is told to set the endpoint of one peer."""
    key = b64decode(public_key).hex()
    return f"set=1\npublic_key={key}\nupdate_only=true\nendpoint={endpoint}\n\n".encode()


def sockaddr(endpoint: str) -> bytes:
    """A struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)) for `address:port`, without a zone."""
    host, _, port = endpoint.rpartition(":")
    number = int(port).to_bytes(2, "big")
    if host.startswith("["):
        address = socket.inet_pton(socket.AF_INET6, host.strip("[]"))
        return struct.pack("=H2sI16sI", socket.AF_INET6, number, 0, address, 0)
    return struct.pack("=H2s4s8x", socket.AF_INET, number, socket.inet_pton(socket.AF_INET, host))


def _tell_daemon(path: Path, request: bytes) -> None:
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
            talk.settimeout(TIMEOUT)
            talk.connect(str(path))
            talk.sendall(request)
            while b"\n\n" not in answer and len(answer) < LONGEST and (more := talk.recv(LONGEST)):
                answer += more
    except OSError as error:
        raise SourceError(f"its daemon does not take it: {error.strerror or error}") from None
    if answer.strip() != b"errno=0":
        raise SourceError("its daemon refuses it")
