"""Who calls in vain: initiations that arrived, opened with the private key of the device that they are made for.

The key is read for this alone, once for all the messages: from the kernel's dump of the device or from the daemon's
control socket. It is written into one buffer, used, and overwritten there before anything is returned; only callers'
public keys and stamps leave. What that can't promise is as in userspace/secrets.py: the library and the kernel have
copies of their own for as long as they use it.

Only `wg-exporter diagnose` asks for it, as root, and not with --no-decrypt.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from wg_exporter.linux.errors import SourceError
from wg_exporter.linux.netlink import (
    GENERIC,
    NETLINK_GENERIC,
    Families,
    Netlink,
    attribute,
    attributes,
    open_socket,
)
from wg_exporter.model import Backend
from wg_exporter.reader.initiation import open_initiation
from wg_exporter.reader.kernel.dump import KEY_LENGTH, WGDEVICE_A_IFNAME
from wg_exporter.reader.kernel.source import WG_CMD_GET_DEVICE, WG_GENL_VERSION
from wg_exporter.reader.userspace.secrets import overwrite, take_private_key
from wg_exporter.reader.userspace.source import DIRECTORIES, whole_answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from wg_exporter.reader.initiation import Opened

# ruff: noqa: PLC0415 - imported where it is used, as in initiation.py

WGDEVICE_A_PRIVATE_KEY = 3
MOST = 64  # messages that are opened at a time: a tenth of a second


def opened(
    name: str,
    backend: Backend,
    messages: Sequence[bytes],
    *,
    directories: Mapping[Backend, Sequence[str]] = DIRECTORIES,
    netlink: Callable[[int], socket.socket] = open_socket,
) -> list[Opened | None]:
    """What each of these initiations to a device says, None where one can't be opened; those after `MOST` are not.

    A kernel device is looked for in the network namespace of the calling thread. Raises SourceError, whose message
    holds nothing of a key, where the private key can't be had.
    """
    key = bytearray(KEY_LENGTH)
    try:
        if backend is Backend.KERNEL:
            _from_kernel(key, name, netlink)
        elif backend is Backend.USERSPACE:
            _from_daemon(key, name, directories)
        else:
            raise SourceError(f"{name}: handshakes of {backend.value} devices can't be opened")
        if not any(key):
            raise SourceError(f"{name}: whoever runs the device does not tell its private key")
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        private_key = X25519PrivateKey.from_private_bytes(key)
        return [open_initiation(private_key, message) for message in messages[:MOST]]
    finally:
        overwrite(key)


def _from_daemon(key: bytearray, name: str, directories: Mapping[Backend, Sequence[str]]) -> None:
    problem = SourceError(f"{name}: no daemon answers")
    for directory in directories[Backend.USERSPACE]:
        try:
            with whole_answer(Backend.USERSPACE, Path(directory, f"{name}.sock")) as answer:
                take_private_key(key, answer)
                return
        except ValueError as error:
            raise SourceError(f"{name}: {error}") from None
        except SourceError as error:
            problem = error
    raise problem


def _from_kernel(key: bytearray, name: str, netlink: Callable[[int], socket.socket]) -> None:
    generic = Netlink(NETLINK_GENERIC, netlink)
    try:
        family = Families(generic).get("wireguard")
        if family is None:
            raise SourceError("the kernel has no WireGuard")
        request = GENERIC.pack(WG_CMD_GET_DEVICE, WG_GENL_VERSION, 0)
        request += attribute(WGDEVICE_A_IFNAME, name.encode() + b"\0")
        with closing(generic.dump(family, request)) as answers:
            for data, start, end in answers:
                for kind, first, last in attributes(data, start + GENERIC.size, end):
                    if kind == WGDEVICE_A_PRIVATE_KEY and last - first == KEY_LENGTH:
                        # Through a view: a slice would be a copy that nobody overwrites.
                        key[:] = memoryview(data)[first:last]
                        return
    finally:
        generic.close()
