"""A DNS server of the test's own, in a namespace: it says what it is told to, sensible or not.

    with dns_server(hub, "192.0.2.53") as dns, resolv_conf(spoke, "192.0.2.53"):
        dns.names["vpn.test"] = ["192.0.2.1", "2001:db8::1"]

Whatever runs in the namespace `spoke` asks it then: ip-netns(8) puts the files of /etc/netns/NAME over those of /etc.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import socket
import struct
import threading
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import CLONE_NEWNET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Namespace

A, AAAA = 1, 28
NXDOMAIN, SERVFAIL, REFUSED, SILENT, GARBAGE, CUT = "NXDOMAIN", "SERVFAIL", "REFUSED", "silent", "garbage", "cut"
_CODES = {SERVFAIL: 2, NXDOMAIN: 3, REFUSED: 5}
ETC = Path("/etc/netns")


class DnsServer:
    """`names` has what is said of each name: addresses, or one of the words above; of all others, NXDOMAIN."""

    def __init__(self) -> None:
        self.names: dict[str, list[str] | str] = {}
        self.asked: list[tuple[str, int]] = []

    def answer(self, query: bytes) -> bytes | None:
        """The answer to a query (RFC 1035), None = none."""
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode("latin-1"))
            at += 1 + size
        name, kind = ".".join(labels).lower(), int.from_bytes(query[at + 1 : at + 3], "big")
        self.asked.append((name, kind))
        what = self.names.get(name, NXDOMAIN)
        if what == SILENT:
            return None
        if what == GARBAGE:
            return query[:2] + bytes(range(256)) * 2
        question = query[12 : at + 5]
        if what == CUT:  # an answer that says that it has 40,000 records, and ends in the first
            return query[:2] + struct.pack("!5H", 0x8180, 1, 40_000, 0, 0) + question + b"\xc0\x0c\0\1"
        if isinstance(what, str):
            return query[:2] + struct.pack("!5H", 0x8180 | _CODES[what], 1, 0, 0, 0) + question
        found = [ip_address(one).packed for one in what]
        found = [raw for raw in found if len(raw) == {A: 4, AAAA: 16}.get(kind)]
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(raw)) + raw for raw in found)
        return query[:2] + struct.pack("!5H", 0x8180, 1, len(found), 0, 0) + question + records


@contextlib.contextmanager
def dns_server(namespace: Namespace, address: str) -> Iterator[DnsServer]:
    """One that answers at this address of the namespace, over UDP."""
    server, ready, stopping = DnsServer(), threading.Event(), threading.Event()

    def serve() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", namespace.name).open() as file:
            assert libc.setns(file.fileno(), CLONE_NEWNET) == 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 53))
            sock.settimeout(0.05)
            ready.set()
            while not stopping.is_set():
                with contextlib.suppress(TimeoutError, IndexError):
                    query, sender = sock.recvfrom(4096)
                    if (reply := server.answer(query)) is not None:
                        sock.sendto(reply, sender)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        stopping.set()
        thread.join(30)


@contextlib.contextmanager
def resolv_conf(namespace: Namespace, *servers: str) -> Iterator[Path]:
    """The resolv.conf of the namespace, with a second for each of these servers; written to, it holds at once."""
    directory = ETC / namespace.name
    directory.mkdir(parents=True)
    try:
        (directory / "nsswitch.conf").write_text("hosts: files dns\n")
        path = directory / "resolv.conf"
        path.write_text(servers_text(*servers))
        yield path
    finally:
        shutil.rmtree(directory)


def servers_text(*servers: str) -> str:
    """What such a file says."""
    return "".join(f"nameserver {one}\n" for one in servers) + "options timeout:1 attempts:1\n"
