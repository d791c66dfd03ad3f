"""Packets for a tc program, and how to run it once for one of them without a network (BPF_PROG_TEST_RUN, bpf(2))."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from wg_exporter.linux.bpf import LPM_TRIE, NO_PREALLOC, Bpf
from wg_exporter.linux.errors import SourceError
from wg_exporter.reader.accounting.program import GSO_SEGS, GSO_SIZE

if TYPE_CHECKING:
    from wg_exporter.reader.accounting.counter import DeviceCounter

RUN = 10
UNSPECIFIED = -1  # TC_ACT_UNSPEC: the next filter decides
ETHERNET = 14  # the kernel takes a packet for this with a header that WireGuard's devices have not
TCP, UDP = 6, 17


def bpf() -> Bpf:
    """The calls; skips where this machine does not permit them."""
    calls = Bpf()
    try:
        file = calls.create_map(LPM_TRIE, (8, 4), 1, NO_PREALLOC, "try")
    except SourceError as error:
        pytest.skip(f"BPF: {error}")
    os.close(file)
    return calls


def packet(source: str, target: str, size: int = 0, protocol: int = UDP, options: int = 0) -> bytes:
    """An IP packet with `size` bytes behind its headers; `options` are bytes in that of TCP."""
    v6 = ":" in source
    transport = (
        bytes(12) + bytes([(20 + options) // 4 << 4]) + bytes(7 + options) if protocol == TCP else bytes(8)
    ) + bytes(size)
    if v6:
        header = struct.pack("!IHBB", 6 << 28, len(transport), protocol, 64)
        addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(transport), 0, 0, 64, protocol, 0)
        addresses = socket.inet_aton(source) + socket.inet_aton(target)
    return bytes(12) + struct.pack("!H", 0x86DD if v6 else 0x0800) + header + addresses + transport


def run(calls: Bpf, program: int, data: bytes, *, segments: int = 0, size: int = 0) -> int:
    """Run it for a packet that is so many `segments` of `size` bytes each, as the kernel says; what it returns."""
    return _run(calls, program, data, segments, size, 1)[0]


def nanoseconds(calls: Bpf, program: int, data: bytes, size: int = 0, repeat: int = 500_000) -> int:
    """How long it takes for such a packet, on average."""
    return _run(calls, program, data, 0, size, repeat)[1]


def _run(calls: Bpf, program: int, data: bytes, segments: int, size: int, repeat: int) -> tuple[int, int]:
    context = bytearray(192)
    struct.pack_into("=I", context, GSO_SEGS, segments)
    struct.pack_into("=I", context, GSO_SIZE, size)
    out = ctypes.create_string_buffer(1 << 17)
    given, told = (ctypes.create_string_buffer(bytes(one), len(one)) for one in (data, context))
    sizes = len(data), len(out), ctypes.addressof(given), ctypes.addressof(out)
    attributes = struct.pack("=IIIIQQIIIIQQ", program, 0, *sizes, repeat, 0, len(context), 0, ctypes.addressof(told), 0)
    _result, answer = calls.call(RUN, attributes, "running the program")
    return struct.unpack_from("=i", answer, 4)[0], struct.unpack_from("=I", answer, 36)[0]


def counted(counter: DeviceCounter) -> list[tuple[int, int]]:
    """The packets of each peer: received, sent."""
    return [tuple(row) for row in counter.read()]
